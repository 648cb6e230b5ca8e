"""What is due when: one heap, and one sleeper that wakes for the earliest of it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any

from .._clock import Clock
from ._token_wait import Pending, Waiter

_NEVER = float("inf")
# Entries handled before the host's own tasks get their turn.
_PER_TURN = 100
# Entries below which the heap is not searched for dead ones.
_PRUNE_AT = 1000

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Agenda:
    """Entries with their times; an entry that means nothing any more is passed over.

    Args:
        clock: Tells the time and sleeps.
        wake: Called when something is due.
        spawn: Starts the sleeper's task.
    """

    def __init__(self, clock: Clock, wake: Callable[[], None], spawn: Spawn) -> None:
        self.now = clock.monotonic
        self._clock = clock
        self._wake = wake
        self.spawn = spawn
        # (when, number, whose, for which waiter): no waiter means "look at it", no token "just wake up".
        self._heap: list[tuple[float, int, Pending | None, Waiter | None]] = []
        self._again: deque[Pending] = deque()  # to be looked at now, whenever that was planned for
        self._prune_at = _PRUNE_AT
        self._numbers = itertools.count()
        self._sleeper: asyncio.Task[None] | None = None
        self._wakes_at = _NEVER

    def __len__(self) -> int:
        return len(self._heap)

    async def pause(self, seconds: float) -> None:
        """Sleep for *seconds*, in a task that was spawned."""
        await self._clock.sleep(seconds)

    def wake_at(self, when: float) -> None:
        """Wake at *when*, for nothing in particular."""
        self._push(when, None, None)

    def look_at(self, when: float, pending: Pending) -> None:
        """Look at *pending* at *when*, and at no other time."""
        pending.check = self._push(when, pending, None)

    def look_again(self, planned: Iterable[Pending]) -> None:
        """Look at those now for whom a look is planned, a limited number at a time."""
        self._again.extend(planned)

    def end_at(self, when: float, pending: Pending, waiter: Waiter) -> None:
        """See to a waiter's deadline at *when*."""
        self._push(when, pending, waiter)

    def _push(self, when: float, pending: Pending | None, waiter: Waiter | None) -> int:
        """Add an entry and return its number; what is dead goes when there is much of it."""
        if len(self._heap) >= self._prune_at:
            # Deadlines of waits that ended early, and looks that were superseded.
            self._heap = [entry for entry in self._heap if _is_live(*entry[1:])]
            heapq.heapify(self._heap)
            self._prune_at = _PRUNE_AT + 2 * len(self._heap)
        number = next(self._numbers)
        heapq.heappush(self._heap, (when, number, pending, waiter))
        return number

    def due(self, now: float) -> Iterator[tuple[Pending, Waiter | None]]:
        """Take out and yield what is due, a limited number at a time."""
        for _ in range(_PER_TURN):
            if self._heap and self._heap[0][0] <= now:
                _, number, pending, waiter = heapq.heappop(self._heap)
                if pending is None or not _is_live(number, pending, waiter):
                    continue
            elif self._again:
                pending, waiter = self._again.popleft(), None
                if pending.check is None:
                    continue  # it has been asked about meanwhile, or has left
            else:
                return
            if waiter is None:
                pending.check = None
            yield pending, waiter

    def arm(self) -> None:
        """Make the sleeper wake for the earliest entry."""
        if not self._heap and not self._again:
            return
        due = self.now() if self._again else self._heap[0][0]
        if self._sleeper is not None:
            if due >= self._wakes_at:
                return
            self._sleeper.cancel()
        self._wakes_at = due
        self._sleeper = self.spawn(self._sleep(due - self.now()))

    async def _sleep(self, seconds: float) -> None:
        """Sleep, then wake who handles what is due."""
        await self._clock.sleep(max(0.0, seconds))
        self._sleeper = None
        self._wakes_at = _NEVER
        self._wake()

    def clear(self) -> list[asyncio.Task[None]]:
        """Forget all; return the task of the sleeper."""
        sleeper, self._sleeper = self._sleeper, None
        self._wakes_at = _NEVER
        self._heap.clear()
        self._again.clear()
        return [] if sleeper is None else [sleeper]


def _is_live(number: int, pending: Pending | None, waiter: Waiter | None) -> bool:
    """Tell whether an entry of the heap still means something."""
    if waiter is not None:
        return not waiter.future.done()
    return pending is None or number == pending.check
