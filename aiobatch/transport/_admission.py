"""Admission: when a request may go, by requests in flight, by the rate limit and by the circuit breaker."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable

from ..interfaces import Clock
from ..options import Limits
from ._circuit_breaker import CircuitBreaker
from ._deadlines import Deadlines
from ._rate_limit import RateLimit, RateMeter
from ._sharing import RateGroup, SharedLimit

_TOO_MANY_REQUESTS = 429
# Seconds between two looks of a poll at a pause, while a probe is in flight.
_LOOK = 0.05


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
        group: The clients that share a limit with this one.
        on_follow: Called when another client's pause starts, with its seconds, or ends, with None and how
            long it lasted.
    """

    def __init__(self, limits: Limits, max_in_flight: int, clock: Clock, rng: random.Random) -> None:
        self.requests = 0
        self.in_flight = 0
        self.queued = 0
        self.max_in_flight = max_in_flight
        self.meter = RateMeter(clock.monotonic())
        self.breaker = CircuitBreaker(limits, max_in_flight, rng)
        self.group = RateGroup()
        self.group.add_now(self)
        self.on_follow: Callable[[float | None, float], None] = lambda _seconds, _lasted: None
        self._clock = clock
        self._rate = limits.rate
        self._rate_limit = RateLimit(limits.rate, self.group.process.state)
        # In flight and of the breaker's generation. Hanging requests from before a pause must not fill the
        # window that reopens after it.
        self._in_window = 0
        # Only the first request in the queue holds the turnstile and checks what to wait for, so a change
        # wakes one task, whatever the length of the queue.
        self._turnstile = asyncio.Lock()
        self._changed = asyncio.Event()
        self._deadlines = Deadlines(clock)
        # Calls that send many requests wait in the lobby. The first one joins the queue when the last one of
        # them has left it, after so many requests.
        self._lobby = asyncio.Lock()
        self._left_queue = asyncio.Event()
        self._room_at = 0

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
        """Count a request in, which has its slot. The first one during a pause is its probe."""
        self.requests += 1
        self.in_flight += 1
        self._in_window += 1
        if self.breaker.paused_since is not None:
            self.breaker.half_open = True
            self.breaker.is_early = self._clock.monotonic() < self.breaker.paused_until
            self.group.on_probe(self, is_sent=True)

    async def wait(self, start_by: float = math.inf, *, fail_when_paused: bool = False) -> None:
        """Wait in the queue until a request may go, then count it in.

        Args:
            start_by: When it must go, on the clock.
            fail_when_paused: Whether to give up when it turns out that another process paused.

        Raises:
            TimeoutError: It could not go before *start_by* on the clock. If a pause ends later, at once.
        """
        if self.seconds_to_probe() > start_by - self._clock.monotonic():
            raise TimeoutError
        if not self.group.queued:
            self._skip_slots()
        self.queued += 1
        try:
            with self._deadlines.until(start_by):
                async with self._turnstile:
                    while not await self._wait_for_turn():
                        if fail_when_paused and self.is_paused:
                            raise TimeoutError
                    self.enter()
        finally:
            self.queued -= 1
            self._left_queue.set()

    async def wait_for_room(self) -> None:
        """Wait until no earlier call of many queues for the rate limit.

        A call that sends many requests waits here before each of them, for any time. So its requests join
        the queue one by one, and each needs to wait there for few others.
        """
        if self.has_room:
            return
        async with self._lobby:
            while self.requests < self._room_at and not self.has_room:
                self._left_queue.clear()
                await self._left_queue.wait()
            self._room_at = self.requests + self.queued + 1

    @property
    def has_room(self) -> bool:
        """Whether requests need not join the queue one by one. During a pause its length means nothing."""
        return not self.queued or self._rate_limit.current is None or self.is_paused

    async def _wait_for_turn(self) -> bool:
        """Wait until the first in the queue may go. Return whether nothing came up meanwhile."""
        while (seconds := self._blocked()) > 0:
            await self._wait_until_unblocked(seconds)
        if self._rate_limit.current is None:
            return True
        async with self.group.turn:
            return await self._wait_for_slot()

    async def _wait_for_slot(self) -> bool:
        """Wait for a slot and take it. Only slots that a late timer missed are made up for."""
        while not self._blocked():
            shared = self.group.shared
            seconds = None
            if shared is not None:
                ceiling, more = self._rate or math.inf, self.group.queued > 1
                seconds = await shared.ask(ceiling, more=more)
            if seconds is None:
                seconds = self._take_slot()
            elif not seconds and not self._blocked():
                self._rate_limit.take(self._clock.monotonic())
            if seconds <= 0:
                break
            if not self._blocked():
                await self._clock.sleep(seconds)
        return not self._blocked()

    def _take_slot(self) -> float:
        """Take the next slot if it has come. Return the seconds until it comes, else 0 or less."""
        now = self._clock.monotonic()
        with self.group.process.lock:  # another thread may take it
            seconds = self._rate_limit.delay(now)
            if seconds <= 0:
                self._rate_limit.take(now)
        return seconds

    def _skip_slots(self) -> None:
        """Drop the slots before now."""
        with self.group.process.lock:
            self._rate_limit.skip(self._clock.monotonic())

    @property
    def poll_at(self) -> float | None:
        """When a poll may probe, on the clock. None if there is no pause."""
        return self.breaker.poll_at if self.is_paused else None

    @property
    def resumed_at(self) -> float:
        """When the last pause ended, on the clock."""
        return self.breaker.resumed_at

    async def wait_to_probe(self) -> None:
        """Wait during a pause until a poll may probe."""
        while (poll_at := self.poll_at) is not None:
            now = self._clock.monotonic()
            if now >= poll_at and not self.breaker.half_open:
                return
            await self._clock.sleep(max(poll_at - now, _LOOK))

    def can_probe_ahead(self) -> bool:
        """Return whether a poll may probe at once, ahead of the queue. Take its slot."""
        breaker, now = self.breaker, self._clock.monotonic()
        return (
            breaker.paused_since is not None
            and breaker.poll_at <= now
            and not breaker.half_open
            and self.in_flight < self.max_in_flight
            and self.group.shared is None
            and (self._rate_limit.current is None or self._take_slot() <= 0)
        )

    def seconds_to_probe(self) -> float:
        """Return the seconds until the next probe. 0 if there is no pause, or if the probe may go now."""
        if not self.is_paused:
            return 0.0
        return max(0.0, self.breaker.paused_until - self._clock.monotonic())

    @property
    def can_probe(self) -> bool:
        """Whether the next request would be the probe of a pause: no other one is waiting or in flight."""
        return not self.seconds_to_probe() and not self.breaker.half_open and not self.queued

    async def _wait_until_unblocked(self, seconds: float) -> None:
        """Wait as the first in the queue. The slots that pass are lost."""
        if seconds == math.inf:
            self._changed.clear()
            await self._changed.wait()
        else:
            await self._clock.sleep(seconds)
        self._skip_slots()

    def _blocked(self) -> float:
        """Return the seconds until the next check, apart from the rate: infinity to wait for a change."""
        breaker = self.breaker
        if breaker.paused_since is not None:
            now = self._clock.monotonic()
            if breaker.paused_until > now:
                return breaker.paused_until - now
            if breaker.half_open:
                return math.inf
        elif self._in_window >= breaker.window:
            return math.inf
        return math.inf if self.in_flight >= self.max_in_flight else 0.0

    def leave(self, generation: int) -> None:
        """Count a request of *generation* out, and let the first in the queue check again."""
        self.in_flight -= 1
        if generation == self.breaker.generation:
            self._in_window -= 1
            if self.breaker.half_open:
                self.breaker.half_open = False
                self.group.on_probe(self, is_sent=False)
                if self._shared is not None:
                    self._shared.note_probe_ended()
        if self.queued:
            self._changed.set()

    def on_refusal(self, status: int, retry_after: float | None) -> float | None:
        """Pause, or pause longer, and lower the rate after a 429.

        Returns:
            The seconds until the next probe. None if only a poll was refused that probed early.
        """
        now = self._clock.monotonic()
        breaker, shared = self.breaker, self._shared
        if breaker.paused_since is None:
            self._in_window = 0
            if status == _TOO_MANY_REQUESTS:
                self._lower_rate(now)
        if not breaker.on_failure(now, status, retry_after):
            return None
        self._left_queue.set()
        self.group.on_pause(self)
        if shared is not None:
            shared.note_pause(breaker.paused_until, breaker.status, breaker.failures)
        return breaker.paused_until - now

    def on_success(self) -> float | None:
        """Raise the rate and widen the window. Return how many seconds a pause that ends now lasted."""
        now, shared = self._clock.monotonic(), self._shared
        if shared is None:
            with self.group.process.lock:
                self._rate_limit.accept(now, self.group.rate(now))
        elif self._rate_limit.is_lowered:
            shared.note_accepted(self._rate or math.inf)
        lasted = self.breaker.on_success(now)
        if lasted is not None:
            self.group.on_resume(self)
            if shared is not None:
                shared.note_resumed()
        return lasted

    def _lower_rate(self, now: float) -> None:
        """Lower the rate after a 429."""
        in_flight = self.group.in_flight + 1
        if self._shared is not None:
            self._shared.note_refused(self._rate or math.inf, in_flight)
            return
        accepted = self.group.rate(now, without=in_flight)
        with self.group.process.lock:
            self._rate_limit.refuse(now, sent=self.group.rate(now), accepted=accepted)

    # -- other clients ----------------------------------------------------------------------------------

    @property
    def _shared(self) -> SharedLimit | None:
        """The limit that other processes share, unless it cannot be reached."""
        shared = self.group.shared
        return None if shared is None or shared.is_down else shared

    async def join(self, group: RateGroup) -> None:
        """Share the limit of *group*.

        Raises:
            InvalidInputError: The store of a shared limit can never be used.
        """
        await group.add(self)
        self.group = group
        self._rate_limit.state = group.process.state

    async def leave_group(self) -> None:
        """Share the limit no longer. The group ends with its last client."""
        group, self.group = self.group, RateGroup()
        self.group.add_now(self)
        await group.remove(self)

    async def publish(self) -> None:
        """Publish a pause or its end to other processes."""
        shared = self.group.shared
        if shared is not None and shared.has_news:
            await shared.publish()

    def follow_pause(self, until: float, status: int, failures: int) -> None:
        """Pause until *until*, because a refusal paused another client."""
        now = self._clock.monotonic()
        if not self.is_paused:
            self._in_window = 0
        self.breaker.follow(now, until, status, failures)
        self._changed.set()
        self._left_queue.set()
        self.on_follow(self.breaker.paused_until - now, 0.0)

    def follow_resume(self) -> None:
        """End the pause, because the probe of another client succeeded."""
        if self.is_paused:
            lasted = self.breaker.on_success(self._clock.monotonic())
            self.breaker.half_open = False
            self._changed.set()
            self.on_follow(None, lasted or 0.0)

    def follow_probe(self, *, is_sent: bool) -> None:
        """Wait for the probe of another client, or stop waiting for it."""
        self.breaker.half_open = is_sent
        self._changed.set()

    def use_share(self, share: float) -> None:
        """Send at most this share of the configured rate."""
        self._rate_limit.ceiling = None if self._rate is None else self._rate * share
