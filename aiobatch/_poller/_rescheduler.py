"""Rescheduling of polls that new observations make due earlier."""

from __future__ import annotations

import math

from ._subscriptions import Subscriptions

# Seconds between two runs at least.
_INTERVAL = 0.25


class Rescheduler:
    """Moves polls forward after the schedule learned that they are due much earlier."""

    def __init__(self, subscriptions: Subscriptions) -> None:
        self._subscriptions = subscriptions
        self._next = -math.inf
        self._is_requested = False

    def request(self, now: float) -> None:
        """Request a run, because something was learned."""
        if not self._is_requested:
            self._is_requested = True
            self._subscriptions.timers.wake_at(max(now, self._next))

    def run_if_due(self, now: float) -> None:
        """Move polls forward, unless no run was requested or the last one is too recent."""
        if not self._is_requested or now < self._next:
            return
        self._next, self._is_requested = now + _INTERVAL, False
        is_due_earlier = self._subscriptions.schedule.due_earlier()
        if is_due_earlier is None:
            return
        audiences = self._subscriptions.audiences.values()
        active = (wait for tokens in audiences for wait in tokens.active.values())
        self._subscriptions.timers.reschedule_now(
            wait for wait in active if wait.timer is not None and is_due_earlier(wait)
        )

    def reset(self) -> None:
        """Forget a request, because the timer queue was cleared."""
        self._is_requested = False
