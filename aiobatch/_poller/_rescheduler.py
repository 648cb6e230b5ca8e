"""What is learned may call for answers sooner than was planned: the plans are gone through again."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ._schedule import Timing
from ._timer_queue import Agenda
from ._token_wait import Group

# Seconds between two reviews at least.
_INTERVAL = 0.25


class Review:
    """Has tokens looked at again of which an answer is wanted much sooner than was planned.

    Args:
        timing: Says which.
        agenda: What was planned.
        groups: The tokens waited for, by audience.
    """

    def __init__(self, timing: Timing, agenda: Agenda, groups: Mapping[str, Group]) -> None:
        self._timing = timing
        self._agenda = agenda
        self._groups = groups
        self._next = -math.inf
        self._has_news = False

    def announce(self, now: float) -> None:
        """Plan a review: something was learned."""
        if not self._has_news:
            self._has_news = True
            self._agenda.wake_at(max(now, self._next))

    def make_if_due(self, now: float) -> None:
        """Go through what was planned, unless nothing was learned or that was done a moment ago."""
        if not self._has_news or now < self._next:
            return
        self._next, self._has_news = now + _INTERVAL, False
        is_hastened = self._timing.hastened()
        if is_hastened is None:
            return
        active = (pending for group in self._groups.values() for pending in group.active.values())
        self._agenda.look_again(
            pending for pending in active if pending.check is not None and is_hastened(pending)
        )

    def stop(self) -> None:
        """Forget what was announced: the agenda is empty."""
        self._has_news = False
