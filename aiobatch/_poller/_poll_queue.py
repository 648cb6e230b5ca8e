"""Who may be asked about now, and how many of them: a line, and the gate at its head."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Protocol

from ..options import PollingPolicy
from ._token_wait import Pending

# Seconds of requests beyond which no poll joins those that wait: they have been chosen, and whom to ask
# next is better chosen late.
_AHEAD = 0.1
# Seconds for each token in line until the line is sorted again, which takes microseconds for each.
_SORTED = 3e-3


class Pace(Protocol):
    """What is known of the line in which all requests of the client stand."""

    @property
    def queued(self) -> int:
        """Requests that wait for admission."""
        ...

    @property
    def limit(self) -> float | None:
        """Requests per second that may go now; None for no limit."""
        ...


class _Unpaced:
    """No line: every request goes at once."""

    queued = 0
    limit = None


UNPACED: Pace = _Unpaced()


class Gate:
    """Says when the next poll may leave.

    Args:
        policy: How many at once, how many a second.
        pace: The line behind the gate.
    """

    def __init__(self, policy: PollingPolicy, pace: Pace) -> None:
        self._policy = policy
        self._pace = pace
        self._next = -math.inf

    @property
    def limit(self) -> float | None:
        """Requests per second that may go, so that it matters which goes first; None for no limit."""
        return self._pace.limit

    def delay(self, now: float, under_way: int, *, urgent: bool) -> float:
        """Return the seconds after which to ask again; 0 when a poll may leave, infinity until one ends.

        Args:
            now: The clock's.
            under_way: Polls that have left and not ended.
            urgent: Whether the next one cannot wait for the limit's sake.
        """
        if under_way >= self._policy.in_flight:
            return math.inf
        limit = self.limit
        if limit is not None and urgent:
            return 0.0
        if self._next > now:
            return self._next - now
        if limit is None or not under_way or self._pace.queued < limit * _AHEAD:
            return 0.0
        return 1 / limit

    def take(self, now: float) -> None:
        """Let one poll leave."""
        rate, burst = self._policy.rate, self._policy.in_flight / self._policy.rate
        if self.limit is not None and self.limit < rate:
            rate, burst = self.limit, 0.0
        self._next = max(self._next, now - burst) + 1 / rate


class Line:
    """Tokens that are due, in the order in which they came; where they have to wait, by what each is worth.

    Who comes is worth least: it has only just become due. So the order need not be made anew each time.

    Args:
        worth: Tells what it is worth to ask about a token now.
        gate: What they wait at.
    """

    def __init__(self, worth: Callable[[Pending, float], float], gate: Gate) -> None:
        self.gate = gate
        self._worth = worth
        self._line: deque[Pending] = deque()  # whoever is not queued any more is passed over
        self._sorted_at = -math.inf

    @property
    def first(self) -> Pending | None:
        """Who is asked about next; None for nobody."""
        while self._line and not self._line[0].queued:
            self._line.popleft()
        return self._line[0] if self._line else None

    def put(self, pending: Pending) -> None:
        """Let *pending* stand in line."""
        pending.queued = True
        self._line.append(pending)

    def put_first(self, pending: Pending) -> None:
        """Let *pending* stand ahead of all others."""
        pending.queued = True
        self._line.appendleft(pending)  # where it stood before, it will be passed over

    def pop(self) -> Pending:
        """Let the first go."""
        pending = self._line.popleft()
        pending.queued = False
        return pending

    def sort(self, now: float) -> None:
        """Put first who is worth most, unless that was done a moment ago, by the line's length."""
        if now - self._sorted_at < _SORTED * len(self._line):
            return
        self._sorted_at = now
        worths = {pending: self._worth(pending, now) for pending in self._line if pending.queued}
        self._line = deque(sorted(worths, key=worths.__getitem__, reverse=True))

    def clear(self) -> None:
        """Send all away."""
        self._line.clear()
