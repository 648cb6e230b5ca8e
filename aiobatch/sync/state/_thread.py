"""One thread for everything that blocks: DuckDB, files, locks."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Generic, ParamSpec, Self, TypeVar

import attrs

from ._journal import Journal
from ._state import State

P = ParamSpec("P")
R = TypeVar("R")

# Seconds between two interruptions of a call that goes on: the first may have come between two statements.
_INTERRUPT_INTERVAL = 0.05


@attrs.define(eq=False)
class StateThread:
    """An open state and the thread that alone works with it; any number of runs may share it.

    Attributes:
        state: The state; its methods are called through `run`, only.
        running: Audience's key -> the journal of its run that goes on.
    """

    state: State
    _executor: ThreadPoolExecutor
    running: dict[str, Journal] = attrs.field(factory=dict, init=False)

    @classmethod
    async def open(cls, path: Path, *, what: str, memory_limit: str) -> Self:
        """Open a state in a thread of its own.

        Args:
            path: The state file; made where there is none.
            what: What this process is doing, for whoever is refused meanwhile.
            memory_limit: What DuckDB may take.

        Raises:
            LockedError: Another run has it open.
            StateError: It cannot be opened.
        """
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="aiobatch-state")
        opening = _Job(functools.partial(State.open, path, what=what, memory_limit=memory_limit))
        try:
            state = await _wait_uninterrupted(executor, opening)
        except BaseException:
            if opening.result is not None:  # it was opened for somebody who did not wait
                await _wait_uninterrupted(executor, _Job(opening.result.close))
            executor.shutdown(wait=False)
            raise
        return cls(state, executor)

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *function* in the thread; a cancelled call runs to its end before the cancellation goes on.

        What is journaled in the thread is journaled whole.
        """
        return await _wait_uninterrupted(self._executor, _Job(functools.partial(function, *args, **kwargs)))

    async def run_interruptible(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *function* in the thread; a cancelled call is interrupted, and leaves nothing half done."""
        call = _Job(functools.partial(function, *args, **kwargs), self.state.interrupt)
        return await _wait_uninterrupted(self._executor, call)

    async def aclose(self) -> None:
        """Close the state and end the thread."""
        try:
            await self.run(self.state.close)
        finally:
            self._executor.shutdown(wait=False)


@attrs.define(eq=False)
class _Job(Generic[R]):
    """A function on its way through the thread."""

    function: Callable[[], R]
    interrupt: Callable[[], None] | None = None
    result: R | None = None
    _is_running: bool = False
    _turn: threading.Lock = attrs.field(factory=threading.Lock)

    def __call__(self) -> R:
        """Call the function, in the thread."""
        with self._turn:
            self._is_running = True
        try:
            self.result = self.function()
            return self.result
        finally:
            with self._turn:
                self._is_running = False

    def stop(self) -> None:
        """Interrupt the function if it runs; whatever follows it in the thread is left alone."""
        with self._turn:
            if self._is_running and self.interrupt is not None:
                self.interrupt()


async def _wait_uninterrupted(executor: ThreadPoolExecutor, call: _Job[R]) -> R:
    """Wait for *call*, however often we are cancelled: a thread cannot be left alone with the state."""
    future = executor.submit(call)
    waiting = asyncio.wrap_future(future)
    cancelled = False
    while not waiting.done():
        try:
            await asyncio.wait(
                [waiting], timeout=_INTERRUPT_INTERVAL if cancelled and call.interrupt else None
            )
        except asyncio.CancelledError:
            cancelled = True
        if cancelled and call.interrupt is not None:
            future.cancel()  # if it has not begun
            call.stop()
    if not cancelled:
        return waiting.result()
    if not waiting.cancelled():
        waiting.exception()  # seen: the cancellation goes first
    raise asyncio.CancelledError
