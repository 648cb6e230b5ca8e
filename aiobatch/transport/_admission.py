"""Admission: when a request may go, by requests in flight, by the rate limit and by the circuit breaker."""

from __future__ import annotations

import asyncio
import math
import random

from ..interfaces import Clock
from ..options import Limits
from ._circuit_breaker import CircuitBreaker
from ._deadlines import Deadlines
from ._rate_limit import RateLimit, RateMeter

_TOO_MANY_REQUESTS = 429


class Admission:
    """Admits requests in their order of arrival.

    Args:
        limits: `rate`, `in_flight` and what is about pauses are read here.
        max_in_flight: Requests in flight at most.
        clock: The clock to sleep by.
        rng: The source of jitter.

    Attributes:
        requests: Requests admitted so far.
        in_flight: Requests in flight.
        queued: Requests that wait for admission.
    """

    def __init__(self, limits: Limits, max_in_flight: int, clock: Clock, rng: random.Random) -> None:
        self.requests = 0
        self.in_flight = 0
        self.queued = 0
        self.max_in_flight = max_in_flight
        self.meter = RateMeter(clock.monotonic())
        self.breaker = CircuitBreaker(limits, max_in_flight, rng)
        self._clock = clock
        self._rate_limit = RateLimit(limits.rate)
        # In flight and of the breaker's generation. Hanging requests from before a pause must not fill the
        # window that reopens after it.
        self._in_window = 0
        # Only the first request in the queue holds the turnstile and checks what to wait for, so a change
        # wakes one task, whatever the length of the queue.
        self._turnstile = asyncio.Lock()
        self._changed = asyncio.Event()
        self._deadlines = Deadlines(clock)

    @property
    def limit(self) -> float | None:
        """Requests per second that may go now: as configured, or fewer after a 429. None means no limit."""
        return self._rate_limit.current

    @property
    def rate(self) -> float:
        """Requests per second over the last seconds."""
        return self.meter.rate(self._clock.monotonic())

    @property
    def is_paused(self) -> bool:
        """Whether a 503 or 429 paused all requests."""
        return self.breaker.paused_since is not None

    @property
    def is_throttled(self) -> bool:
        """Whether a success changes anything: a refusal came before, or the window is not fully open."""
        breaker = self.breaker
        return (
            breaker.paused_since is not None
            or breaker.window < self.max_in_flight
            or self._rate_limit.is_lowered
        )

    @property
    def seconds_paused(self) -> float:
        """Seconds of all pauses, the current one included."""
        return self.breaker.seconds_paused(self._clock.monotonic())

    def is_free(self) -> bool:
        """Return whether a request may go at once. The queued ones keep their places.

        This is the hot path: without a limit and a pause it needs neither the clock nor the queue.
        """
        return (
            self.in_flight + self.queued < self.max_in_flight
            and self._in_window + self.queued < self.breaker.window
            and self.breaker.paused_since is None
            and self._rate_limit.current is None
        )

    def enter(self) -> None:
        """Count a request in. The first one during a pause is its probe."""
        self.requests += 1
        self.in_flight += 1
        self._in_window += 1
        if self.breaker.paused_since is not None:
            self.breaker.half_open = True
        if self._rate_limit.current is not None:
            self._rate_limit.take(self._clock.monotonic())

    async def wait(self, start_by: float = math.inf) -> None:
        """Wait in the queue until a request may go, then count it in.

        Raises:
            TimeoutError: It could not go before *start_by* on the clock. If a pause ends later, at once.
        """
        if self.seconds_to_probe() > start_by - self._clock.monotonic():
            raise TimeoutError
        if not self.queued:
            self._rate_limit.skip(self._clock.monotonic())
        self.queued += 1
        try:
            with self._deadlines.until(start_by):
                async with self._turnstile:
                    while (seconds := self._delay()) > 0:
                        await self._wait_at_head(seconds)
                    self.enter()
        finally:
            self.queued -= 1

    def seconds_to_probe(self) -> float:
        """Return the seconds until the next probe. 0 if there is no pause, or if the probe may go now."""
        if not self.is_paused:
            return 0.0
        return max(0.0, self.breaker.paused_until - self._clock.monotonic())

    @property
    def can_probe(self) -> bool:
        """Whether the next request would be the probe of a pause: no other one is waiting or in flight."""
        return not self.seconds_to_probe() and not self.breaker.half_open and not self.queued

    async def _wait_at_head(self, seconds: float) -> None:
        """Wait as the first in the queue. Only slots that a late timer missed are made up for."""
        was_paused = self.is_paused
        if seconds == math.inf:
            self._changed.clear()
            await self._changed.wait()
        else:
            await self._clock.sleep(seconds)
        if seconds == math.inf or was_paused:
            self._rate_limit.skip(self._clock.monotonic())

    def _delay(self) -> float:
        """Return the seconds until the next check: infinity to wait for a change, 0 to enter."""
        now = self._clock.monotonic()
        breaker = self.breaker
        if breaker.paused_since is not None:
            if breaker.paused_until > now:
                return breaker.paused_until - now
            if breaker.half_open:
                return math.inf
        elif self._in_window >= breaker.window:
            return math.inf
        if self.in_flight >= self.max_in_flight:
            return math.inf
        return max(0.0, self._rate_limit.delay(now))

    def leave(self, generation: int) -> None:
        """Count a request of *generation* out, and let the first in the queue check again."""
        self.in_flight -= 1
        if generation == self.breaker.generation:
            self._in_window -= 1
            self.breaker.half_open = False
        if self.queued:
            self._changed.set()

    def on_refusal(self, status: int, retry_after: float | None) -> float:
        """Pause, or pause longer, and lower the rate after a 429. Return the seconds until the next probe."""
        now = self._clock.monotonic()
        breaker = self.breaker
        if breaker.paused_since is None:
            self._in_window = 0
            if status == _TOO_MANY_REQUESTS:
                accepted = self.meter.rate(now, without=self.in_flight + 1)
                self._rate_limit.refuse(now, sent=self.meter.rate(now), accepted=accepted)
        breaker.on_failure(now, status, retry_after)
        return breaker.paused_until - now

    def on_success(self) -> float | None:
        """Raise the rate and widen the window. Return how many seconds a pause that ends now lasted."""
        now = self._clock.monotonic()
        self._rate_limit.accept(now, self.meter.rate(now))
        return self.breaker.on_success(now)
