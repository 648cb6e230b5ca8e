"""How early one can know, at so many requests, who knows how long tokens take but not which takes how long.

Polls of one token are a plan of ages. Of all plans the best one for a price of a request is found from the
last age to the first (dynamic programming); then the price is sought at which it makes so many requests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

# Halvings of the interval that holds the price.
_HALVINGS = 30
_DEAREST = 1e4


class Plan(NamedTuple):
    """What a plan costs, a token: requests, and seconds of lag."""

    requests: float
    lag: float


def least_lag(share_applied: Callable[[float], float], ages: Sequence[float], requests: float) -> Plan:
    """Return the plan of the least mean lag that makes as many requests as are asked for, or fewer.

    Args:
        share_applied: Age, seconds -> share of the tokens that are applied by then.
        ages: The ages at which polls may be, from 0 to one at which all are applied, or as good as.
        requests: How many a token.
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
    """What is known of tokens, at each age of a grid."""

    def __init__(self, share_applied: Callable[[float], float], ages: Sequence[float]) -> None:
        self._ages = ages
        self._applied = [share_applied(age) for age in ages]
        self._sum = [0.0]  # ∫ of the share, by trapezes
        for left in range(len(ages) - 1):
            mean = (self._applied[left] + self._applied[left + 1]) / 2
            self._sum.append(self._sum[-1] + mean * (ages[left + 1] - ages[left]))

    def plan(self, price: float) -> Plan:
        """Return the plan that is best at so many seconds of lag a request."""
        last = len(self._ages) - 1
        best = [(0.0, 0.0, 0.0)] * (last + 1)  # cost, requests and lag from each age on, seen pending there
        for start in range(last - 1, -1, -1):
            best[start] = min(
                self._step(start, stop, price, best[stop]) for stop in range(start + 1, last + 1)
            )
        return Plan(*best[0][1:])

    def _step(
        self, start: int, stop: int, price: float, rest: tuple[float, float, float]
    ) -> tuple[float, float, float]:
        """Return cost, requests and lag of one more poll, at *stop*, by those that are pending at *start*."""
        waited = self._ages[stop] - self._ages[start]
        lag = self._sum[stop] - self._sum[start] - self._applied[start] * waited
        requests = 1 - self._applied[start]
        return lag + price * requests + rest[0], requests + rest[1], lag + rest[2]
