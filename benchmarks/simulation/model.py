"""The model of waits in virtual time: tokens, the shared budget, the measures."""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter
from collections.abc import Callable, Sequence

import attrs

from aiobatch.transport._rate_limit import RateLimit

from ..measure.processes import Measures
from ..measure.resources import check, quantile


@attrs.frozen(kw_only=True)
class Load:
    """The tokens and the budget.

    Attributes:
        tokens: The number of tokens, each with its own audience.
        median: The median of the seconds until a token is applied. The times are log-normal.
        p99: Seconds within which 99 of 100 are.
        arrivals: New tokens per second, evenly spaced. Infinity for all at once.
        rate: The limit in requests per second, which each contender keeps with the same margin.
        latency: Seconds of each request. The response has the state of the moment it is sent.
        timeout: The limit of each wait in seconds, if the contender has one.
    """

    tokens: int = 10_000
    median: float = 20.0
    p99: float = 300.0
    arrivals: float = math.inf
    rate: float = 5.0
    latency: float = 0.02
    timeout: float = 3_600.0

    @property
    def sigma(self) -> float:
        """The standard deviation of the logarithm of the times."""
        return math.log(self.p99 / self.median) / statistics.NormalDist().inv_cdf(0.99)

    def share_applied(self, age: float) -> float:
        """Return the share of tokens that are applied at *age* seconds."""
        if age <= 0:
            return 0.0
        return statistics.NormalDist(math.log(self.median), self.sigma).cdf(math.log(age))


@attrs.frozen
class Token:
    """A token: when it is issued and when it is applied."""

    born: float
    applied: float


def draw(load: Load, seed: int) -> list[Token]:
    """Draw tokens in the order of issue."""
    rng = random.Random(seed)
    tokens = []
    for number in range(load.tokens):
        born = number / load.arrivals
        tokens.append(Token(born, born + rng.lognormvariate(math.log(load.median), load.sigma)))
    return tokens


class BudgetQueue:
    """A queue of requests with the rate of the budget."""

    def __init__(self, load: Load) -> None:
        self._latency = load.latency
        self._limit = RateLimit(load.rate)
        self.sent: list[float] = []

    def answered(self, now: float) -> float:
        """Queue a request at *now*, and return when it is answered."""
        slot = max(now, now + self._limit.delay(now))
        self._limit.take(slot)
        self.sent.append(slot)
        return slot + self._latency


def measure(tokens: Sequence[Token], ended: Sequence[float | None], sent: Sequence[float]) -> Measures:
    """Return the measures of a contender.

    Args:
        tokens: The tokens.
        ended: The time when each wait ended. None for a lost wait, whose lag lasts until the others end.
        sent: The times of its requests.
    """
    end = max((when for when in ended if when is not None), default=0.0)
    lags = [
        (max(end, token.applied) if when is None else when) - token.applied
        for token, when in zip(tokens, ended, strict=True)
    ]
    check("waits that ended before their token was applied", sum(lag < 0 for lag in lags), 0)
    return {
        "requests_a_token": len(sent) / len(tokens),
        "lag_mean": statistics.fmean(lags),
        "lag_p99": quantile(lags, 0.99),
        "lost": ended.count(None),
        "peak": max(Counter(int(when) for when in sent).values()),
    }


def run_oracle(load: Load, tokens: Sequence[Token]) -> Measures:
    """Poll each token once, as soon as it is applied and the budget allows: the optimum."""
    line = BudgetQueue(load)
    order = sorted(range(len(tokens)), key=lambda number: tokens[number].applied)
    ended: list[float | None] = [None] * len(tokens)
    for number in order:
        ended[number] = line.answered(tokens[number].applied)
    return measure(tokens, ended, line.sent)


SimulatedContender = Callable[[Load, Sequence[Token]], Measures]
