"""The queue of due polls, and the limiter that releases them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Protocol

from ..options import PollingPolicy
from ._token_wait import TokenWait

# Seconds' worth of queued requests above which no poll joins them. A poll that has joined cannot be replaced
# by a more useful one, so polls are chosen late.
_MAX_QUEUED_SECONDS = 0.1
# Seconds between two sorts, for each token in the queue. Sorting takes microseconds for each.
_SORT_INTERVAL = 3e-3
# Seconds until the next check of a pause, while a probe is in flight.
_PROBE_INTERVAL = 0.05
# Seconds after a pause in which polls leave at a limited rate, so that all those that became due meanwhile do
# not burst upon a server that has just recovered. The rate is a multiple of that in the busiest tenth of a
# second before. The last number, polls per second, is always allowed.
_CALM_SECONDS, _CALM_FACTOR, _CALM_RATE = 1.0, 1.5, 50.0


class RequestQueue(Protocol):
    """The queue that all requests of the client wait in, as seen from the poller."""

    @property
    def queued(self) -> int:
        """Requests that wait for admission."""
        ...

    @property
    def limit(self) -> float | None:
        """Requests per second that may go now. None means no limit."""
        ...

    @property
    def poll_at(self) -> float | None:
        """When a poll may probe whether a pause is over, on the clock. None if there is no pause."""
        ...

    @property
    def resumed_at(self) -> float:
        """When the last pause ended, on the clock."""
        ...


class _UnlimitedQueue:
    """A request queue without a limit, in which no request waits."""

    queued = 0
    limit = None
    poll_at = None
    resumed_at = -math.inf


UNLIMITED: RequestQueue = _UnlimitedQueue()


class PollLimiter:
    """Decides when the next poll may leave, by the policy and by the queue of requests that it joins."""

    def __init__(self, policy: PollingPolicy, request_queue: RequestQueue) -> None:
        self._policy = policy
        self._request_queue = request_queue
        self._next = -math.inf
        self._probed = -math.inf  # the `poll_at` that a poll has probed for
        self._tenth = self._in_tenth = self._busiest = 0

    @property
    def limit(self) -> float | None:
        """Requests per second that may go, so that their order matters. None means no limit."""
        return self._request_queue.limit

    @property
    def poll_at(self) -> float | None:
        """When a poll may probe whether a pause is over, on the clock. None if there is no pause."""
        return self._request_queue.poll_at

    def delay(self, now: float, in_flight: int, *, urgent: bool) -> float:
        """Return the seconds until the next poll may leave: 0 for now, infinity until one in flight ends.

        Args:
            now: Monotonic seconds.
            in_flight: Polls in flight.
            urgent: Whether the next poll ignores the limit because its deadline has come.
        """
        if in_flight >= self._policy.in_flight:
            return math.inf
        limit = self.limit
        if limit is not None and urgent:
            return 0.0
        if (poll_at := self.poll_at) is not None and not urgent:
            return max(poll_at - now, 0.0 if poll_at > self._probed else _PROBE_INTERVAL)
        if self._next > now:
            return self._next - now
        if limit is None or not in_flight or self._request_queue.queued < limit * _MAX_QUEUED_SECONDS:
            return 0.0
        return 1 / limit

    def take(self, now: float) -> None:
        """Count a poll that leaves at *now*."""
        rate, burst = self._policy.rate, self._policy.in_flight / self._policy.rate
        if self.limit is not None and self.limit < rate:
            rate, burst = self.limit, 0.0
        if self.poll_at is not None:
            self._probed = self.poll_at
        if now < self._request_queue.resumed_at + _CALM_SECONDS:
            rate, burst = min(rate, max(_CALM_RATE, _CALM_FACTOR * 10 * self._busiest)), 0.0
        else:
            self._count(now)
        self._next = max(self._next, now - burst) + 1 / rate

    def _count(self, now: float) -> None:
        """Count a poll, for the busiest tenth of a second."""
        tenth = int(now * 10)
        if tenth != self._tenth:
            self._tenth, self._in_tenth = tenth, 0
        self._in_tenth += 1
        self._busiest = max(self._busiest, self._in_tenth)


class PollQueue:
    """Tokens that are due, in their order of arrival. If requests are limited, the highest priority is first.

    A new arrival has only just become due, so its priority is the lowest and the order need not be updated.

    Args:
        priority: Returns the priority of a token at a time.
        limiter: Decides when the first token leaves.
    """

    def __init__(self, priority: Callable[[TokenWait, float], float], limiter: PollLimiter) -> None:
        self.limiter = limiter
        self._priority = priority
        # A token that leaves the middle stays here with `queued` unset, and is skipped.
        self._waits: deque[TokenWait] = deque()
        self._sorted_at = -math.inf

    @property
    def first(self) -> TokenWait | None:
        """The next token to poll, or None if the queue is empty."""
        while self._waits and not self._waits[0].queued:
            self._waits.popleft()
        return self._waits[0] if self._waits else None

    def append(self, wait: TokenWait) -> None:
        """Add *wait* at the end."""
        wait.queued = True
        self._waits.append(wait)

    def prepend(self, wait: TokenWait) -> None:
        """Add *wait* ahead of all others. An earlier entry of it is skipped later."""
        wait.queued = True
        self._waits.appendleft(wait)

    def pop(self) -> TokenWait:
        """Remove and return the first token."""
        wait = self._waits.popleft()
        wait.queued = False
        return wait

    def sort(self, now: float) -> None:
        """Sort by priority, unless the last sort is too recent for the queue's length."""
        if now - self._sorted_at < _SORT_INTERVAL * len(self._waits):
            return
        self._sorted_at = now
        priorities = {wait: self._priority(wait, now) for wait in self._waits if wait.queued}
        self._waits = deque(sorted(priorities, key=priorities.__getitem__, reverse=True))

    def clear(self) -> None:
        """Remove all tokens."""
        self._waits.clear()
