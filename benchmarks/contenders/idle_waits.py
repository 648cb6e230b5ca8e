"""Open waits of aiobatch that have nothing to do."""

from __future__ import annotations

import asyncio
import gc
import time

from aiobatch import App, AudienceClient, IndexingToken, PollingPolicy
from aiobatch.interfaces import Request, Response

from ..measure.processes import Measures
from ..measure.resources import Stopwatch, read_status
from ..workload.ids import API_KEY, REST_API_KEY

_PENDING = Response(status=200, body=b'{"indexing_state":"IN_PROGRESS"}')
# Seconds of CPU.
_QUIET = 0.02
# After the first polls, no token is due for longer than the measurement takes.
_RARELY = PollingPolicy(minimum=3_600, maximum=3_600, timeout=None, in_flight=1_000, rate=1e6)


class _Pending:
    """A transport that answers each poll at once."""

    async def send(self, request: Request) -> Response:  # noqa: ARG002 - each one is a poll
        """Answer that the token is pending."""
        return _PENDING

    async def aclose(self) -> None:
        """Do nothing."""


async def _settle() -> None:
    """Return once the first polls are over: half a second took almost no CPU. Give up after a minute."""
    for _ in range(120):
        before = time.process_time()
        await asyncio.sleep(0.5)
        if time.process_time() - before < _QUIET:
            return


async def hold(waits: int, seconds: float) -> Measures:
    """Open waits, each for a token of its own audience. Measure them once the first polls are over.

    Args:
        waits: The number of waits.
        seconds: The duration of the measurement.
    """
    app = App(rest_api_key=REST_API_KEY, api_key=API_KEY)  # 1.x, because no list is due either
    async with AudienceClient(app, transport=_Pending(), polling=_RARELY) as client:
        tokens = [IndexingToken(f"a{number}", f"t{number}") for number in range(waits)]
        gc.collect()
        before = read_status("VmRSS")
        tasks = [asyncio.create_task(client.await_applied(token)) for token in tokens]
        await _settle()
        gc.collect()
        after = read_status("VmRSS")
        watch = Stopwatch()
        await asyncio.sleep(seconds)
        spent = watch.read()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    memory = {} if before is None or after is None else {"bytes": (after - before) / waits}
    return {"share": 100 * spent["cpu"] / spent["seconds"], **memory}
