"""Faults drawn at random or ordered by a test, and the rate limit."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Final

import attrs

from ..errors import InvalidInputError
from ._options import check_fault_kind, check_seconds
from ._routes import OPERATIONS

#: The longest Retry-After, in seconds, however low the rate.
_LONGEST_WAIT: Final = 86_400.0


@attrs.define(kw_only=True)
class _FaultOrder:
    """A fault for the next requests of one operation, or of any."""

    kind: str
    times: int
    operation: str | None


class FaultPlan:
    """Chooses the fault of each request, if any.

    Orders for the next requests come first, then orders for a period, then random faults.
    """

    def __init__(
        self, probabilities: Mapping[str, float], *, seed: int, monotonic: Callable[[], float]
    ) -> None:
        self._probabilities = probabilities
        self._random = random.Random(f"{seed}-faults")
        self._monotonic = monotonic
        self._ordered: list[_FaultOrder] = []
        self._lasting: list[tuple[str, float]] = []

    def fail_next(self, kind: str, times: int, operation: str | None) -> None:
        """Order a fault for the next requests."""
        if operation is not None and operation not in OPERATIONS:
            msg = f"operation {operation!r} is unknown. The operations are {', '.join(OPERATIONS)}."
            raise InvalidInputError(msg)
        if isinstance(times, bool) or not isinstance(times, int) or times < 1:
            msg = "times must be an integer of at least 1."
            raise InvalidInputError(msg)
        self._ordered.append(_FaultOrder(kind=check_fault_kind(kind), times=times, operation=operation))

    def fail_for(self, kind: str, seconds: float) -> None:
        """Order a fault for every request of a period from now."""
        until = self._monotonic() + check_seconds(seconds, "The duration of a fault")
        self._lasting.append((check_fault_kind(kind), until))

    def clear(self) -> None:
        """Drop all orders. Random faults stay."""
        self._ordered.clear()
        self._lasting.clear()

    def choose(self, operation: str) -> str | None:
        """Return the kind of fault for a request of this operation, and use it up."""
        return self._take_ordered(operation) or self._take_lasting() or self._draw()

    def _take_ordered(self, operation: str) -> str | None:
        for order in self._ordered:
            if order.operation in (None, operation):
                order.times -= 1
                if not order.times:
                    self._ordered.remove(order)
                return order.kind
        return None

    def _take_lasting(self) -> str | None:
        now = self._monotonic()
        self._lasting = [(kind, end) for kind, end in self._lasting if now < end]
        return self._lasting[0][0] if self._lasting else None

    def _draw(self) -> str | None:
        drawn = self._random.random()
        for kind, probability in self._probabilities.items():
            if drawn < probability:
                return kind
            drawn -= probability
        return None


class TokenBucket:
    """Limits the rate of requests. A burst can have the requests of one second, at least one."""

    def __init__(self, rate: float, *, monotonic: Callable[[], float]) -> None:
        self._rate = rate
        self._capacity = self._level = max(1.0, rate)
        self._monotonic = monotonic
        self._updated = monotonic()

    def take(self) -> float:
        """Admit a request and return 0, or return the seconds until the next one can be admitted."""
        now = self._monotonic()
        self._level = min(self._capacity, self._level + (now - self._updated) * self._rate)
        self._updated = now
        if self._level < 1:
            return min((1 - self._level) / self._rate, _LONGEST_WAIT)
        self._level -= 1
        return 0.0
