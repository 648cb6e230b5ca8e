"""Scenarios of the rate, in virtual time: a limit that has to be found, and one that has to do for all."""

from __future__ import annotations

import itertools
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs

from ..measure.processes import Measures, run_apart
from ..results.board import Board, Line
from ..results.rows import Row, Target, make_rows
from ..results.scenario import Scenario
from ..servers.rate_limiters import BURSTS, LIMITERS
from ..simulation.rate_discovery import Answer, Case, best_steady, fairness, refused, simulate, used
from ..simulation.shared_budget import sync_in_budget
from ..workload.id_files import ids_file

# Latencies that stay as they are, and one that does not, seconds.
_STEADY: Final = ((0.02, 0.02), (0.2, 0.2))
_VARYING: Final = (0.02, 0.2)
_MOST_REFUSED: Final = 3.0
_USED: Final = Target(sign=">=", bound=90)
_REFUSED: Final = Target(sign="<=", bound=_MOST_REFUSED)

_Measure = Callable[[str, float], float]


@attrs.frozen(kw_only=True)
class UnknownRate:
    """A server whose limit only 429 tells, and workers that always have a request.

    Attributes:
        rates: Requests per second that it takes.
        limiters: The models of it.
        seconds: How long each goes on.
        settled: Seconds after which the limit has to be found.
        fleets: How many clients share a limit in the last table.
        fleet_rates: Requests per second of the limits that they share.
    """

    rounds: int = 1
    rates: tuple[float, ...] = (1, 2, 3, 5, 7.3, 10, 20, 35, 50)
    limiters: tuple[str, ...] = tuple(LIMITERS)
    seconds: float = 300.0
    settled: float = 30.0
    fleets: tuple[int, ...] = (1, 2, 4, 8)
    fleet_rates: tuple[float, ...] = (5, 20)

    def run(self, name: str, rounds: int) -> list[Board]:
        """Measure how much of the limit is used, and how often it is met; each round has another seed."""
        steady = {
            cell: [
                self._simulate(*cell, latency, tells=tells, seed=seed)
                for latency, tells, seed in itertools.product(_STEADY, (False, True), range(1, rounds + 1))
            ]
            for cell in itertools.product(self.limiters, self.rates)
        }
        where = "answers after 20 or 200 ms, with and without Retry-After, the worst of them"
        use = self._board(
            name,
            f"of the limit used after {self.settled:g} s, %, {where}",
            {"": lambda *cell: min(self._used(answers, cell[1]) for answers in steady[cell])},
        )
        share = self._board(
            name,
            f"answers 429 in all {self.seconds:g} s, %, {where}",
            {"": lambda *cell: max(refused(answers) for answers in steady[cell])},
        )
        return [
            attrs.evolve(use, judged=(self._judge(use, "the least used of a limit, %", _USED, min),)),
            attrs.evolve(share, judged=(self._judge(share, "the largest share of 429, %", _REFUSED, max),)),
            self._varying(name, rounds),
            self._shared(name, rounds),
        ]

    def _varying(self, name: str, rounds: int) -> Board:
        """Measure with latencies that vary from request to request, beside the best that pacing can do."""

        def ours(limiter: str, rate: float) -> float:
            runs = [
                self._simulate(limiter, rate, _VARYING, tells=False, seed=seed)
                for seed in range(1, rounds + 1)
            ]
            return statistics.median(self._used(answers, rate) for answers in runs)

        def best(limiter: str, rate: float) -> float:
            return best_steady(Case(limiter=limiter, rate=rate, latency=_VARYING), _MOST_REFUSED)

        what = (
            f"the same, each answer after anything from 20 to 200 ms: used, % (below {_MOST_REFUSED:g} % 429)"
        )
        return self._board(name, what, {"": ours, ", at the best steady pace, if it were known": best})

    def _shared(self, name: str, rounds: int) -> Board:
        """Measure several clients before one limit, of which none tells another."""
        lines = []
        for limiter, rate, clients in itertools.product(BURSTS, self.fleet_rates, self.fleets):
            case = Case(limiter=limiter, rate=rate, clients=clients, seconds=self.seconds)
            runs = [simulate(attrs.evolve(case, seed=seed)) for seed in range(1, rounds + 1)]
            values = (
                statistics.median(self._used(answers, rate) for answers in runs),
                statistics.median(refused(answers) for answers in runs),
                statistics.median(fairness(answers, clients) for answers in runs),
            )
            who = f"{clients} clients" if clients > 1 else "1 client"
            lines.append(Line(name=f"{limiter}, {rate:g}/s, {who}", runs=rounds, values=values))
        return Board(
            scenario=name,
            what="several clients, each in a process of its own, that share one limit",
            columns=(f"used after {self.settled:g} s, %", "429, %", "Jain's index of fairness"),
            lines=tuple(lines),
        )

    def _simulate(
        self, limiter: str, rate: float, latency: tuple[float, float], *, tells: bool, seed: int
    ) -> list[Answer]:
        case = Case(limiter=limiter, rate=rate, latency=latency, tells=tells, seconds=self.seconds, seed=seed)
        return simulate(case)

    def _used(self, answers: Sequence[Answer], rate: float) -> float:
        return used(answers, rate, self.settled, self.seconds)

    def _board(self, name: str, what: str, measures: Mapping[str, _Measure]) -> Board:
        """Make a table of limiters and rates."""
        lines = tuple(
            Line(name=limiter + suffix, runs=1, values=tuple(measure(limiter, rate) for rate in self.rates))
            for limiter in self.limiters
            for suffix, measure in measures.items()
        )
        columns = tuple(f"{rate:g}/s" for rate in self.rates)
        return Board(scenario=name, what=what, columns=columns, lines=lines)

    def _judge(
        self, board: Board, what: str, target: Target, worst: Callable[[Sequence[float]], float]
    ) -> Row:
        """Judge a table by its worst cell."""
        values = [value for line in board.lines for value in line.values if value is not None]
        return Row(scenario=board.scenario, what=what, ours=worst(values), target=target)


@attrs.frozen(kw_only=True)
class SharedBudget:
    """A first load whose calls and polls share few requests a second.

    Attributes:
        ids: How many.
        chunk: Ids of a call.
        rate: Requests per second.
    """

    rounds: int = 1
    ids: int = 10_000_000
    chunk: int = 10_000
    rate: float = 1.0

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure the time against what the calls need, and the calls against the fewest possible."""
        measured = [self._measure() for _ in range(rounds)]
        calls = -(-self.ids // self.chunk)
        what = (
            f"{self.ids:,} ids at {self.rate:g} request/s: seconds, as a multiple of what its requests need"
        )
        # Each call and its confirmation, and a look at the audience before and after.
        fewest = Target(sign="<=", bound=2 * calls + 2)
        rows = [
            ("share", what, Target(sign="<=", bound=1.05)),
            ("calls", "requests", fewest if self.ids == SharedBudget().ids else None),
            ("write", "of them write calls", None),
            ("confirmed", "of them polls that found a token APPLIED", None),
            ("too_early", "of them polls that came too early", None),
            ("too_many", "answers 429", Target(sign="<=", bound=0)),
            ("span", "virtual seconds from the first request to the last", None),
            ("seconds", "seconds of this machine meanwhile", None),
        ]
        return make_rows(name, measured, rows)

    def _measure(self) -> Measures:
        """Sync from nothing."""
        with tempfile.TemporaryDirectory(prefix="aiobatch-benchmarks-") as directory:
            return run_apart(
                sync_in_budget,
                source=str(ids_file(0, self.ids)),
                state=str(Path(directory) / "state.duckdb"),
                budget={"rate": self.rate, "chunk": self.chunk},
            )


def rate_scenarios(ids: int | None = None) -> dict[str, Scenario]:
    """Return the scenarios by name.

    Args:
        ids: How many ids are synced; None for those that the target speaks of.
    """
    return {"unknown_rate": UnknownRate(), "shared_budget": SharedBudget(ids=ids or 10_000_000)}
