"""Do one thing to many items, some at a time: constant memory, answers as they come."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
)
from typing import Generic, TypeVar

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


class _End:
    """A worker's last word; holds what was raised in it, if anything."""

    __slots__ = ("raised",)

    def __init__(self, raised: Exception | None = None) -> None:
        self.raised = raised


async def run_many(
    items: Iterable[T] | AsyncIterable[T], call: Callable[[T], Awaitable[R]], *, limit: int
) -> AsyncGenerator[Done[T, R], None]:
    """Call *call* for each of *items*, at most *limit* at once, and yield each outcome as it comes.

    An `AiobatchError` is an outcome; anything else that *items* or *call* raise ends the iteration, a
    cancellation from within them too. However it ends, no task is left.

    Args:
        items: Read one by one, never further ahead than *limit*.
        call: What to do.
        limit: Calls at once.
    """
    results: asyncio.Queue[Done[T, R] | _End] = asyncio.Queue(maxsize=limit)
    source = _one_at_a_time(items)
    size = min(limit, len(items)) if isinstance(items, Collection) else limit
    workers = [asyncio.create_task(_work(source, call, results)) for _ in range(size)]
    broken: list[asyncio.Task[None]] = []

    def note_broken(worker: asyncio.Task[None]) -> None:
        """Wake the consumer for a worker that ended without a word."""
        if worker.cancelled() or worker.exception() is not None:
            broken.append(worker)
            if results.empty():
                results.put_nowait(_End())

    for worker in workers:
        worker.add_done_callback(note_broken)
    running = size
    try:
        while running:
            outcome = await results.get()
            if broken:
                broken[0].result()
            if not isinstance(outcome, _End):
                yield outcome
            elif outcome.raised is not None:
                raise outcome.raised
            else:
                running -= 1
    finally:
        await reap(workers)


async def reap(tasks: Iterable[asyncio.Task[object]]) -> None:
    """Cancel *tasks* and wait until they have ended, so that none outlives its owner."""
    left = [task for task in tasks if not task.done()]
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left)


async def _work(
    source: AsyncIterator[T], call: Callable[[T], Awaitable[R]], results: asyncio.Queue[Done[T, R] | _End]
) -> None:
    """Take items until there are no more."""
    try:
        async for item in source:
            try:
                outcome = Done[T, R](item, await call(item), None)
            except AiobatchError as error:
                outcome = Done[T, R](item, None, error)
            await results.put(outcome)
    except Exception as error:  # noqa: BLE001 - not swallowed: it travels to the consumer, who raises it
        await results.put(_End(error))
    else:
        await results.put(_End())


def _one_at_a_time(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    """Make an iterator that many workers may share."""
    return _Locked(items) if isinstance(items, AsyncIterable) else _Plain(items)


class _Plain(AsyncIterator[T]):
    """A plain iterable: taking one never awaits, so workers cannot meet in it."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = iter(items)

    async def __anext__(self) -> T:
        for item in self._items:
            return item
        raise StopAsyncIteration


class _Locked(AsyncIterator[T]):
    """An async iterable: generators refuse a second taker while one waits."""

    def __init__(self, items: AsyncIterable[T]) -> None:
        self._items = aiter(items)
        self._lock = asyncio.Lock()

    async def __anext__(self) -> T:
        async with self._lock:
            return await anext(self._items)
