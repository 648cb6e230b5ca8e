"""The timer queue: one heap of what is due when, and one task that sleeps until the earliest entry."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any

from ..interfaces import Clock
from ._token_wait import TokenWait, Waiter

# Entries handled before the event loop runs other tasks.
_PER_TURN = 100
# Entries below which the heap is not searched for dead ones.
_PRUNE_AT = 1000

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class TimerQueue:
    """Entries with their times. Cancelling an entry leaves it in the heap, dead, and it is skipped later.

    Args:
        clock: The clock to sleep by.
        on_due: Called when an entry is due.
        spawn: Starts the task that sleeps.
    """

    def __init__(self, clock: Clock, on_due: Callable[[], None], spawn: Spawn) -> None:
        self.now = clock.monotonic
        self.sleep = clock.sleep
        self.spawn = spawn
        self._on_due = on_due
        # (when, number, token, waiter). An entry without a waiter is a poll, one without a token only wakes.
        self._heap: list[tuple[float, int, TokenWait | None, Waiter | None]] = []
        self._rescheduled: deque[TokenWait] = deque()  # due now, whatever their time in the heap
        self._prune_at = _PRUNE_AT
        self._numbers = itertools.count()
        self._sleeper: asyncio.Task[None] | None = None
        self._wakes_at = math.inf

    def __len__(self) -> int:
        return len(self._heap)

    def wake_at(self, when: float) -> None:
        """Wake at *when*, for no token."""
        self._push(when, None, None)

    def schedule(self, when: float, wait: TokenWait) -> None:
        """Make *wait* due at *when* instead of any earlier schedule of it."""
        wait.timer = self._push(when, wait, None)

    def reschedule_now(self, scheduled: Iterable[TokenWait]) -> None:
        """Make tokens that are scheduled due now, a limited number per turn."""
        self._rescheduled.extend(scheduled)

    def schedule_deadline(self, when: float, wait: TokenWait, waiter: Waiter) -> None:
        """Make the deadline of *waiter* due at *when*."""
        self._push(when, wait, waiter)

    def _push(self, when: float, wait: TokenWait | None, waiter: Waiter | None) -> int:
        if len(self._heap) >= self._prune_at:
            # Drop the deadlines of waits that ended early, and schedules that were replaced.
            self._heap = [entry for entry in self._heap if _is_live(*entry[1:])]
            heapq.heapify(self._heap)
            self._prune_at = _PRUNE_AT + 2 * len(self._heap)
        number = next(self._numbers)
        heapq.heappush(self._heap, (when, number, wait, waiter))
        return number

    def pop_due(self, now: float) -> Iterator[tuple[TokenWait, Waiter | None]]:
        """Remove and yield what is due, a limited number per turn."""
        for _ in range(_PER_TURN):
            if self._heap and self._heap[0][0] <= now:
                _, number, wait, waiter = heapq.heappop(self._heap)
                if wait is None or not _is_live(number, wait, waiter):
                    continue
            elif self._rescheduled:
                wait, waiter = self._rescheduled.popleft(), None
                if wait.timer is None:
                    continue  # it was polled or removed in the meantime
            else:
                return
            if waiter is None:
                wait.timer = None
            yield wait, waiter

    def arm(self) -> None:
        """Make the sleeping task wake at the earliest entry."""
        if not self._heap and not self._rescheduled:
            return
        due = self.now() if self._rescheduled else self._heap[0][0]
        if self._sleeper is not None:
            # A task that wakes too early costs nothing, so only an earlier entry replaces it.
            if due >= self._wakes_at:
                return
            self._sleeper.cancel()
        self._wakes_at = due
        self._sleeper = self.spawn(self._sleep(due - self.now()))

    async def _sleep(self, seconds: float) -> None:
        await self.sleep(max(0.0, seconds))
        self._sleeper = None
        self._wakes_at = math.inf
        self._on_due()

    def clear(self) -> list[asyncio.Task[None]]:
        """Remove all entries and return the task that sleeps, if there is one."""
        sleeper, self._sleeper = self._sleeper, None
        self._wakes_at = math.inf
        self._heap.clear()
        self._rescheduled.clear()
        return [] if sleeper is None else [sleeper]


def _is_live(number: int, wait: TokenWait | None, waiter: Waiter | None) -> bool:
    """Return whether an entry of the heap still counts."""
    if waiter is not None:
        return not waiter.is_done
    return wait is None or number == wait.timer
