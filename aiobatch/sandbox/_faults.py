"""What goes wrong, when: faults drawn by chance, ordered by a test, or earned by asking too often."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Final

import attrs

from ..errors import InvalidInputError
from ._options import check_fault_kind, check_seconds
from ._routes import OPERATIONS

#: Seconds that a refused request is told to wait at most, however low the rate.
_LONGEST_WAIT: Final = 86_400.0


@attrs.define(kw_only=True)
class _FaultOrder:
    """A fault for the next requests of an operation, or of any."""

    kind: str
    times: int
    operation: str | None


class FaultPlan:
    """Decide which fault, if any, befalls a request.

    What was ordered for the next requests comes first, then what was ordered for some time, then chance.
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
            msg = f"there is no operation {operation!r}; the operations are {', '.join(OPERATIONS)}"
            raise InvalidInputError(msg)
        if isinstance(times, bool) or not isinstance(times, int) or times < 1:
            msg = "times must be at least 1, as an int"
            raise InvalidInputError(msg)
        self._ordered.append(_FaultOrder(kind=check_fault_kind(kind), times=times, operation=operation))

    def fail_for(self, kind: str, seconds: float) -> None:
        """Order a fault for every request of a stretch of time."""
        until = self._monotonic() + check_seconds(seconds, "how long a fault lasts,")
        self._lasting.append((check_fault_kind(kind), until))

    def clear(self) -> None:
        """Forget what was ordered; chance stays."""
        self._ordered.clear()
        self._lasting.clear()

    def choose(self, operation: str) -> str | None:
        """Return the kind of fault for a request of this operation, which uses it up."""
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
    """Let through a rate of requests, in bursts of as many as a second brings (at least one)."""

    def __init__(self, rate: float, *, monotonic: Callable[[], float]) -> None:
        self._rate = rate
        self._capacity = self._level = max(1.0, rate)
        self._monotonic = monotonic
        self._updated = monotonic()

    def take(self) -> float:
        """Take a request's share, or return the seconds until there is one."""
        now = self._monotonic()
        self._level = min(self._capacity, self._level + (now - self._updated) * self._rate)
        self._updated = now
        if self._level < 1:
            return min((1 - self._level) / self._rate, _LONGEST_WAIT)
        self._level -= 1
        return 0.0
