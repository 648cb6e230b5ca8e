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


class _UnlimitedQueue:
    """A request queue without a limit, in which no request waits."""

    queued = 0
    limit = None


UNLIMITED: RequestQueue = _UnlimitedQueue()


class PollLimiter:
    """Decides when the next poll may leave, by the policy and by the queue of requests that it joins."""

    def __init__(self, policy: PollingPolicy, request_queue: RequestQueue) -> None:
        self._policy = policy
        self._request_queue = request_queue
        self._next = -math.inf

    @property
    def limit(self) -> float | None:
        """Requests per second that may go, so that their order matters. None means no limit."""
        return self._request_queue.limit

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
        self._next = max(self._next, now - burst) + 1 / rate


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
