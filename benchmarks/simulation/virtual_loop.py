"""Virtual time: an event loop that passes over every wait, unless a thread works meanwhile."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class _Selector(selectors.DefaultSelector):
    """Counts a wait as passed; waits in earnest only for threads."""

    now = 0.0
    busy = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; where nothing is and no thread works, let *timeout* pass."""
        if self.busy:
            return super().select(timeout if timeout == 0 else None)
        ready = super().select(0)
        if timeout is None:
            msg = "everybody waits for something that cannot happen"
            raise RuntimeError(msg)
        if not ready:
            self.now += max(timeout, 0.0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to whatever is next; hours pass in seconds, the same way each time."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Return the virtual time, seconds."""
        return self._virtual.now

    def begin_work(self) -> None:
        """Halt the time: a thread works."""
        self._virtual.busy += 1

    def end_work(self) -> None:
        """Let the time pass again; called in the loop."""
        self._virtual.busy -= 1


class VirtualClock:
    """The clock of a virtual loop, for a client."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.monotonic = loop.time
        self.time = loop.time
        self.sleep = asyncio.sleep


class HaltingExecutor(ThreadPoolExecutor):
    """A thread during whose work virtual time stands still; it has one worker."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "max_workers": 1})

    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Submit *function*, and behind it the note that it has ended, once its future has told everybody."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)  # noqa: S101 - made for no other
        loop.begin_work()
        future = super().submit(function, *args, **kwargs)
        super().submit(loop.call_soon_threadsafe, loop.end_work)
        return future


def run_virtually(main: Callable[[], Coroutine[Any, Any, R]]) -> R:
    """Run a coroutine on a virtual loop of its own, from time 0."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())
