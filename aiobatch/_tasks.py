"""Do one thing to many items, some at a time: constant memory, answers as they come."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Iterator,
)
from typing import Any, Generic, TypeVar

import attrs

from .errors import AiobatchError

T = TypeVar("T")
R = TypeVar("R")


@attrs.frozen
class Done(Generic[T, R]):
    """What became of one item: `error` is None where `result` counts."""

    item: T
    result: R | None
    error: AiobatchError | None


async def run_many(
    items: Iterable[T] | AsyncIterable[T], call: Callable[[T], Awaitable[R]], *, limit: int
) -> AsyncGenerator[Done[T, R], None]:
    """Call *call* for each of *items*, at most *limit* at once, and yield each outcome as it comes.

    An `AiobatchError` is an outcome; anything else that *items* or *call* raise ends the iteration, a
    cancellation from within them too. However it ends, no task is left.

    Args:
        items: Read one by one: no more than *limit* are under way, and as many wait to be yielded.
        call: What to do.
        limit: Calls at once.
    """
    crew = _WorkerPool(call, limit)
    crew.start(items)
    try:
        while crew.has_some or await crew.has_more():
            yield crew.take()
    finally:
        await cancel_and_wait(crew.workers)


async def cancel_and_wait(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel *tasks* and wait until they have ended, so that none outlives its owner.

    A cancellation of the owner meanwhile is raised when they have, as in a TaskGroup.
    """
    left = [task for task in tasks if not task.done()]
    for task in left:
        task.cancel()
    if left:
        await wait_through_cancellation(left)


async def wait_through_cancellation(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Wait until *tasks* have ended, however often we are cancelled; then the cancellation goes on."""
    left = {task for task in tasks if not task.done()}
    cancelled: asyncio.CancelledError | None = None
    while left:
        try:
            _, left = await asyncio.wait(left)
        except asyncio.CancelledError as error:
            cancelled = error
            left = {task for task in left if not task.done()}
    if cancelled is not None:
        try:
            raise cancelled
        finally:
            del cancelled  # its traceback holds this frame


class _WorkerPool(Generic[T, R]):
    """Workers that take items from one source, and what they have brought."""

    def __init__(self, call: Callable[[T], Awaitable[R]], limit: int) -> None:
        self.workers: list[asyncio.Task[None]] = []
        self._call = call
        self._limit = limit
        self._running = 0
        self._broken: asyncio.Task[None] | None = None
        self._outcomes: deque[Done[T, R]] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    def start(self, items: Iterable[T] | AsyncIterable[T]) -> None:
        """Let workers begin, no more than can be busy."""
        size = min(self._limit, len(items)) if isinstance(items, Collection) else self._limit
        if isinstance(items, AsyncIterable):
            later, turn = aiter(items), asyncio.Lock()
            for _ in range(size):
                self._add(self._work_later(later, turn))
        else:
            now = iter(items)
            for _ in range(size):
                self._add(self._work(now))

    def _add(self, work: Coroutine[Any, Any, None]) -> None:
        """Add a worker; whichever way it ends, `has_more` hears of it."""
        worker = asyncio.create_task(work)
        worker.add_done_callback(self._on_end)
        self.workers.append(worker)
        self._running += 1

    def _on_end(self, worker: asyncio.Task[None]) -> None:
        """Count a worker out."""
        self._running -= 1
        if worker.cancelled() or worker.exception() is not None:
            self._broken = self._broken or worker
        self._news.set()

    @property
    def has_some(self) -> bool:
        """Whether an outcome is there, and no worker is broken."""
        return bool(self._outcomes) and self._broken is None

    async def has_more(self) -> bool:
        """Wait for an outcome; tell whether there is one, and raise what broke a worker."""
        while True:
            if self._broken is not None:
                self._broken.result()
            if self._outcomes or not self._running:
                return bool(self._outcomes)
            self._news.clear()
            await self._news.wait()

    def take(self) -> Done[T, R]:
        """Take the oldest outcome and let those go on who waited for room."""
        if len(self._outcomes) <= self._limit:
            self._room.set()
        return self._outcomes.popleft()

    async def _work(self, items: Iterator[T]) -> None:
        """Take items until there are no more; taking one never awaits, so workers cannot meet in it."""
        for item in items:
            await self._do(item)

    async def _work_later(self, items: AsyncIterator[T], turn: asyncio.Lock) -> None:
        """Take items until there are no more; generators refuse a second taker while one waits."""
        while True:
            async with turn:
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    return
            await self._do(item)

    async def _do(self, item: T) -> None:
        """Do the work for one item, and wait where the consumer lags behind."""
        try:
            result = await self._call(item)
        except AiobatchError as error:
            self._outcomes.append(Done(item, None, error))
        else:
            self._outcomes.append(Done(item, result, None))
        self._news.set()
        if len(self._outcomes) > self._limit:
            self._room.clear()
            await self._room.wait()
