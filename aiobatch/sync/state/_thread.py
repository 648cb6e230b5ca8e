"""The thread that does everything that blocks: DuckDB, files, locks."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, Generic, ParamSpec, Self, TypeVar

import attrs

from ._journal import Journal
from ._state import State
from .ledger._ledger import StateLocation
from .objects._open_state import open_state

P = ParamSpec("P")
R = TypeVar("R")

# Seconds between interrupts of a running job. One is not enough: DuckDB ignores it between two statements.
_INTERRUPT_INTERVAL = 0.05


@attrs.define(eq=False)
class StateThread:
    """An open state, and the only thread that uses it. Any number of runs may share it.

    Attributes:
        state: The state. Only functions that `run` calls may use it.
        running: Audience's key -> the journal of its run in progress.
        status_due: When the status file is to be written next, by the clock of the runs.
    """

    state: State
    _executor: ThreadPoolExecutor
    running: dict[str, Journal] = attrs.field(factory=dict, init=False)
    status_due: float = attrs.field(default=float("-inf"), init=False)

    @classmethod
    async def open(cls, location: StateLocation, *, what: str, memory_limit: str) -> Self:
        """Open a state in a new thread.

        Args:
            location: The state. It is created if it does not exist.
            what: What this process does, for the error of other processes.
            memory_limit: DuckDB's memory limit.

        Raises:
            LockedError: If another process has it open.
            StateError: If it cannot be opened.
        """
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="aiobatch-state")
        opening = _Job(functools.partial(open_state, location, what=what, memory_limit=memory_limit))
        try:
            state = await _wait_uninterrupted(executor, opening)
        except BaseException:
            if opening.result is not None:  # the caller was cancelled while the state was opened
                await _wait_uninterrupted(executor, _Job(opening.result.close))
            executor.shutdown(wait=False)
            raise
        return cls(state, executor)

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *function* in the thread.

        Cancellation takes effect when the function has returned, so that a journal is written completely.
        """
        return await _wait_uninterrupted(self._executor, _Job(functools.partial(function, *args, **kwargs)))

    async def call(
        self, function: Callable[Concatenate[State, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Call *function* with the state, as `run` does."""
        return await self.run(function, self.state, *args, **kwargs)

    async def call_interruptible(
        self, function: Callable[Concatenate[State, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Call *function* with the state, as `run_interruptible` does."""
        return await self.run_interruptible(function, self.state, *args, **kwargs)

    async def call_stoppable(self, function: Callable[[State], R], stop: Callable[[], None]) -> R:
        """Call *function* with the state. Cancellation calls *stop*, and interrupts it."""

        def interrupt() -> None:
            stop()
            self.state.interrupt()

        job = _Job(functools.partial(function, self.state), interrupt)
        return await _wait_uninterrupted(self._executor, job)

    async def run_interruptible(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *function* in the thread. Cancellation interrupts it, and rolls its transaction back."""
        job = _Job(functools.partial(function, *args, **kwargs), self.state.interrupt)
        return await _wait_uninterrupted(self._executor, job)

    async def aclose(self) -> None:
        """Close the state and end the thread."""
        try:
            await self.run(self.state.close)
        finally:
            self._executor.shutdown(wait=False)


@attrs.define(eq=False)
class _Job(Generic[R]):
    """A function that the thread calls."""

    function: Callable[[], R]
    interrupt: Callable[[], None] | None = None
    result: R | None = None
    _is_running: bool = False
    # An interrupt applies to the connection. The lock keeps it from hitting the next job.
    _turn: threading.Lock = attrs.field(factory=threading.Lock)

    def __call__(self) -> R:
        with self._turn:
            self._is_running = True
        try:
            self.result = self.function()
            return self.result
        finally:
            with self._turn:
                self._is_running = False

    def stop(self) -> None:
        """Interrupt the function if it is running."""
        with self._turn:
            if self._is_running and self.interrupt is not None:
                self.interrupt()


async def _wait_uninterrupted(executor: ThreadPoolExecutor, job: _Job[R]) -> R:
    """Return the result of *job*.

    However often the caller is cancelled, wait until the job has ended. Otherwise the thread would write to
    the state while the caller closes it, or starts the next run.
    """
    future = executor.submit(job)
    waiting = asyncio.wrap_future(future)
    cancelled = False
    while not waiting.done():
        try:
            # wait(), unlike await, leaves the future alone when it is cancelled.
            await asyncio.wait(
                [waiting], timeout=_INTERRUPT_INTERVAL if cancelled and job.interrupt else None
            )
        except asyncio.CancelledError:
            cancelled = True
        if cancelled and job.interrupt is not None:
            future.cancel()  # if it has not started
            job.stop()
    if not cancelled:
        return waiting.result()
    if not waiting.cancelled():
        waiting.exception()  # mark it as retrieved: the caller gets CancelledError
    raise asyncio.CancelledError
