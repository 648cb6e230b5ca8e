"""The least mean lag for a number of requests, if only the distribution of times is known.

The polls of one token are a plan of ages. Dynamic programming from the last age to the first finds the best
plan for a price of a request. A bisection finds the price at which the plan makes that many requests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

# Bisections of the interval of prices.
_HALVINGS = 30
_DEAREST = 1e4


class Plan(NamedTuple):
    """The cost of a plan per token: requests and seconds of lag."""

    requests: float
    lag: float


def least_lag(share_applied: Callable[[float], float], ages: Sequence[float], requests: float) -> Plan:
    """Return the plan with the least mean lag for at most *requests* per token.

    Args:
        share_applied: Returns the share of tokens that are applied at an age in seconds.
        ages: The possible ages of polls, from 0 to one at which practically all tokens are applied.
        requests: The number of requests per token.
    """
    known = _Known(share_applied, ages)
    cheap, dear = 0.0, _DEAREST
    for _ in range(_HALVINGS):
        price = (cheap + dear) / 2
        if known.plan(price).requests > requests:
            cheap = price
        else:
            dear = price
    return known.plan(dear)


class _Known:
    """The distribution of times on a grid of ages."""

    def __init__(self, share_applied: Callable[[float], float], ages: Sequence[float]) -> None:
        self._ages = ages
        self._applied = [share_applied(age) for age in ages]
        self._sum = [0.0]  # ∫ of the share, by trapezoids
        for left in range(len(ages) - 1):
            mean = (self._applied[left] + self._applied[left + 1]) / 2
            self._sum.append(self._sum[-1] + mean * (ages[left + 1] - ages[left]))

    def plan(self, price: float) -> Plan:
        """Return the best plan if a request costs *price* seconds of lag."""
        last = len(self._ages) - 1
        best = [(0.0, 0.0, 0.0)] * (last + 1)  # cost, requests and lag from each age on, if still pending
        for start in range(last - 1, -1, -1):
            best[start] = min(
                self._step(start, stop, price, best[stop]) for stop in range(start + 1, last + 1)
            )
        return Plan(*best[0][1:])

    def _step(
        self, start: int, stop: int, price: float, rest: tuple[float, float, float]
    ) -> tuple[float, float, float]:
        """Return cost, requests and lag of a poll at *stop* for a token that is pending at *start*."""
        waited = self._ages[stop] - self._ages[start]
        lag = self._sum[stop] - self._sum[start] - self._applied[start] * waited
        requests = 1 - self._applied[start]
        return lag + price * requests + rest[0], requests + rest[1], lag + rest[2]
