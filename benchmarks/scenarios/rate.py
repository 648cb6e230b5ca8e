"""Scenarios of rate limits in virtual time: an unknown limit, and one limit for calls and polls."""

from __future__ import annotations

import itertools
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs

from ..measure.processes import Measures, run_in_subprocess
from ..results.comparison import Comparison, ComparisonLine
from ..results.rows import Row, Target, make_rows
from ..results.scenario import Scenario
from ..servers.rate_limiters import BURSTS, LIMITERS
from ..simulation.rate_discovery import Answer, Case, best_steady, fairness, refused, simulate, used
from ..simulation.shared_budget import sync_in_budget
from ..workload.id_files import ids_file

# Constant latencies and a varying one, in seconds.
_STEADY: Final = ((0.02, 0.02), (0.2, 0.2))
_VARYING: Final = (0.02, 0.2)
_MOST_REFUSED: Final = 3.0
_USED: Final = Target(sign=">=", bound=90)
_SHARED: Final = " with Limits(rate, shared)"
_REFUSED: Final = Target(sign="<=", bound=_MOST_REFUSED)

_Measure = Callable[[str, float], float]


@attrs.frozen(kw_only=True)
class UnknownRate:
    """A server that reveals its limit only by 429, and workers that always have a request.

    Attributes:
        rates: The limits in requests per second.
        limiters: The kinds of limiters.
        seconds: The duration of each simulation.
        settled: Seconds after which the limit must be found.
        fleets: The numbers of clients that share a limit in the last table.
        fleet_rates: The shared limits in requests per second.
    """

    rounds: int = 1
    rates: tuple[float, ...] = (1, 2, 3, 5, 7.3, 10, 20, 35, 50)
    limiters: tuple[str, ...] = tuple(LIMITERS)
    seconds: float = 300.0
    settled: float = 30.0
    fleets: tuple[int, ...] = (1, 2, 4, 8)
    fleet_rates: tuple[float, ...] = (5, 20)

    def run(self, name: str, rounds: int) -> list[Comparison]:
        """Measure the used share of the limit and the share of 429. Each round has another seed."""
        steady = {
            cell: [
                self._simulate(*cell, latency, retry_after=retry_after, seed=seed)
                for latency, retry_after, seed in itertools.product(
                    _STEADY, (False, True), range(1, rounds + 1)
                )
            ]
            for cell in itertools.product(self.limiters, self.rates)
        }
        where = "worst case of responses after 20 or 200 ms, with and without Retry-After"
        use = self._comparison(
            name,
            f"Used share of the limit after {self.settled:g} s, %, {where}",
            {"": lambda *cell: min(self._used(answers, cell[1]) for answers in steady[cell])},
        )
        share = self._comparison(
            name,
            f"Share of 429 in all {self.seconds:g} s, %, {where}",
            {"": lambda *cell: max(refused(answers) for answers in steady[cell])},
        )
        return [
            attrs.evolve(use, target_rows=(self._worst_cell(use, "the smallest used share, %", _USED, min),)),
            attrs.evolve(
                share, target_rows=(self._worst_cell(share, "the largest share of 429, %", _REFUSED, max),)
            ),
            self._varying(name, rounds),
            self._shared(name, rounds),
        ]

    def _varying(self, name: str, rounds: int) -> Comparison:
        """Measure with varying latencies, beside the best steady pace."""

        def found_by_client(limiter: str, rate: float) -> float:
            runs = [
                self._simulate(limiter, rate, _VARYING, retry_after=False, seed=seed)
                for seed in range(1, rounds + 1)
            ]
            return statistics.median(self._used(answers, rate) for answers in runs)

        def best(limiter: str, rate: float) -> float:
            return best_steady(Case(limiter=limiter, rate=rate, latency=_VARYING), _MOST_REFUSED)

        what = f"Used share, %, with responses after 20 to 200 ms at random (below {_MOST_REFUSED:g} % 429)"
        return self._comparison(name, what, {"": found_by_client, ", at the best steady pace": best})

    def _shared(self, name: str, rounds: int) -> Comparison:
        """Measure several independent clients with one limit."""
        lines = []
        cases = itertools.product(BURSTS, self.fleet_rates, self.fleets, (False, True))
        for limiter, rate, clients, is_shared in cases:
            if is_shared and clients == 1:
                continue
            case = Case(
                limiter=limiter, rate=rate, clients=clients, is_shared=is_shared, seconds=self.seconds
            )
            runs = [simulate(attrs.evolve(case, seed=seed)) for seed in range(1, rounds + 1)]
            values = (
                statistics.median(self._used(answers, rate) for answers in runs),
                statistics.median(refused(answers) for answers in runs),
                statistics.median(fairness(answers, clients) for answers in runs),
            )
            who = f"{clients} clients" if clients > 1 else "1 client"
            who += _SHARED if is_shared else ""
            lines.append(ComparisonLine(name=f"{limiter}, {rate:g}/s, {who}", runs=rounds, values=values))
        return Comparison(
            scenario=name,
            what="Several clients, each in its own process, that share one limit",
            columns=(f"used after {self.settled:g} s, %", "429, %", "Jain's index of fairness"),
            lines=tuple(lines),
            target_rows=(
                Row(
                    scenario=name,
                    what="the smallest used share of clients with a shared limit, %",
                    value=min(
                        (line.values[0] or 0.0 for line in lines if _SHARED in line.name), default=None
                    ),
                    target=_USED,
                ),
            ),
        )

    def _simulate(
        self, limiter: str, rate: float, latency: tuple[float, float], *, retry_after: bool, seed: int
    ) -> list[Answer]:
        case = Case(
            limiter=limiter,
            rate=rate,
            latency=latency,
            retry_after=retry_after,
            seconds=self.seconds,
            seed=seed,
        )
        return simulate(case)

    def _used(self, answers: Sequence[Answer], rate: float) -> float:
        return used(answers, rate, self.settled, self.seconds)

    def _comparison(self, name: str, what: str, measures: Mapping[str, _Measure]) -> Comparison:
        """Return a table of limiters and rates."""
        lines = tuple(
            ComparisonLine(
                name=limiter + suffix, runs=1, values=tuple(measure(limiter, rate) for rate in self.rates)
            )
            for limiter in self.limiters
            for suffix, measure in measures.items()
        )
        columns = tuple(f"{rate:g}/s" for rate in self.rates)
        return Comparison(scenario=name, what=what, columns=columns, lines=lines)

    def _worst_cell(
        self, comparison: Comparison, what: str, target: Target, worst: Callable[[Sequence[float]], float]
    ) -> Row:
        """Return the target row of the worst cell of a table."""
        values = [value for line in comparison.lines for value in line.values if value is not None]
        return Row(scenario=comparison.scenario, what=what, value=worst(values), target=target)


@attrs.frozen(kw_only=True)
class SharedBudget:
    """A first load whose calls and polls share a low rate limit.

    Attributes:
        ids: The number of IDs.
        chunk: The number of IDs of a call.
        rate: The limit in requests per second.
    """

    rounds: int = 1
    ids: int = 10_000_000
    chunk: int = 10_000
    rate: float = 1.0

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure the time and the requests against the least possible."""
        measured = [self._measure() for _ in range(rounds)]
        calls = -(-self.ids // self.chunk)
        what = f"{self.ids:,} IDs at {self.rate:g} request/s: seconds, as a multiple of the least possible"
        # Each call with its confirmation, and a view of the audience before and after.
        fewest = Target(sign="<=", bound=2 * calls + 2)
        rows = [
            ("share", what, Target(sign="<=", bound=1.05)),
            ("calls", "requests", fewest if self.ids == SharedBudget().ids else None),
            ("write", "of which write calls", None),
            ("confirmed", "of which polls that found APPLIED", None),
            ("too_early", "of which polls that came too early", None),
            ("too_many", "429 responses", Target(sign="<=", bound=0)),
            ("span", "virtual seconds from the first request to the last", None),
            ("seconds", "real seconds", None),
        ]
        return make_rows(name, measured, rows)

    def _measure(self) -> Measures:
        """Sync from nothing."""
        with tempfile.TemporaryDirectory(prefix="aiobatch-benchmarks-") as directory:
            return run_in_subprocess(
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
