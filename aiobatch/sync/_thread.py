"""One thread for everything that blocks: DuckDB, files, locks."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, Self, TypeVar

import attrs

from ._state import State

P = ParamSpec("P")
R = TypeVar("R")


@attrs.define(eq=False)
class StateThread:
    """An open state and the thread that alone works with it.

    Attributes:
        state: The state; its methods are called through `run`, only.
    """

    state: State
    _executor: ThreadPoolExecutor

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
        try:
            opening = functools.partial(State.open, path, what=what, memory_limit=memory_limit)
            state = await _finish(executor, opening, lambda late: late.close())
        except BaseException:
            executor.shutdown(wait=False)
            raise
        return cls(state, executor)

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *function* in the thread; a cancelled call runs to its end before the cancellation goes on.

        What is journaled in the thread is journaled whole.
        """
        return await _finish(self._executor, functools.partial(function, *args, **kwargs))

    async def run_long(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *function* in the thread; a cancelled call is interrupted, and leaves nothing half done."""
        call = functools.partial(function, *args, **kwargs)
        return await _finish(self._executor, call, interrupt=self.state.interrupt)

    async def aclose(self) -> None:
        """Close the state and end the thread."""
        try:
            await self.run(self.state.close)
        finally:
            self._executor.shutdown(wait=False)


async def _finish(
    executor: ThreadPoolExecutor,
    function: Callable[[], R],
    undo: Callable[[R], object] | None = None,
    *,
    interrupt: Callable[[], None] | None = None,
) -> R:
    """Wait for *function*, however often we are cancelled meanwhile: a thread cannot be left alone with the state."""
    future = asyncio.get_running_loop().run_in_executor(executor, function)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
            if interrupt is not None:
                interrupt()
    if cancelled is None:
        return future.result()
    if future.exception() is None and undo is not None:
        executor.submit(undo, future.result())
    raise cancelled
