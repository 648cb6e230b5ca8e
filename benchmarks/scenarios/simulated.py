"""Waits under a budget of requests in virtual time: aiobatch, the peers' algorithms, and an oracle."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from ..measure.processes import Measures
from ..results.comparison import Comparison, ComparisonLine, make_line
from ..results.rows import Baseline, Row, Target, make_row
from ..results.scenario import Result
from ..simulation.aiobatch import run_aiobatch
from ..simulation.lower_bound import least_lag
from ..simulation.model import Load, draw, run_oracle
from ..simulation.peers import PEERS, run_peer

AIOBATCH_VERSIONS: Final[Mapping[str, str]] = {"aiobatch, 2.x": "2.11", "aiobatch, 1.x": "1.0"}
_ORACLE = "oracle that knows the times"
_DISTRIBUTION = "least lag with as many views as 1.x"
_COLUMNS: Final[Mapping[str, str]] = {
    "requests_a_token": "requests a token",
    "lag_mean": "lag, mean, s",
    "lag_p99": "lag, p99, s",
    "lost": "waits lost",
    "peak": "requests/s, busiest second",
    "cpu": "CPU, s",
}
_TARGET_KEYS = ("requests_a_token", "lag_mean")
_AGES = 250
# The ratio of a lag to the bound up to which it is on the bound.
_ON_THE_BOUND = 1.03


@attrs.frozen(kw_only=True)
class Simulated:
    """Waits of all contenders for the same tokens under the same budget, in virtual time.

    Attributes:
        what: The description of the tokens.
        load: Tokens, times and budget. The seed is the round's number.
        targets: The allowed ratios to the best peer and to the oracle, for requests and lag.
    """

    rounds: int = 1
    what: str
    load: Load
    targets: Mapping[str, Target]

    def run(self, name: str, rounds: int) -> list[Result]:
        """Measure all contenders."""
        measured: dict[str, list[Measures]] = {}
        for seed in range(rounds):
            for who, measures in self._measure(seed).items():
                measured.setdefault(who, []).append(measures)
        lines = [make_line(who, values, tuple(_COLUMNS)) for who, values in measured.items()]
        rows: list[Row] = []
        if self.load.arrivals < float("inf"):
            bound = self._bound(measured["aiobatch, 1.x"])
            lines.append(bound)
            rows = self._beside_bound(name, measured, bound)
        comparison = Comparison(
            scenario=name, what=self.what, columns=tuple(_COLUMNS.values()), lines=tuple(lines)
        )
        return [comparison, *rows, *self._target_rows(name, measured)]

    def _beside_bound(
        self, name: str, measured: Mapping[str, Sequence[Measures]], bound: ComparisonLine
    ) -> list[Row]:
        """Compare the lag with the least that views alone can reach."""
        least = dict(zip(_COLUMNS, bound.values, strict=True))["lag_mean"] or 0.0
        target = Target(sign="<=", bound=_ON_THE_BOUND, of="ratio")
        return [
            make_row(
                name,
                f"{who}: lag, mean, s",
                values,
                Baseline(name=_DISTRIBUTION, values=[least] * len(values)),
                target,
            )
            for who in AIOBATCH_VERSIONS
            for values in [_values(measured[who], "lag_mean")]
        ]

    def _measure(self, seed: int) -> dict[str, Measures]:
        tokens = draw(self.load, seed)
        measured: dict[str, Measures] = {}
        for who, version in AIOBATCH_VERSIONS.items():
            print(f"  {who}", file=sys.stderr)
            measured[who] = run_aiobatch(self.load, tokens, version, seed)
        measured[_ORACLE] = run_oracle(self.load, tokens)
        for who, algorithm in PEERS.items():
            measured[who] = run_peer(algorithm, self.load, tokens, seed)
        return measured

    def _bound(self, aiobatch: Sequence[Measures]) -> ComparisonLine:
        """Return the least lag of views of one token at a time, without knowing the times."""
        requests = make_line("", aiobatch, ("requests_a_token",)).values[0] or 0.0
        longest = 20 * self.load.p99
        ages = [0.0, *(longest ** (step / _AGES) for step in range(_AGES + 1))]
        plan = least_lag(self.load.share_applied, ages, requests)
        return make_line(
            _DISTRIBUTION, [{"requests_a_token": plan.requests, "lag_mean": plan.lag}], tuple(_COLUMNS)
        )

    def _target_rows(self, name: str, measured: Mapping[str, Sequence[Measures]]) -> list[Row]:
        """Compare aiobatch with the best peer and with the oracle, by each measure."""
        rows: list[Row] = []
        for who in AIOBATCH_VERSIONS:
            for key in _TARGET_KEYS:
                values = _values(measured[who], key)
                peer = min(PEERS, key=lambda peer: sum(_values(measured[peer], key)))
                for baseline, target in ((peer, "peer"), (_ORACLE, "oracle")):
                    other = Baseline(name=baseline, values=_values(measured[baseline], key))
                    what = f"{who}: {_COLUMNS[key]}"
                    rows.append(make_row(name, what, values, other, self.targets.get(target)))
        return rows


@attrs.frozen(kw_only=True)
class LeastLag:
    """The least lag that views alone can reach, for tokens that are applied after 2 to 10 s.

    Attributes:
        requests: The numbers of requests a token, one line each.
        ages: The number of possible ages of a poll.
    """

    rounds: int = 1
    requests: tuple[float, ...] = (2.0, 2.5, 2.8, 3.0, 3.5)
    ages: int = 250

    def run(self, name: str, rounds: int) -> list[Comparison]:  # noqa: ARG002 - the same in every round
        """Compute the least lag."""
        ages = [10 * step / self.ages for step in range(self.ages + 1)]
        lines = []
        for requests in self.requests:
            plan = least_lag(lambda age: min(max((age - 2) / 8, 0.0), 1.0), ages, requests)
            lines.append(
                ComparisonLine(
                    name=f"at {requests:g} requests a token", runs=1, values=(plan.requests, plan.lag)
                )
            )
        what = "Views only, if it is known that tokens are applied uniformly after 2 to 10 s"
        return [
            Comparison(
                scenario=name,
                what=what,
                columns=(_COLUMNS["requests_a_token"], _COLUMNS["lag_mean"]),
                lines=tuple(lines),
            )
        ]


def _values(measured: Sequence[Measures], key: str) -> list[float]:
    return [measures[key] for measures in measured]


def simulated_scenarios() -> dict[str, Simulated | LeastLag]:
    """Return the scenarios in virtual time, by name."""
    least = Target(sign="<=", bound=1.0, of="ratio")
    near = Target(sign="<=", bound=1.3, of="ratio")
    times = "log-normal times, median 20 s, p99 300 s; 5 requests/s"
    return {
        "budget": Simulated(
            what=f"10,000 tokens at once; {times}", load=Load(), targets={"peer": least, "oracle": near}
        ),
        "budget_spread": Simulated(
            rounds=3,
            what=f"10,000 tokens, 2 a second; {times}",
            load=Load(arrivals=2),
            targets={"peer": least},
        ),
        "least_lag": LeastLag(),
    }
