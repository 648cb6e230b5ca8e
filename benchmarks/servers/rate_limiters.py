"""Models of the rate limiters that servers use."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

import attrs


class Limiter(Protocol):
    """Admits requests up to a rate."""

    rate: float

    def delay(self, now: float) -> float:
        """Admit a request and return 0, or return the seconds until one would be admitted."""
        ...


@attrs.define
class Bucket:
    """A token bucket, as in most gateways and nginx's `limit_req`.

    Attributes:
        rate: The limit in requests per second.
        depth: The largest burst.
    """

    rate: float
    depth: float
    _level: float = attrs.field(init=False)
    _updated: float = attrs.field(init=False, default=0.0)

    def __attrs_post_init__(self) -> None:
        self._level = self.depth

    def delay(self, now: float) -> float:
        """See `Limiter`."""
        self._level = min(self._level + (now - self._updated) * self.rate, self.depth)
        self._updated = now
        if self._level < 1 - 1e-9:
            return (1 - self._level) / self.rate
        self._level -= 1
        return 0.0


@attrs.define
class FixedWindow:
    """A limit for each second of the clock."""

    rate: float
    _window: float = attrs.field(init=False, default=-1.0)
    _admitted: int = attrs.field(init=False, default=0)

    def delay(self, now: float) -> float:
        """See `Limiter`."""
        count, seconds = _window(self.rate)
        window = now // seconds
        if window != self._window:
            self._window, self._admitted = window, 0
        if self._admitted >= count:
            return (window + 1) * seconds - now
        self._admitted += 1
        return 0.0


@attrs.define
class SlidingWindow:
    """A limit for any period of a second."""

    rate: float
    _admitted: deque[float] = attrs.field(init=False, factory=deque)

    def delay(self, now: float) -> float:
        """See `Limiter`."""
        count, seconds = _window(self.rate)
        while self._admitted and self._admitted[0] <= now - seconds + 1e-9:
            self._admitted.popleft()
        if len(self._admitted) >= count:
            return self._admitted[0] + seconds - now
        self._admitted.append(now)
        return 0.0


@attrs.define
class Gcra:
    """The generic cell rate algorithm with a tolerance of 0.25 s, as in Redis modules."""

    rate: float
    tolerance: float = 0.25
    _expected: float = attrs.field(init=False, default=-math.inf)

    def delay(self, now: float) -> float:
        """See `Limiter`."""
        expected = max(self._expected, now)
        if expected - now > self.tolerance + 1e-9:
            return expected - now - self.tolerance
        self._expected = expected + 1 / self.rate
        return 0.0


def _window(rate: float) -> tuple[int, float]:
    """Return a whole number of requests and the seconds in which they are admitted, about one."""
    count = max(1, round(rate))
    return count, count / rate


LIMITERS: Mapping[str, Callable[[float], Limiter]] = {
    "bucket of 1": lambda rate: Bucket(rate, 1),
    "bucket of a second": lambda rate: Bucket(rate, max(1, rate)),
    "fixed window": FixedWindow,
    "sliding window": SlidingWindow,
    "GCRA": Gcra,
}

# As nginx's `limit_req` with `burst`.
BURSTS: Mapping[str, Callable[[float], Limiter]] = {
    "no burst": lambda rate: Bucket(rate, 1),
    "a burst of 1": lambda rate: Bucket(rate, 2),
    "a burst of 5": lambda rate: Bucket(rate, 6),
}
