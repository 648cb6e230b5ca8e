"""Blocking calls in threads that the end of an event loop or of the process does not wait for.

asyncio joins the threads of its own executor. One that waits for a resolver or a terminal may never return.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def in_thread(function: Callable[[], _T]) -> _T:
    """Call *function* in a daemon thread.

    Args:
        function: A blocking function.

    Returns:
        What *function* returns.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

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

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Call *fn* in a daemon thread of its own."""
        future: Future[_T] = Future()
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
