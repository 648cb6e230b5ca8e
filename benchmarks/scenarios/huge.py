"""Scenarios of more IDs than fit into memory: a load, a sync without changes, and one with 1 % of changes."""

from __future__ import annotations

import shutil
from typing import Final

import attrs

from ..contenders import aiobatch_sync
from ..measure.job import run_as_job
from ..measure.processes import Measures
from ..measure.resources import check
from ..results.rows import Row, Target, make_rows
from ..results.scenario import Scenario
from ..servers.sync_stub import running_sync_stub
from ..workload.id_files import changed, ids_file
from .sync import new_state, size_of

_CHUNK: Final = 10_000
_HUNDRED_MILLION: Final = 100_000_000
_TWENTY_MILLION: Final = 20_000_000
_JOBS: Final = ("load", "nothing", "delta")
_TITLES: Final = {
    "load": "for the first time",
    "nothing": "nothing changed",
    "delta": "1 % added and removed",
}
_DELTA_SECONDS: Final = 150.0
_NOTHING_SECONDS: Final = 75.0
_PEAK: Final = 1e9
_LITTLE_PEAK: Final = 400e6
_MOST_SLOWDOWN: Final = 1.5


@attrs.frozen(kw_only=True)
class Huge:
    """A load, a sync without changes and one with 1 % of changes, from the state before each.

    Attributes:
        ids: The number of IDs.
    """

    rounds: int = 1
    ids: int = _HUNDRED_MILLION

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure seconds, memory and calls of each job, and the size of the state."""
        measured = [run_jobs(self.ids, f"{name}-{number}") for number in range(rounds)]
        full = self.ids == _HUNDRED_MILLION
        seconds = {"delta": _DELTA_SECONDS, "nothing": _NOTHING_SECONDS} if full else {}
        rows: list[Row] = []
        for job in _JOBS:
            most = seconds.get(job)
            shown = [
                ("seconds", "seconds", None if most is None else Target(sign="<=", bound=most)),
                ("peak", "peak bytes", Target(sign="<=", bound=_PEAK) if full else None),
                ("calls", "write calls", Target(sign="<=", bound=calls_of(job, self.ids))),
                ("reading", "of which reading, seconds", None),
                ("planning", "of which planning, seconds", None),
                ("cpu", "the client's CPU, seconds", None),
                ("state", "bytes of the state afterwards", None),
                ("spilled", "most bytes spilled beside it", None),
                ("load", "load average before", None),
            ]
            title = f"{self.ids:,} IDs, {_TITLES[job]}"
            shown = [(key, f"{title}, {what}", target) for key, what, target in shown]
            rows += make_rows(name, [jobs[job] for jobs in measured], shown)
        return rows


@attrs.frozen(kw_only=True)
class LittleMemory:
    """The same jobs with the smallest memory limit, beside the default one.

    Attributes:
        ids: The number of IDs.
        memory: The memory limit.
    """

    rounds: int = 1
    ids: int = _TWENTY_MILLION
    memory: str = "100MB"

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure seconds and memory of each job, and how much longer it takes than by default."""
        little = [run_jobs(self.ids, f"{name}-{number}", memory=self.memory) for number in range(rounds)]
        default = [run_jobs(self.ids, f"{name}-{number}") for number in range(rounds)]
        full = self.ids == _TWENTY_MILLION
        rows: list[Row] = []
        for job in _JOBS:
            measured = [
                {**jobs[job], "slowdown": jobs[job]["seconds"] / others[job]["seconds"]}
                for jobs, others in zip(little, default, strict=True)
            ]
            title = f"{self.ids:,} IDs with {self.memory}, {_TITLES[job]}"
            shown = [
                ("seconds", f"{title}, seconds", None),
                (
                    "slowdown",
                    f"{title}, times the seconds of the default limit",
                    Target(sign="<=", bound=_MOST_SLOWDOWN) if full else None,
                ),
                (
                    "peak",
                    f"{title}, peak bytes",
                    Target(sign="<=", bound=_LITTLE_PEAK) if full else None,
                ),
                ("load", f"{title}, load average before", None),
            ]
            rows += make_rows(name, measured, shown)
        return rows


def run_jobs(ids: int, name: str, *, memory: str | None = None) -> dict[str, Measures]:
    """Load an audience, and sync it without and with changes. Return the measures of each job.

    Args:
        ids: The number of IDs.
        name: The name of the state's directory.
        memory: The memory limit. None for the default.
    """
    state = new_state(name)
    before, after = ids_file(0, ids), ids_file(changed(ids), ids + changed(ids))
    measured: dict[str, Measures] = {}
    try:
        for job in _JOBS:
            source = after if job == "delta" else before
            order = {"members": 0 if job == "load" else ids}
            with running_sync_stub() as url:
                measured[job] = run_as_job(
                    aiobatch_sync.sync,
                    url=url,
                    order=order,
                    source=str(source),
                    state=str(state),
                    memory=memory,
                )
            check("write calls", measured[job]["calls"], calls_of(job, ids))
            measured[job]["state"] = size_of(state)
    finally:
        shutil.rmtree(state.parent)
    return measured


def calls_of(job: str, ids: int) -> int:
    """Return the fewest write calls of a job."""
    return -(-{"load": ids, "nothing": 0, "delta": 2 * changed(ids)}[job] // _CHUNK)


def huge_scenarios(ids: int | None = None) -> dict[str, Scenario]:
    """Return the scenarios by name.

    Args:
        ids: The number of IDs of each. None for the number that the targets are for.
    """
    return {
        "sync_huge": Huge(ids=ids or _HUNDRED_MILLION),
        "sync_little_memory": LittleMemory(ids=ids or _TWENTY_MILLION),
    }
