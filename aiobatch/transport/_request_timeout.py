"""One timer for the timeouts of all requests."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any


class Deadlines:
    """A context that ends what takes longer than a given time, as `asyncio.timeout` does.

    All have the same time, so they expire in the order in which they began, and one timer, for the oldest, is
    enough. aiohttp makes and cancels one for each request, at a twelfth of what a request costs.

    Args:
        seconds: How long the tasks within may take, each counted from when it entered.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # By task, oldest first: when it expires, and how often its cancellation was asked for before.
        self._within: dict[asyncio.Task[Any], tuple[float, int]] = {}
        self._expired: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        """Let the current task's time begin."""
        task = _current_task()
        loop = task.get_loop()
        when = loop.time() + self._seconds
        self._within[task] = (when, task.cancelling())
        if self._timer is None:
            self._timer = loop.call_at(when, self._look)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let go of the current task.

        Raises:
            TimeoutError: Its time is up, and nobody else cancelled it.
        """
        task = _current_task()
        _, asked_before = self._within.pop(task)
        if task in self._expired:
            self._expired.discard(task)
            if task.uncancel() <= asked_before and exc_type is asyncio.CancelledError:
                raise TimeoutError

    def close(self) -> None:
        """Drop the timer, unless somebody is within."""
        if self._timer is not None and not self._within:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """Cancel whose time is up, and look again when the next one's is."""
        self._timer = None
        for task, (when, _) in self._within.items():
            loop = task.get_loop()
            if when > loop.time():
                self._timer = loop.call_at(when, self._look)
                return
            if task not in self._expired:
                self._expired.add(task)
                task.cancel()


def _current_task() -> asyncio.Task[Any]:
    """Return the task that runs."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - whoever awaits a request is a task
    return task
