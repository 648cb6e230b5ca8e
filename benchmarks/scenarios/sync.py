"""Scenarios of the sync engine, as jobs: each side in a process of its own that is counted whole.

With fewer ids than their targets speak of they have no targets for seconds and bytes.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Final

import attrs

from ..contenders import aiobatch_sync as _sync_ours
from ..contenders import sync_by_hand as _sync_rival
from ..measure.job import run_whole
from ..measure.processes import Measures
from ..measure.resources import check
from ..results.rows import Rival, Row, Target, make_row, make_rows
from ..results.scenario import Scenario
from ..servers.sync_stub import running_stand_in
from ..workload.id_files import changed, ids_file

_CHUNK: Final = 10_000
_GIGABYTE: Final = 1e9
_LOOP: Final = "requests + csv + json, replace, then patch"
_TEN_MILLION: Final = 10_000_000
_PHASES: Final = ("reading", "planning", "creating", "sending", "waiting", "checking")


@attrs.frozen(kw_only=True)
class Load:
    """The first load of an audience.

    Attributes:
        ids: How many.
    """

    rounds: int = 1
    ids: int = _TEN_MILLION

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure seconds and memory; the state of the first round serves the scenarios that change it."""
        measured = [_first_load(self.ids, number)[0] for number in range(rounds)]
        what = f"{self.ids:,} ids for the first time"
        return _job_rows(name, what, measured, calls=-(-self.ids // _CHUNK), most=_most(self.ids, 40))


@attrs.frozen(kw_only=True)
class Again:
    """A later run of an audience that was loaded.

    Attributes:
        ids: How many.
        changed: How many of them are others than before.
        seconds: What it may take at full size.
    """

    rounds: int = 1
    ids: int = _TEN_MILLION
    changed: int
    seconds: float

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure seconds and memory, each time from the same state."""
        measured = [self._measure(name, number) for number in range(rounds)]
        what = f"{self.ids:,} ids again, {self.changed:,} in and out" if self.changed else "nothing changed"
        calls = -(-2 * self.changed // _CHUNK)
        return _job_rows(name, what, measured, calls=calls, most=_most(self.ids, self.seconds))

    def _measure(self, name: str, number: int) -> Measures:
        """Sync anew from a copy of the state."""
        source = ids_file(self.changed, self.ids + self.changed)
        state = _copy(_first_load(self.ids, 0)[1], f"{name}-{number}")
        with running_stand_in() as url:
            order = {"members": self.ids}
            measures = run_whole(_sync_ours.sync, url=url, order=order, source=str(source), state=str(state))
        check("adds", measures["adds"], self.changed)
        check("removes", measures["removes"], self.changed)
        shutil.rmtree(state.parent)
        return measures


@attrs.frozen(kw_only=True)
class Rate:
    """A first load against a server that takes few requests a second, with a client that knows how many.

    Attributes:
        chunks: Calls to make.
        chunk: Ids of a call.
        rate: Requests per second.
    """

    rounds: int = 1
    chunks: int = 100
    chunk: int = 100
    rate: float = 5.0

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure how much of the limit is used, and how often it is met."""
        measured = [self._measure(number) for number in range(rounds)]
        used = f"{self.chunks:,} calls at {self.rate:g} requests/s: of the limit is used, %"
        rows = [
            ("used", used, Target(sign=">=", bound=97)),
            ("too_many_share", "answers 429, below 1 %", Target(sign="<=", bound=0.99)),
            ("requests", "requests", None),
            ("calls", "of them write calls, the others are polls and looks", None),
            ("span", "seconds from the first request to the last", None),
            ("load", "load of the machine before", None),
        ]
        return make_rows(name, measured, rows)

    def _measure(self, number: int) -> Measures:
        """Sync from nothing."""
        source = ids_file(0, self.chunks * self.chunk)
        state = _place(f"rate-{number}")
        with running_stand_in() as url:
            arguments = {"source": str(source), "state": str(state), "rate": self.rate, "chunk": self.chunk}
            measures = run_whole(_sync_ours.sync, url=url, order={"rate": self.rate}, **arguments)
        admitted, refused = measures["admitted"], measures["too_many"]
        # The first one goes at once, each of the others has a share of a second to wait for.
        used = 100 * (admitted - 1) / (self.rate * measures["span"])
        return {**measures, "used": used, "too_many_share": 100 * refused / (admitted + refused)}


@attrs.frozen(kw_only=True)
class PlanOnly:
    """Plans of growing size, 1 % changed; from the two largest a line to what this machine may not hold.

    Attributes:
        ids: The largest.
        shares: What part of it each is.
        on_paper: The size at the end of the line.
    """

    rounds: int = 1
    ids: int = 2 * _TEN_MILLION
    shares: tuple[float, ...] = (0.05, 0.25, 0.5, 1.0)
    on_paper: int = 10 * _TEN_MILLION

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure memory, and seconds, against the number of ids."""
        sizes = [round(self.ids * share) for share in self.shares]
        curves = [{ids: self._measure(ids, number) for ids in sizes} for number in range(rounds)]
        rows = [
            make_row(name, f"{ids:,} ids against as many, {what}", [curve[ids][key] for curve in curves])
            for ids in sizes
            for key, what in (("peak", "peak bytes"), ("seconds", "seconds"))
        ]
        target = _judged(Target(sign="<=", bound=2.5 * _GIGABYTE), self.ids, 2 * _TEN_MILLION)
        what = f"{self.on_paper:,} on paper, along the last two, peak bytes"
        on_paper = [
            extrapolate([(ids, measures["peak"]) for ids, measures in curve.items()], self.on_paper)
            for curve in curves
        ]
        load = make_row(name, "load of the machine before", [curve[sizes[0]]["load"] for curve in curves])
        return [*rows, make_row(name, what, on_paper, None, target), load]

    def _measure(self, ids: int, number: int) -> Measures:
        """Take an audience over, and plan."""
        before, after = ids_file(0, ids), ids_file(changed(ids), ids + changed(ids))
        state = _place(f"plan-{ids}-{number}")
        with running_stand_in() as url:
            common = {"url": url, "order": {"members": ids}, "state": str(state)}
            run_whole(_sync_ours.adopt, source=str(before), **common)
            measures = run_whole(_sync_ours.plan, source=str(after), **common)
        check("adds", measures["adds"], changed(ids))
        check("removes", measures["removes"], changed(ids))
        check("write calls", measures["calls"], 0)
        shutil.rmtree(state.parent)
        return measures


@attrs.frozen(kw_only=True)
class BesideLoop:
    """A CSV file, for the first time and with 1 % changed, beside the loop that users have.

    Attributes:
        ids: How many.
    """

    rounds: int = 1
    ids: int = 1_000_000

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure both sides in turns."""
        files = [
            ids_file(0, self.ids, "csv"),
            ids_file(changed(self.ids), self.ids + changed(self.ids), "csv"),
        ]
        ours: list[list[Measures]] = []
        loop: list[list[Measures]] = []
        with running_stand_in() as url:
            for number in range(rounds):
                state = _place(f"rival-{number}")
                orders = [{"members": 0}, {"members": self.ids}]
                jobs = [
                    {"url": url, "order": order, "source": str(file)}
                    for order, file in zip(orders, files, strict=True)
                ]
                ours.append([run_whole(_sync_ours.sync, state=str(state), **job) for job in jobs])
                loop.append([run_whole(_sync_rival.replace_then_patch, **job) for job in jobs])
        titles = [f"{self.ids:,} ids from CSV", f"{changed(self.ids):,} of them in and out"]
        return [
            make_row(
                name,
                f"{title}, {what}",
                [measures[job][key] for measures in ours],
                Rival(name=_LOOP, values=[measures[job][key] for measures in loop]),
            )
            for job, title in enumerate(titles)
            for key, what in (
                ("calls", "write calls"),
                ("seconds", "seconds"),
                ("peak", "peak bytes"),
                ("lowest", "fewest members meanwhile"),
            )
        ]


def extrapolate(points: list[tuple[int, float]], to: int) -> float:
    """Return where the line through the last two of *points* comes to; it never falls.

    Args:
        points: Sizes, growing, and what was measured; two at least.
        to: A larger size.
    """
    (before, low), (size, high) = points[-2:]
    return high + max(high - low, 0.0) / (size - before) * (to - size)


def sync_scenarios(ids: int | None = None) -> dict[str, Scenario]:
    """Return the scenarios by name.

    Args:
        ids: How many ids each has; None for those that the targets speak of.
    """
    several = ids or _TEN_MILLION
    return {
        "sync_load": Load(ids=several),
        "sync_delta": Again(ids=several, changed=changed(several), seconds=12),
        "sync_nothing": Again(ids=several, changed=0, seconds=6),
        "sync_rate": Rate(),
        "sync_plan": PlanOnly(ids=ids or 2 * _TEN_MILLION),
        "sync_rival": BesideLoop(ids=ids or 1_000_000),
    }


def _job_rows(
    name: str, what: str, measured: list[Measures], *, calls: int, most: dict[str, Target]
) -> list[Row]:
    """Show what a job cost."""
    shown = [
        ("seconds", f"{what}, seconds", most.get("seconds")),
        ("peak", "peak bytes of the process", most.get("peak")),
        ("calls", "write calls", Target(sign="<=", bound=calls)),
        *((phase, f"of that {phase}, seconds", None) for phase in _PHASES),
        ("around", "around that, the interpreter and its imports, seconds", None),
        ("cpu", "the client's CPU, seconds", None),
        ("server_cpu", "the server's CPU meanwhile, seconds", None),
        ("load", "load of the machine before", None),
    ]
    return make_rows(name, measured, shown)


def _most(ids: int, seconds: float) -> dict[str, Target]:
    """Return what a job may take, if it is of the size that this speaks of."""
    bounds = {"seconds": seconds, "peak": _GIGABYTE}
    return {key: Target(sign="<=", bound=bound) for key, bound in bounds.items() if ids == _TEN_MILLION}


def _judged(target: Target, ids: int, full: int) -> Target | None:
    """Return a target at full size only."""
    return target if ids == full else None


@functools.cache
def _first_load(ids: int, number: int) -> tuple[Measures, Path]:
    """Load an audience once for all scenarios; return what was measured, and the state."""
    state = _place(f"load-{ids}-{number}")
    with running_stand_in() as url:
        arguments = {"source": str(ids_file(0, ids)), "state": str(state)}
        return run_whole(_sync_ours.sync, url=url, order={}, **arguments), state


@functools.cache
def _work() -> Path:
    """Return a directory that goes with this process."""
    directory = tempfile.TemporaryDirectory(prefix="aiobatch-benchmarks-")
    atexit.register(directory.cleanup)
    return Path(directory.name)


def _place(name: str) -> Path:
    """Return where a new state may lie."""
    place = _work() / name / "state.duckdb"
    shutil.rmtree(place.parent, ignore_errors=True)
    place.parent.mkdir()
    return place


def _copy(state: Path, name: str) -> Path:
    """Copy a state that nobody has open."""
    place = _place(name)
    for file in state.parent.glob("state.duckdb*"):
        shutil.copy(file, place.parent)
    return place
