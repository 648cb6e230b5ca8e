"""The scenario of a config of many small audiences."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import attrs
import orjson

from ..contenders import calls_by_hand
from ..measure.job import read_calls, run_as_job
from ..measure.processes import ROOT, Measures
from ..measure.resources import check
from ..measure.server_control import begin
from ..results.rows import Baseline, Row, Target, column, make_row, make_rows
from ..servers.sync_stub import SyncOrder, running_sync_stub
from ..workload.id_files import ids_file
from ..workload.ids import PROJECT_KEY, REST_API_KEY, names

_FULL: Final = 500
_CALLS: Final = "aiohttp + orjson, the calls alone"


@attrs.frozen(kw_only=True)
class ManyAudiences:
    """`aiobatch run` of a config of many audiences, from nothing, beside the calls alone.

    Attributes:
        audiences: The number of audiences. With fewer than 500 there are no targets.
        ids: The IDs of each.
        jobs: Audiences at the same time.
    """

    rounds: int = 3
    audiences: int = _FULL
    ids: int = 2_000
    jobs: int = 4

    @property
    def targets(self) -> dict[str, Target]:
        """The targets of the seconds, and of the CPU of each audience in ms, at full size."""
        if self.audiences != _FULL:
            return {}
        return {
            "seconds": Target(sign="<=", bound=1.2, of="ratio"),
            "each": Target(sign="<=", bound=25),
        }

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure both sides in turns."""
        mine: list[Measures] = []
        calls: list[Measures] = []
        with running_sync_stub() as url:
            for _ in range(rounds):
                mine.append(self._run_config(url))
                calls.append(self._make_calls(url))
        beside = Baseline(name=_CALLS, values=column(calls, "seconds"))
        what = f"{self.audiences:,} audiences of {self.ids:,} IDs, seconds"
        shown = [
            ("each", "CPU per audience, ms", self.targets.get("each")),
            ("calls", "write calls", Target(sign="<=", bound=self.audiences)),
            ("requests", "requests", None),
            ("load", "load average before", None),
        ]
        by_hand = make_row(name, "the calls' CPU per audience, ms", column(calls, "each"))
        return [
            make_row(name, what, column(mine, "seconds"), beside, self.targets.get("seconds")),
            *make_rows(name, mine, shown),
            by_hand,
        ]

    def _sources(self) -> dict[str, str]:
        """Return the file of each audience, by name."""
        starts = (number * self.ids for number in range(self.audiences))
        files = (str(ids_file(start, start + self.ids, "csv")) for start in starts)
        return dict(zip(names(self.audiences), files, strict=True))

    def _run_config(self, url: str) -> Measures:
        """Run a config with a new state, and measure the process."""
        sources = self._sources()
        begin(url, SyncOrder())
        with tempfile.TemporaryDirectory(prefix="aiobatch-benchmarks-") as directory:
            config = Path(directory) / "aiobatch.toml"
            tables = (
                f"[audiences.{name}]\nsource = {orjson.dumps(file).decode()}\n"
                for name, file in sources.items()
            )
            config.write_text(f"[defaults]\njobs = {self.jobs}\n\n" + "\n".join(tables))
            measures = _run(["-m", "aiobatch", "run", str(config)], url, directory)
        calls = read_calls(url, "update")
        check("members", calls["members"], self.audiences * self.ids)
        return {**measures, **calls, "each": 1000 * measures["cpu"] / self.audiences}

    def _make_calls(self, url: str) -> Measures:
        """Make the same calls by hand."""
        begin(url, SyncOrder())
        measures = run_as_job(calls_by_hand.update_each, url=url, sources=self._sources(), jobs=self.jobs)
        check("members", measures["members"], self.audiences * self.ids)
        return {**measures, "each": 1000 * measures["cpu"] / self.audiences}


def _run(arguments: list[str], url: str, home: str) -> Measures:
    """Run a fresh interpreter to its end. Return the seconds and the CPU seconds of its process."""
    own = {"BATCH_BASE_URL": url, "BATCH_REST_API_KEY": REST_API_KEY, "BATCH_PROJECT_KEY": PROJECT_KEY}
    environment = {**os.environ, **own, "HOME": home, "XDG_DATA_HOME": home}
    load, before, started = os.getloadavg()[0], _cpu_of_children(), time.perf_counter()
    subprocess.run(  # noqa: S603 - this interpreter
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, check=True
    )
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "cpu": _cpu_of_children() - before, "load": load}


def _cpu_of_children() -> float:
    """Return the CPU seconds of all processes that this one has waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
