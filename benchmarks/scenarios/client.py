"""Scenarios of the client: views, uploads, its import."""

from __future__ import annotations

import os
import subprocess
import sys

import attrs

from ..contenders import aiobatch_client as _ours
from ..contenders import by_hand as _rivals
from ..measure.processes import ROOT, run_apart, running_server
from ..results.rows import Rival, Row, Target, column, make_row

_LOOP = "aiohttp + orjson by hand"


@attrs.frozen(kw_only=True)
class ViewMany:
    """Views against a local server, beside the same by hand.

    Attributes:
        views: How many of ours, and by hand.
        views_httpx: How many with httpx, which is slower.
        concurrency: Views at once.
    """

    rounds: int = 7
    views: int = 10_000
    views_httpx: int = 2_000
    concurrency: int = 50

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure requests per second."""
        ours, loop, slow = [], [], []
        with running_server() as url:
            for _ in range(rounds):
                common = {"url": url, "concurrency": self.concurrency}
                ours.append(run_apart(_ours.view_many, views=self.views, **common))
                loop.append(run_apart(_rivals.view_many, views=self.views, **common))
                slow.append(run_apart(_rivals.view_many_httpx, views=self.views_httpx, **common))
        rates = column(ours, "rate")
        by_hand, httpx = (
            Rival(name=_LOOP, values=column(loop, "rate")),
            Rival(name="httpx", values=column(slow, "rate")),
        )
        what = f"{self.views:,} views, {self.concurrency} at once, requests/s"
        cpu = Rival(name=_LOOP, values=column(loop, "cpu"))
        return [
            make_row(name, what, rates, by_hand, Target(sign=">=", bound=0.85, of="ratio")),
            make_row(name, what, rates, httpx, Target(sign=">=", bound=5, of="ratio")),
            make_row(name, "the client's CPU, seconds", column(ours, "cpu"), cpu),
            make_row(name, "the server's CPU meanwhile, seconds", column(ours, "server_cpu")),
        ]


@attrs.frozen(kw_only=True)
class Upload:
    """An upload out of a generator, beside the same by hand.

    Attributes:
        ids: How many.
        in_flight: Chunks at once, by hand; ours has this as its default.
    """

    rounds: int = 7
    ids: int = 1_000_000
    in_flight: int = 8

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure ids per second, and memory, of ids in no order and of ids in order."""
        rows = self._measure(name, rounds, "in no order", in_order=False)
        return rows + self._measure(name, rounds, "in order", in_order=True)

    def _measure(self, name: str, rounds: int, kind: str, *, in_order: bool) -> list[Row]:
        """Measure one kind of ids."""
        ours, loop = [], []
        with running_server() as url:
            for _ in range(rounds):
                common = {"url": url, "count": self.ids, "in_order": in_order}
                ours.append(run_apart(_ours.upload, **common))
                loop.append(run_apart(_rivals.upload, in_flight=self.in_flight, **common))
        rows = [
            ("rate", f"{self.ids:,} ids {kind}, ids/s", Target(sign=">=", bound=0.85, of="ratio")),
            ("grown", "the client grows by, bytes", Target(sign="<=", bound=50_000_000)),
            ("cpu", "the client's CPU, seconds", None),
        ]
        return [
            make_row(name, what, column(ours, key), Rival(name=_LOOP, values=column(loop, key)), target)
            for key, what, target in rows
        ]


@attrs.frozen(kw_only=True)
class Import:
    """The import, in fresh interpreters."""

    rounds: int = 21

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure seconds; the first two fill the caches and do not count."""
        for module in ("aiobatch", "aiohttp"):
            _import_seconds(module)
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(_import_seconds("aiobatch"))
            theirs.append(_import_seconds("aiohttp"))
        rival = Rival(name="import aiohttp", values=theirs)
        return [
            make_row(name, "import aiobatch, seconds", ours, rival, Target(sign="<=", bound=1.4, of="ratio"))
        ]


def _import_seconds(module: str) -> float:
    """Import *module* in a fresh interpreter and return the seconds that it took."""
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}  # or each import would compile anew
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)  # noqa: S603 - this interpreter
    return float(done.stdout)
