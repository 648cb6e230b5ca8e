"""The deadlines of requests that wait for admission: one sleeping task for all of them."""

from __future__ import annotations

import asyncio
import contextvars
import math
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from ..errors import AiobatchError
from ..interfaces import Clock


class Deadlines:
    """Cancels tasks at their deadlines on a clock, as `asyncio.timeout` does on the event loop's time.

    Args:
        clock: The clock to sleep by.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._within: dict[asyncio.Task[Any], float] = {}
        self._sleeper: asyncio.Task[None] | None = None
        self._wakes_at = math.inf
        self.expired: set[asyncio.Task[Any]] = set()

    def until(self, when: float) -> _Deadline:
        """Return a context that raises TimeoutError if the current task is still within at *when*."""
        return _Deadline(self, when)

    def add(self, task: asyncio.Task[Any], when: float) -> None:
        """Cancel *task* at *when*."""
        self._within[task] = when
        if when < self._wakes_at:
            self._stop()
            self._wakes_at = when
            # In an empty context, so that it keeps no object of the request that happened to start it.
            self._sleeper = asyncio.create_task(self._sleep(), context=contextvars.Context())

    def remove(self, task: asyncio.Task[Any]) -> None:
        """Forget *task*."""
        del self._within[task]
        if not self._within:
            self._stop()

    def _stop(self) -> None:
        if self._sleeper is not None:
            self._sleeper.cancel()
        self._sleeper, self._wakes_at = None, math.inf

    async def _sleep(self) -> None:
        """Cancel each task at its deadline, until none is left or the client is closed."""
        with suppress(AiobatchError):
            while (wakes_at := min(self._within.values(), default=math.inf)) < math.inf:
                self._wakes_at = wakes_at
                await self._clock.sleep(wakes_at - self._clock.monotonic())
                now = self._clock.monotonic()
                for task in [task for task, when in self._within.items() if when <= now]:
                    self._within[task] = math.inf
                    self.expired.add(task)
                    task.cancel()
        self._wakes_at = math.inf


class _Deadline:
    """The deadline of the current task."""

    def __init__(self, deadlines: Deadlines, when: float) -> None:
        self._deadlines = deadlines
        self._when = when
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0

    def __enter__(self) -> Self:
        """Start it. An infinite one costs nothing."""
        if self._when < math.inf:
            self._task = asyncio.current_task()
            assert self._task is not None  # noqa: S101 - requests are awaited in tasks
            self._cancelling = self._task.cancelling()
            self._deadlines.add(self._task, self._when)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it.

        Raises:
            TimeoutError: Its time was up, and nothing else cancelled the task.
        """
        if self._task is None:
            return
        self._deadlines.remove(self._task)
        if self._task in self._deadlines.expired:
            self._deadlines.expired.discard(self._task)
            # A count above the one at entry means that another cancellation is pending, which must win.
            if self._task.uncancel() <= self._cancelling and exc_type is asyncio.CancelledError:
                raise TimeoutError
