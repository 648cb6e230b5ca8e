"""Waits for tokens in virtual time: what is waited for, the budget that all share, what is measured."""

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
    """What is to be waited for.

    Attributes:
        tokens: How many, each of an audience of its own.
        median: Seconds within which half of them are applied; the times are log-normal.
        p99: Seconds within which 99 of 100 are.
        arrivals: Tokens per second that come in, evenly; infinity for all at once.
        rate: Requests per second at most, of which each contender keeps to with the same margin.
        latency: Seconds that each answer takes; it says how things are when it leaves.
        timeout: Seconds that each wait may last, where the contender knows such a limit.
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
        """Return the share of tokens that are applied at *age*, seconds."""
        if age <= 0:
            return 0.0
        return statistics.NormalDist(math.log(self.median), self.sigma).cdf(math.log(age))


@attrs.frozen
class Token:
    """When a token comes in, and when it is applied."""

    born: float
    applied: float


def draw(load: Load, seed: int) -> list[Token]:
    """Draw tokens, in the order in which they come in."""
    rng = random.Random(seed)
    tokens = []
    for number in range(load.tokens):
        born = number / load.arrivals
        tokens.append(Token(born, born + rng.lognormvariate(math.log(load.median), load.sigma)))
    return tokens


class Line:
    """Requests in the order in which they came, as many a second as the budget allows."""

    def __init__(self, load: Load) -> None:
        self._latency = load.latency
        self._limit = RateLimit(load.rate)
        self.sent: list[float] = []

    def answered(self, now: float) -> float:
        """Send a request that is there at *now*, never before another's; tell when it is answered."""
        slot = max(now, now + self._limit.delay(now))
        self._limit.take(slot)
        self.sent.append(slot)
        return slot + self._latency


def measure(tokens: Sequence[Token], told: Sequence[float | None], sent: Sequence[float]) -> Measures:
    """Sum up what a contender did.

    Args:
        tokens: What it waited for.
        told: When it told of each; None for a lost wait, whose lag lasts until all others are through.
        sent: When it sent its requests.
    """
    end = max((when for when in told if when is not None), default=0.0)
    lags = [
        (max(end, token.applied) if when is None else when) - token.applied
        for token, when in zip(tokens, told, strict=True)
    ]
    check("waits that ended before their token was applied", sum(lag < 0 for lag in lags), 0)
    return {
        "requests_a_token": len(sent) / len(tokens),
        "lag_mean": statistics.fmean(lags),
        "lag_p99": quantile(lags, 0.99),
        "lost": told.count(None),
        "peak": max(Counter(int(when) for when in sent).values()),
    }


def run_oracle(load: Load, tokens: Sequence[Token]) -> Measures:
    """Ask about each token once, as soon as it is applied and there is budget: nobody can do better."""
    line = Line(load)
    order = sorted(range(len(tokens)), key=lambda number: tokens[number].applied)
    told: list[float | None] = [None] * len(tokens)
    for number in order:
        told[number] = line.answered(tokens[number].applied)
    return measure(tokens, told, line.sent)


Contender = Callable[[Load, Sequence[Token]], Measures]
