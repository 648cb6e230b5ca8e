"""Waits of aiobatch, hand-written loops and peers side by side: many tokens, one token, an outage."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs

from ..contenders import AIOBATCH_1X, AIOBATCH_2X, CONTENDERS, Contender
from ..measure.processes import Measures, running_server
from ..measure.server_control import Order
from ..results.comparison import Comparison, evaluate_targets, make_line
from ..results.rows import Baseline, Row, Target, make_row
from ..results.scenario import Result
from ..simulation.lower_bound import least_lag

COLUMNS: Final[Mapping[str, str]] = {
    "requests_a_token": "requests a token",
    "lag_mean": "lag, mean, s",
    "lag_p99": "lag, p99, s",
    "late_p99": "loop late, p99, ms",
    "late_max": "loop late, max, ms",
    "cpu": "CPU, s",
    "lost": "waits lost",
    "peak": "requests/s, busiest 100 ms",
    "late_idle": "loop late before, p99, ms",
    "late_above": "loop late above before, p99, ms",
    "burst": "busiest 100 ms after the outage, as a multiple of the busiest before",
}
_AZURE: Final = "azure-core"
_AGES: Final = 250

Beside = Callable[[str, Order, Mapping[str, Sequence[Measures]]], Sequence[Row]]


@attrs.frozen(kw_only=True)
class WaitComparison:
    """Waits of all contenders, one after the other, with the same server.

    Attributes:
        what: The description of the tokens.
        order: The behaviour of the server. The seed is the round's number.
        waiters: The number of waits for each token.
        contenders: The contenders. aiobatch has targets and runs in every round, the others in the first.
        targets: The targets by contender and measure.
        beside: Return further rows of the scenario's name, its order and the measures by contender.
    """

    rounds: int = 5
    what: str
    order: Order
    waiters: int = 1
    contenders: tuple[Contender, ...] = CONTENDERS
    targets: Mapping[str, Mapping[str, Target]]
    beside: tuple[Beside, ...] = ()

    def run(self, name: str, rounds: int) -> list[Result]:
        """Measure all installed contenders."""
        left_out = [
            f"{contender.name}: skipped, not installed: pip install '{contender.requirement}'"
            for contender in self.contenders
            if not contender.is_installed()
        ]
        measured: dict[str, list[Measures]] = {
            contender.name: [] for contender in self.contenders if contender.is_installed()
        }
        with running_server() as url:
            for seed in range(rounds):
                for contender in self.contenders:
                    if contender.name in measured and (contender.is_aiobatch or not seed):
                        print(f"  {contender.name}", file=sys.stderr)
                        measured[contender.name] += self._measure(contender, url, seed, left_out)
        rows = [row for beside in self.beside for row in beside(name, self.order, measured)]
        return [self._comparison(name, measured, left_out), *rows]

    def _measure(self, contender: Contender, url: str, seed: int, left_out: list[str]) -> list[Measures]:
        """Measure one contender. A peer that fails is left out."""
        order = attrs.asdict(attrs.evolve(self.order, seed=seed))
        try:
            return [contender.run(url=url, order=order, waiters=self.waiters)]
        except subprocess.CalledProcessError:
            if contender.is_aiobatch:
                raise
            left_out.append(f"{contender.name}: failed, with a traceback on standard error")
            return []

    def _comparison(
        self, name: str, measured: Mapping[str, list[Measures]], left_out: list[str]
    ) -> Comparison:
        taken = {key for rounds in measured.values() for measures in rounds for key in measures}
        columns = {key: what for key, what in COLUMNS.items() if key in taken}
        lines = [make_line(who, rounds, tuple(columns)) for who, rounds in measured.items() if rounds]
        target_rows = [
            row
            for line in lines
            for row in evaluate_targets(name, line, columns, self.targets.get(line.name, {}))
        ]
        return Comparison(
            scenario=name,
            what=self.what,
            columns=tuple(columns.values()),
            lines=tuple(lines),
            left_out=tuple(left_out),
            target_rows=tuple(target_rows),
        )


def tokens(targets_2x: Mapping[str, float], targets_1x: Mapping[str, float]) -> WaitComparison:
    """Return 2,000 tokens that are applied after 2 to 10 s.

    Args:
        targets_2x: The upper bound of each measure of aiobatch with 2.x.
        targets_1x: The same with 1.x.
    """
    return WaitComparison(
        what="2,000 tokens, applied after 2 to 10 s, latency 20 ms",
        order=Order(tokens=2_000, indexing=(2, 10), latency=0.02),
        targets={AIOBATCH_2X: _at_most(targets_2x), AIOBATCH_1X: _at_most(targets_1x)},
        beside=(cpu_beside_azure, lag_beside_bound),
    )


def cpu_beside_azure(name: str, order: Order, measured: Mapping[str, Sequence[Measures]]) -> list[Row]:  # noqa: ARG001 - as `Beside`
    """Return the client's CPU beside azure-core's in the round that both ran in."""
    ours, theirs = measured.get(AIOBATCH_2X), measured.get(_AZURE)
    if not ours or not theirs:
        return []
    baseline = Baseline(name=_AZURE, values=[theirs[0]["cpu"]])
    target = Target(sign="<=", bound=0.08, of="ratio")
    return [make_row(name, f"{AIOBATCH_2X}: CPU, s", [ours[0]["cpu"]], baseline, target)]


def lag_beside_bound(name: str, order: Order, measured: Mapping[str, Sequence[Measures]]) -> list[Row]:
    """Return the lag of 1.x beside the least that as many views can reach. One round trip is free."""
    shortest, longest = order.indexing
    ages = [longest * step / _AGES for step in range(_AGES + 1)]

    def share_applied(age: float) -> float:
        return min(max((age - shortest) / (longest - shortest), 0.0), 1.0)

    rounds = measured.get(AIOBATCH_1X, ())
    lags = [measures["lag_mean"] - order.latency for measures in rounds]
    bounds = [least_lag(share_applied, ages, measures["requests_a_token"]).lag for measures in rounds]
    baseline = Baseline(name="least lag of as many views", values=bounds)
    target = Target(sign="<=", bound=1.03, of="ratio")
    what = f"{AIOBATCH_1X}: lag without one round trip, mean, s"
    return [make_row(name, what, lags, baseline, target)] if lags else []


def one_token(requests: float) -> WaitComparison:
    """Return 200 waiters of one token.

    Args:
        requests: The upper bound of aiobatch's requests.
    """
    targets = _at_most({"requests_a_token": requests})
    return WaitComparison(
        what="200 waiters of one token, applied after 6 s, latency 20 ms",
        order=Order(tokens=1, indexing=(6, 6), latency=0.02),
        waiters=200,
        targets={AIOBATCH_2X: targets, AIOBATCH_1X: targets},
    )


def outage() -> WaitComparison:
    """Return 200 tokens, with 2 s of 503 in the middle."""
    return WaitComparison(
        what="200 tokens, applied after 2 to 10 s, with 2 s of 503, latency 20 ms",
        order=Order(tokens=200, indexing=(2, 10), latency=0.02, outage=(3, 5)),
        # 1.x cannot reach the lag and the requests of a list with states, see `least_lag`.
        targets={
            AIOBATCH_2X: _at_most({"requests_a_token": 1.6, "lag_mean": 0.7, "burst": 2}),
            AIOBATCH_1X: _at_most({"burst": 2}),
        },
    )


def aiobatch_alone(scenario: WaitComparison, name: str) -> WaitComparison:
    """Return the scenario with one contender only.

    Args:
        scenario: The scenario with all contenders.
        name: The contender's name.
    """
    return attrs.evolve(
        scenario, contenders=tuple(contender for contender in scenario.contenders if contender.name == name)
    )


def _at_most(bounds: Mapping[str, float]) -> dict[str, Target]:
    """Return upper bounds as targets. No wait may be lost."""
    return {key: Target(sign="<=", bound=bound) for key, bound in {**bounds, "lost": 0.0}.items()}
