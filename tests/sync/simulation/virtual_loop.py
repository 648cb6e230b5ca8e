"""An event loop on virtual time: it never waits, and every run of it is the same."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

R = TypeVar("R")


class _Selector(selectors.BaseSelector):
    """A selector without files. Instead of waiting it moves the time."""

    def __init__(self) -> None:
        self.now = 0.0

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Ignore the loop's own pipe: no thread and no signal wakes it."""
        return selectors.SelectorKey(fileobj, 0, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Ignore it as well."""
        return selectors.SelectorKey(fileobj, 0, 0, None)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Move the time to the next timer."""
        if timeout is None:
            msg = "every task waits for another one"
            raise RuntimeError(msg)
        self.now += max(timeout, 0.0)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """Return no files."""
        return {}


class VirtualLoop(asyncio.SelectorEventLoop):
    """The event loop."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Return the virtual time, seconds."""
        return self._virtual.now


def run_virtually(main: Coroutine[Any, Any, R]) -> R:
    """Return the result of *main* on a new loop. Tasks that are left are cancelled."""
    loop = VirtualLoop()
    loop.set_exception_handler(lambda _loop, _context: None)  # tasks of killed processes end with errors
    try:
        return loop.run_until_complete(main)
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(_ended(loop))
        loop.close()


async def _ended(loop: asyncio.AbstractEventLoop) -> None:
    left = asyncio.all_tasks(loop) - {asyncio.current_task()}
    await asyncio.gather(*left, return_exceptions=True)
