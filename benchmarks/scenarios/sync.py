"""Scenarios of the sync engine as a job: each side is measured as a whole process.

With fewer IDs than the targets are for, there are no targets for seconds and bytes.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Final

import attrs

from ..contenders import aiobatch_sync, duckdb_scan, sync_by_hand
from ..measure.job import run_as_job
from ..measure.processes import Measures
from ..measure.resources import check
from ..results.rows import Baseline, Row, Target, make_row, make_rows
from ..results.scenario import Scenario
from ..servers.sync_stub import running_sync_stub
from ..workload.id_files import changed, ids_file

_CHUNK: Final = 10_000
_GIGABYTE: Final = 1e9
_PEAK: Final = 0.7e9
_SCAN: Final = "DuckDB counts the distinct IDs"
_LOOP: Final = "requests + csv + json, replace, then patch"
_TEN_MILLION: Final = 10_000_000
_BILLION: Final = 1_000_000_000
_PLAN_MEASURES: Final = {
    "peak": "peak bytes",
    "seconds": "seconds",
    "cpu": "the client's CPU, seconds",
    "state": "bytes of the state",
    "spilled": "most bytes spilled beside it",
}
_PHASES: Final = ("reading", "planning", "creating", "sending", "waiting", "checking")


@attrs.frozen(kw_only=True)
class Load:
    """The first load of an audience.

    Attributes:
        ids: The number of IDs.
    """

    rounds: int = 1
    ids: int = _TEN_MILLION

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure seconds and memory. Other scenarios use the state of the first round."""
        source = ids_file(0, self.ids)
        measured = [_first_load(self.ids, number)[0] | _scan(source) for number in range(rounds)]
        what, calls = f"{self.ids:,} IDs for the first time", -(-self.ids // _CHUNK)
        return _job_rows(name, what, measured, calls=calls, most=_most(self.ids, 40, scans=4))


@attrs.frozen(kw_only=True)
class RepeatedSync:
    """A later sync of a loaded audience.

    Attributes:
        ids: The number of IDs.
        changed: The number of IDs that differ from before.
        seconds: The target in seconds at full size.
        scans: The target in times of a scan at full size.
    """

    rounds: int = 1
    ids: int = _TEN_MILLION
    changed: int
    seconds: float
    scans: float

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure seconds and memory, each time from the same state."""
        measured = [self._measure(name, number) for number in range(rounds)]
        what = (
            f"{self.ids:,} IDs again, {self.changed:,} added and removed"
            if self.changed
            else "nothing changed"
        )
        calls = -(-2 * self.changed // _CHUNK)
        most = _most(self.ids, self.seconds, scans=self.scans)
        return _job_rows(name, what, measured, calls=calls, most=most)

    def _measure(self, name: str, number: int) -> Measures:
        """Sync with a copy of the state."""
        source = ids_file(self.changed, self.ids + self.changed)
        state = _copy(_first_load(self.ids, 0)[1], f"{name}-{number}")
        with running_sync_stub() as url:
            order = {"members": self.ids}
            measures = run_as_job(
                aiobatch_sync.sync, url=url, order=order, source=str(source), state=str(state)
            )
        check("adds", measures["adds"], self.changed)
        check("removes", measures["removes"], self.changed)
        shutil.rmtree(state.parent)
        return measures | _scan(source)


@attrs.frozen(kw_only=True)
class Rate:
    """A first load against a server with a low rate limit that the client knows.

    Attributes:
        chunks: The number of calls.
        chunk: The number of IDs of a call.
        rate: The limit in requests per second.
    """

    rounds: int = 1
    chunks: int = 100
    chunk: int = 100
    rate: float = 5.0

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure the used share of the limit and the share of 429."""
        measured = [self._measure(number) for number in range(rounds)]
        used = f"{self.chunks:,} calls at {self.rate:g} requests/s: used share of the limit, %"
        rows = [
            ("used", used, Target(sign=">=", bound=97)),
            ("too_many_share", "share of 429, %", Target(sign="<=", bound=0.99)),
            ("requests", "requests", None),
            ("calls", "of which write calls", None),
            ("span", "seconds from the first request to the last", None),
            ("load", "load average before", None),
        ]
        return make_rows(name, measured, rows)

    def _measure(self, number: int) -> Measures:
        """Sync from nothing."""
        source = ids_file(0, self.chunks * self.chunk)
        state = new_state(f"rate-{number}")
        with running_sync_stub() as url:
            arguments = {"source": str(source), "state": str(state), "rate": self.rate, "chunk": self.chunk}
            measures = run_as_job(aiobatch_sync.sync, url=url, order={"rate": self.rate}, **arguments)
        admitted, refused = measures["admitted"], measures["too_many"]
        # The first request is sent at once. Each other one waits for its interval.
        used = 100 * (admitted - 1) / (self.rate * measures["span"])
        return {**measures, "used": used, "too_many_share": 100 * refused / (admitted + refused)}


@attrs.frozen(kw_only=True)
class PlanOnly:
    """Plans of growing size with 1 % changes, extrapolated from the two largest.

    Attributes:
        ids: The largest number of IDs.
        shares: The sizes as shares of it.
        extrapolated: The extrapolated number of IDs.
    """

    rounds: int = 1
    ids: int = 2 * _TEN_MILLION
    shares: tuple[float, ...] = (0.05, 0.25, 0.5, 1.0)
    extrapolated: int = 10 * _TEN_MILLION

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure memory and seconds by the number of IDs."""
        sizes = [round(self.ids * share) for share in self.shares]
        curves = [{ids: self._measure(ids, number) for ids in sizes} for number in range(rounds)]
        rows = [
            make_row(name, f"{ids:,} IDs, {what}", [curve[ids][key] for curve in curves])
            for ids in sizes
            for key, what in _PLAN_MEASURES.items()
        ]
        target = _target_at_full_size(Target(sign="<=", bound=2.5 * _GIGABYTE), self.ids, 2 * _TEN_MILLION)
        extrapolated = [
            make_row(
                name,
                f"{self.extrapolated:,} IDs, extrapolated from the last two, {what}",
                [
                    extrapolate([(ids, one[key]) for ids, one in curve.items()], self.extrapolated)
                    for curve in curves
                ],
                None,
                target if key == "peak" else None,
            )
            for key, what in _PLAN_MEASURES.items()
        ]
        load = make_row(name, "load average before", [curve[sizes[0]]["load"] for curve in curves])
        return [*rows, *extrapolated, load]

    def _measure(self, ids: int, number: int) -> Measures:
        """Adopt an audience, and plan."""
        before, after = ids_file(0, ids), ids_file(changed(ids), ids + changed(ids))
        state = new_state(f"plan-{ids}-{number}")
        with running_sync_stub() as url:
            common = {"url": url, "order": {"members": ids}, "state": str(state)}
            run_as_job(aiobatch_sync.adopt, source=str(before), **common)
            measures = run_as_job(aiobatch_sync.plan, source=str(after), **common)
        check("adds", measures["adds"], changed(ids))
        check("removes", measures["removes"], changed(ids))
        check("write calls", measures["calls"], 0)
        measures["state"] = size_of(state)
        shutil.rmtree(state.parent)
        return measures


@attrs.frozen(kw_only=True)
class SyncBaseline:
    """A CSV file, first complete and then with 1 % changes, beside a hand-written loop.

    Attributes:
        ids: The number of IDs.
    """

    rounds: int = 1
    ids: int = 1_000_000

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure both sides in turns."""
        files = [
            ids_file(0, self.ids, "csv"),
            ids_file(changed(self.ids), self.ids + changed(self.ids), "csv"),
        ]
        aiobatch: list[list[Measures]] = []
        loop: list[list[Measures]] = []
        with running_sync_stub() as url:
            for number in range(rounds):
                state = new_state(f"baseline-{number}")
                orders = [{"members": 0}, {"members": self.ids}]
                jobs = [
                    {"url": url, "order": order, "source": str(file)}
                    for order, file in zip(orders, files, strict=True)
                ]
                aiobatch.append([run_as_job(aiobatch_sync.sync, state=str(state), **job) for job in jobs])
                loop.append([run_as_job(sync_by_hand.replace_then_patch, **job) for job in jobs])
        titles = [f"{self.ids:,} IDs from CSV", f"{changed(self.ids):,} of them added and removed"]
        return [
            make_row(
                name,
                f"{title}, {what}",
                [measures[job][key] for measures in aiobatch],
                Baseline(name=_LOOP, values=[measures[job][key] for measures in loop]),
            )
            for job, title in enumerate(titles)
            for key, what in (
                ("calls", "write calls"),
                ("seconds", "seconds"),
                ("peak", "peak bytes"),
                ("lowest", "fewest members during the run"),
            )
        ]


def extrapolate(points: list[tuple[int, float]], to: int) -> float:
    """Return the value at *to* on the line through the last two points. The line never falls.

    Args:
        points: At least two increasing sizes with their values.
        to: A larger size.
    """
    (before, low), (size, high) = points[-2:]
    return high + max(high - low, 0.0) / (size - before) * (to - size)


def sync_scenarios(ids: int | None = None) -> dict[str, Scenario]:
    """Return the scenarios by name.

    Args:
        ids: The number of IDs of each. None for the number that the targets are for.
    """
    count = ids or _TEN_MILLION
    return {
        "sync_load": Load(ids=count),
        "sync_delta": RepeatedSync(ids=count, changed=changed(count), seconds=7, scans=2.5),
        "sync_nothing": RepeatedSync(ids=count, changed=0, seconds=6, scans=1.25),
        "sync_rate": Rate(),
        "sync_plan": _plan_only(ids),
        "sync_baseline": SyncBaseline(ids=ids or 1_000_000),
    }


def _plan_only(ids: int | None) -> PlanOnly:
    """Return the scenario of plans. With more IDs, fewer sizes save disk, and the line ends at a billion."""
    if ids is None or ids <= 2 * _TEN_MILLION:
        return PlanOnly(ids=ids or 2 * _TEN_MILLION)
    return PlanOnly(ids=ids, shares=(1 / 3, 1.0), extrapolated=_BILLION)


def _scan(source: Path) -> Measures:
    """Return the seconds in which DuckDB alone reads a file."""
    return {"scan": run_as_job(duckdb_scan.count_ids, source=str(source))["seconds"]}


def _job_rows(
    name: str, what: str, measured: list[Measures], *, calls: int, most: dict[str, Target]
) -> list[Row]:
    seconds, scans = ([measures[key] for measures in measured] for key in ("seconds", "scan"))
    beside = make_row(
        name, "seconds beside a scan", seconds, Baseline(name=_SCAN, values=scans), most.get("scans")
    )
    shown = [
        ("seconds", f"{what}, seconds", most.get("seconds")),
        ("peak", "peak bytes of the process", most.get("peak")),
        ("calls", "write calls", Target(sign="<=", bound=calls)),
        *((phase, f"of which {phase}, seconds", None) for phase in _PHASES),
        ("around", "interpreter and imports, seconds", None),
        ("cpu", "the client's CPU, seconds", None),
        ("server_cpu", "the server's CPU, seconds", None),
        ("load", "load average before", None),
    ]
    first, *others = make_rows(name, measured, shown)
    return [first, beside, *others]


def _most(ids: int, seconds: float, *, scans: float) -> dict[str, Target]:
    """Return the targets of a job at full size."""
    if ids != _TEN_MILLION:
        return {}
    return {
        "seconds": Target(sign="<=", bound=seconds),
        "scans": Target(sign="<=", bound=scans, of="ratio"),
        "peak": Target(sign="<=", bound=_PEAK),
    }


def _target_at_full_size(target: Target, ids: int, full: int) -> Target | None:
    """Return a target at full size only."""
    return target if ids == full else None


@functools.cache
def _first_load(ids: int, number: int) -> tuple[Measures, Path]:
    """Load an audience once for all scenarios. Return the measures and the state."""
    state = new_state(f"load-{ids}-{number}")
    with running_sync_stub() as url:
        arguments = {"source": str(ids_file(0, ids)), "state": str(state)}
        return run_as_job(aiobatch_sync.sync, url=url, order={}, **arguments), state


@functools.cache
def _work() -> Path:
    """Return a directory that is removed at exit."""
    directory = tempfile.TemporaryDirectory(prefix="aiobatch-benchmarks-")
    atexit.register(directory.cleanup)
    return Path(directory.name)


def new_state(name: str) -> Path:
    """Return the path of a new state."""
    place = _work() / name / "state.duckdb"
    shutil.rmtree(place.parent, ignore_errors=True)
    place.parent.mkdir()
    return place


def size_of(state: Path) -> float:
    """Return the bytes of a closed state."""
    return float(sum(file.stat().st_size for file in state.parent.glob("state.duckdb*") if file.is_file()))


def _copy(state: Path, name: str) -> Path:
    """Copy a closed state."""
    place = new_state(name)
    for file in state.parent.glob("state.duckdb*"):
        shutil.copy(file, place.parent)
    return place
