"""The scenario of one rate limit for several processes, which a server in its own process enforces."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any, Final

import attrs
import orjson

from aiobatch import (
    App,
    AudienceClient,
    AudienceNotFoundError,
    Event,
    Limits,
    RequestFinished,
    RetryPolicy,
)
from aiobatch.sandbox import API_KEY, REST_API_KEY

from ..measure.processes import ROOT
from ..results.comparison import Comparison, ComparisonLine
from ..results.rows import Row, Target

_SERVER: Final = "benchmarks.servers.limited"
_CLIENT: Final = "benchmarks.scenarios.shared_limit"
_COLUMNS: Final = ("used, %", "429", "most calls above fewest, %", "p95 of a call, s")
_TARGETS: Final = (Target(sign=">=", bound=97), Target(sign="<=", bound=0), Target(sign="<=", bound=10))
_ACCEPTED: Final = 404  # the audiences do not exist


@attrs.frozen(kw_only=True)
class SharedLimit:
    """Processes that always have a request, with a shared limit and without.

    Attributes:
        processes: The number of processes.
        workers: The concurrent calls of each.
        rate: The limit in requests per second.
        seconds: How long all of them send.
    """

    rounds: int = 1
    processes: int = 8
    workers: int = 4
    rate: float = 5.0
    seconds: float = 60.0

    def run(self, name: str, rounds: int) -> list[Comparison]:
        """Measure use, refusals and fairness, each with a limit of all and with one of each process."""
        lines = [
            ComparisonLine(name=who, runs=rounds, values=self._measure(rounds, is_shared=is_shared))
            for who, is_shared in (("Limits(rate, shared=True)", True), ("Limits(rate)", False))
        ]
        values = lines[0].values
        return [
            Comparison(
                scenario=name,
                what=f"{self.processes} processes with {self.workers} calls each, {self.rate:g} requests/s",
                columns=_COLUMNS,
                lines=tuple(lines),
                target_rows=tuple(
                    Row(scenario=name, what=f"shared limit: {what}", value=value, target=target)
                    for what, value, target in zip(_COLUMNS, values, _TARGETS, strict=False)
                ),
            )
        ]

    def _measure(self, rounds: int, *, is_shared: bool) -> tuple[float, ...]:
        """Return the medians of all rounds."""
        measured = [asyncio.run(self._round(is_shared=is_shared)) for _ in range(rounds)]
        return tuple(statistics.median(values) for values in zip(*measured, strict=True))

    async def _round(self, *, is_shared: bool) -> tuple[float, ...]:
        """Run the server and all clients once."""
        with tempfile.TemporaryDirectory(prefix="aiobatch-benchmarks-") as directory:
            server = await _start(_SERVER, str(self.rate))
            assert server.stdout is not None  # noqa: S101 - asked for in `_start`
            order = {
                "port": int(await server.stdout.readline()),
                "rate": self.rate,
                "shared": directory if is_shared else None,
                "workers": self.workers,
                "seconds": self.seconds,
            }
            clients = [await _start(_CLIENT) for _ in range(self.processes)]
            for client in clients:  # all are started before the first one sends
                assert client.stdout is not None  # noqa: S101 - as above
                await client.stdout.readline()
            begin = time.time() + 0.2
            orders = (
                orjson.dumps(order | {"name": f"p{number}", "begin": begin})
                for number in range(self.processes)
            )
            ends = await asyncio.gather(
                *(client.communicate(job) for client, job in zip(clients, orders, strict=True))
            )
            counts = orjson.loads((await server.communicate(b""))[0])
        reports = [orjson.loads(output) for output, _ in ends]
        return self._summarize(counts, reports)

    def _summarize(
        self, counts: dict[str, dict[str, int]], reports: Sequence[dict[str, Any]]
    ) -> tuple[float, ...]:
        """Return a line of the table."""
        accepted = [counts["accepted"].get(f"p{number}", 0) for number in range(self.processes)]
        spread = 100 * (max(accepted) / max(1, min(accepted)) - 1)
        # The first request starts the time, so it is not one that fits into it.
        times = sorted(when for report in reports for when in report["times"])
        used = 100 * (len(times) - 1) / (self.rate * (times[-1] - times[0]))
        waits = sorted(wait for report in reports for wait in report["waits"])
        return used, sum(counts["refused"].values()), spread, waits[int(0.95 * (len(waits) - 1))]


async def _start(module: str, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


async def _send(order: dict[str, Any]) -> dict[str, list[float]]:
    """Send with all workers for the ordered time. Return when calls were accepted and how long they took."""
    times: list[float] = []
    waits: list[float] = []

    def on_event(event: Event) -> None:
        if isinstance(event, RequestFinished) and event.status == _ACCEPTED:
            times.append(time.time())

    async def call(client: AudienceClient) -> None:
        while True:
            started = time.monotonic()
            try:
                await client.view(order["name"])
            except AudienceNotFoundError:
                waits.append(time.monotonic() - started)

    client = AudienceClient(
        App(rest_api_key=REST_API_KEY, api_key=API_KEY),
        base_url=f"http://127.0.0.1:{order['port']}",
        limits=Limits(rate=order["rate"], shared=order["shared"] or False),
        retry=RetryPolicy(attempts=1000, timeout=600.0),
        on_event=on_event,
    )
    async with client:
        await asyncio.sleep(order["begin"] - time.time())
        calls = [asyncio.create_task(call(client)) for _ in range(order["workers"])]
        await asyncio.sleep(order["seconds"])
        for one in calls:
            one.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    return {"times": times, "waits": waits}


if __name__ == "__main__":
    print(flush=True)
    sys.stdout.buffer.write(orjson.dumps(asyncio.run(_send(orjson.loads(sys.stdin.buffer.read())))))
