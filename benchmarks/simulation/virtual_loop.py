"""Virtual time: an event loop that skips every wait, unless a thread is working."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class _Selector(selectors.DefaultSelector):
    """Skips waits, and really waits only for threads."""

    now = 0.0
    busy = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready. If nothing is and no thread is working, skip *timeout*."""
        if self.busy:
            return super().select(timeout if timeout == 0 else None)
        ready = super().select(0)
        if timeout is None:
            msg = "deadlock: all tasks wait and no timer is set"
            raise RuntimeError(msg)
        if not ready:
            self.now += max(timeout, 0.0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer, reproducibly."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._virtual.now

    def begin_work(self) -> None:
        """Stop the time while a thread works."""
        self._virtual.busy += 1

    def end_work(self) -> None:
        """Resume the time. Call it in the loop."""
        self._virtual.busy -= 1


class VirtualClock:
    """The clock of a virtual loop, for a client."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.monotonic = loop.time
        self.time = loop.time
        self.sleep = asyncio.sleep


class HaltingExecutor(ThreadPoolExecutor):
    """An executor with one thread. Virtual time stops while it works."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "max_workers": 1})

    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Submit *function*, and resume the time after its future has notified its waiters."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)  # noqa: S101 - works with this loop only
        loop.begin_work()
        future = super().submit(function, *args, **kwargs)
        super().submit(loop.call_soon_threadsafe, loop.end_work)
        return future


def run_virtually(main: Callable[[], Coroutine[Any, Any, R]]) -> R:
    """Run a coroutine on a new virtual loop from time 0."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())
