"""Concurrent calls with a bounded number of workers, ending tasks reliably, and blocking calls in threads."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import threading
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Generator,
    Iterable,
    Iterator,
)
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

from .errors import AiobatchError, InvalidInputError

_logger = logging.getLogger("aiobatch.tasks")

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")


class CallResult(NamedTuple, Generic[T, R]):
    """The result of the call for one item, which is valid if `error` is None."""

    item: T
    result: R | None
    error: AiobatchError | None


async def run_many(
    items: Iterable[T] | AsyncIterable[T], call: Callable[[T], Awaitable[R]], *, limit: int
) -> AsyncGenerator[CallResult[T, R], None]:
    """Call *call* for each of *items*, at most *limit* at once, and yield each result as it arrives.

    An `AiobatchError` is a result. Any other exception from *items* or *call*, a cancellation included, ends
    the iteration. When it ends, no task is left, and *items* is closed if it is a generator.

    Args:
        items: Read one by one. At most *limit* items are in flight, and as many results wait to be yielded.
        call: The function to call.
        limit: Maximum number of concurrent calls.
    """
    # Workers, not one task for each item: the number of tasks and the memory stay constant.
    pool = _WorkerPool(call, limit)
    pool.start(items)
    try:
        while True:
            for worker in pool.ended:
                worker.result()  # raises the exception that ended it
            if pool.results:
                if len(pool.results) <= limit:
                    pool.room.set()
                yield pool.results.popleft()
            elif len(pool.ended) == len(pool.workers):
                return
            else:
                pool.progress.clear()
                await pool.progress.wait()
    finally:
        try:
            await cancel_and_wait(pool.workers)
        finally:
            await close_source(pool.source)


async def close_source(source: object) -> None:
    """Close *source* if it is a generator, which may hold a connection. Log what it raises meanwhile.

    Without it, the garbage collector closes the generator, at a time of its own choice.
    """
    try:
        if isinstance(source, AsyncGenerator):
            await source.aclose()
        elif isinstance(source, Generator):
            source.close()
    except Exception:
        _logger.exception("closing an iterable raised")


class _WorkerPool(Generic[T, R]):
    """Workers that take their items from one iterator, and their results."""

    def __init__(self, call: Callable[[T], Awaitable[R]], limit: int) -> None:
        self._call = call
        self._limit = limit
        self.source: AsyncIterator[T] | Iterator[T] = iter(())
        self.workers: list[asyncio.Task[None]] = []
        self.ended: list[asyncio.Task[None]] = []
        self.results: deque[CallResult[T, R]] = deque()
        self.progress = asyncio.Event()
        self.room = asyncio.Event()

    def start(self, items: Iterable[T] | AsyncIterable[T]) -> None:
        """Start *limit* workers, or one for each item if there are fewer."""
        count = min(self._limit, len(items)) if isinstance(items, Collection) else self._limit
        if isinstance(items, AsyncIterable):
            stream, turn = aiter(items), asyncio.Lock()
            self.source = stream
            self.workers += [asyncio.create_task(self._work_async(stream, turn)) for _ in range(count)]
        else:
            source = iter(items)
            self.source = source
            self.workers += [asyncio.create_task(self._work(source)) for _ in range(count)]
        for worker in self.workers:
            worker.add_done_callback(self._on_end)

    def _on_end(self, worker: asyncio.Task[None]) -> None:
        self.ended.append(worker)
        self.progress.set()

    async def _work(self, items: Iterator[T]) -> None:
        for item in items:
            await self._process(item)

    async def _work_async(self, items: AsyncIterator[T], turn: asyncio.Lock) -> None:
        while True:
            async with turn:  # an async generator raises if a second task asks for an item meanwhile
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    return
            await self._process(item)

    async def _process(self, item: T) -> None:
        try:
            self.results.append(CallResult(item, await self._call(item), None))
        except AiobatchError as error:
            self.results.append(CallResult(item, None, error))
        self.progress.set()
        if len(self.results) > self._limit:  # the consumer lags behind
            self.room.clear()
            await self.room.wait()


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the running event loop.

    Raises:
        InvalidInputError: asyncio runs none in this thread.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        msg = (
            "aiobatch needs asyncio, and no asyncio event loop is running here. Start the program with "
            "asyncio.run(main()). Under trio it cannot run. Under anyio, choose the asyncio backend."
        )
        raise InvalidInputError(msg) from None


async def cancel_and_wait(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel *tasks* and wait until they have ended, so that none outlives its owner.

    If the owner is cancelled meanwhile, the cancellation is raised afterwards, as in a TaskGroup.
    """
    left = [task for task in tasks if not task.done()]
    for task in left:
        task.cancel()
    if left:
        await wait_through_cancellation(left)


async def wait_through_cancellation(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Wait until *tasks* have ended, even if this task is cancelled. Raise the cancellation afterwards."""
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


# Blocking calls run in daemon threads, which the end of an event loop or of the process does not wait for.
# asyncio joins the threads of its own executor, and one that waits for a resolver or a terminal may never
# return.


async def in_thread(function: Callable[[], T]) -> T:
    """Call *function* in a daemon thread.

    Args:
        function: A blocking function.

    Returns:
        What *function* returns.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def finish(settle: Callable[[Any], None], value: Any) -> None:
        if not future.done():
            settle(value)

    def work() -> None:
        try:
            outcome = functools.partial(finish, future.set_result, function())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
            outcome = functools.partial(finish, future.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop was closed in the meantime
            loop.call_soon_threadsafe(outcome)

    threading.Thread(target=work, name="aiobatch-reader", daemon=True).start()
    return await future


class DaemonExecutor(ThreadPoolExecutor):
    """The default executor of an event loop, whose end waits for no call."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call *fn* in a daemon thread of its own."""
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()

        def work() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
                future.set_exception(error)

        threading.Thread(target=work, name="aiobatch-worker", daemon=True).start()
        return future


class Lookups:
    """The methods of an event loop that `aiohttp.ThreadedResolver` calls, in daemon threads."""

    async def getaddrinfo(self, host: str | None, port: int | str | None, **hints: Any) -> list[Any]:
        """Resolve a name."""
        return await in_thread(functools.partial(socket.getaddrinfo, host, port, **hints))

    async def getnameinfo(self, address: Any, flags: int = 0) -> tuple[str, str]:
        """Format an address."""
        return await in_thread(functools.partial(socket.getnameinfo, address, flags))
