"""Scenarios of the client: views, uploads, import."""

from __future__ import annotations

import os
import subprocess
import sys

import attrs

from ..contenders import aiobatch_client, by_hand
from ..measure.processes import ROOT, run_in_subprocess, running_server
from ..results.rows import Baseline, Row, Target, column, make_row

_LOOP = "aiohttp + orjson by hand"


@attrs.frozen(kw_only=True)
class ViewMany:
    """Views, beside a hand-written loop and httpx.

    Attributes:
        views: The number of views of aiobatch and the loop.
        views_httpx: The number of views of httpx, which is slower.
        concurrency: The number of views at once.
    """

    rounds: int = 7
    views: int = 10_000
    views_httpx: int = 2_000
    concurrency: int = 50

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure requests per second."""
        aiobatch, loop, slow = [], [], []
        with running_server() as url:
            for _ in range(rounds):
                common = {"url": url, "concurrency": self.concurrency}
                aiobatch.append(run_in_subprocess(aiobatch_client.view_many, views=self.views, **common))
                loop.append(run_in_subprocess(by_hand.view_many, views=self.views, **common))
                slow.append(run_in_subprocess(by_hand.view_many_httpx, views=self.views_httpx, **common))
        rates = column(aiobatch, "rate")
        loop_rates, httpx = (
            Baseline(name=_LOOP, values=column(loop, "rate")),
            Baseline(name="httpx", values=column(slow, "rate")),
        )
        what = f"{self.views:,} views, {self.concurrency} at once, requests/s"
        cpu = Baseline(name=_LOOP, values=column(loop, "cpu"))
        return [
            make_row(name, what, rates, loop_rates, Target(sign=">=", bound=0.95, of="ratio")),
            make_row(name, what, rates, httpx, Target(sign=">=", bound=5, of="ratio")),
            make_row(name, "the client's CPU, seconds", column(aiobatch, "cpu"), cpu),
            make_row(name, "the server's CPU, seconds", column(aiobatch, "server_cpu")),
        ]


@attrs.frozen(kw_only=True)
class Upload:
    """An upload from a generator, beside a hand-written loop.

    Attributes:
        ids: The number of IDs.
        in_flight: The number of chunks at once in the loop, which is also aiobatch's default.
    """

    rounds: int = 7
    ids: int = 1_000_000
    in_flight: int = 8

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure IDs per second and memory, for IDs in random order and in order."""
        rows = self._measure(name, rounds, in_order=False)
        return rows + self._measure(name, rounds, in_order=True)

    def _measure(self, name: str, rounds: int, *, in_order: bool) -> list[Row]:
        kind, least = ("in order", 1.0) if in_order else ("in random order", 0.95)
        aiobatch, loop = [], []
        with running_server() as url:
            for _ in range(rounds):
                common = {"url": url, "count": self.ids, "in_order": in_order}
                aiobatch.append(run_in_subprocess(aiobatch_client.upload, **common))
                loop.append(run_in_subprocess(by_hand.upload, in_flight=self.in_flight, **common))
        rows = [
            ("rate", f"{self.ids:,} IDs {kind}, IDs/s", Target(sign=">=", bound=least, of="ratio")),
            ("grown", "memory growth of the client, bytes", Target(sign="<=", bound=25_000_000)),
            ("cpu", "the client's CPU, seconds", None),
        ]
        return [
            make_row(
                name, what, column(aiobatch, key), Baseline(name=_LOOP, values=column(loop, key)), target
            )
            for key, what, target in rows
        ]


@attrs.frozen(kw_only=True)
class Import:
    """The import, in fresh interpreters."""

    rounds: int = 21

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure seconds. The first import of each fills the caches and does not count."""
        client = "from aiobatch import AudienceClient"  # aiobatch imports its names when they are used
        for statement in (client, "import aiohttp"):
            _import_seconds(statement)
        aiobatch, aiohttp = [], []
        for _ in range(rounds):
            aiobatch.append(_import_seconds(client))
            aiohttp.append(_import_seconds("import aiohttp"))
        baseline = Baseline(name="import aiohttp", values=aiohttp)
        return [
            make_row(
                name, "import aiobatch, seconds", aiobatch, baseline, Target(sign="<=", bound=1.1, of="ratio")
            )
        ]


def _import_seconds(statement: str) -> float:
    """Run an import in a fresh interpreter and return the seconds that it took."""
    code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}  # or each import would compile again
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)  # noqa: S603 - this interpreter
    return float(done.stdout)
