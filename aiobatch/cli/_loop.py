"""Run a command on an event loop until it is done, or until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from ._exit import ExitCode

__all__ = ["in_thread", "run"]

_T = TypeVar("_T")
_CODES = {signal.SIGINT: ExitCode.INTERRUPTED, signal.SIGTERM: ExitCode.TERMINATED}


def run(command: Coroutine[Any, Any, ExitCode]) -> ExitCode:
    """Run *command*; SIGINT and SIGTERM cancel it, and a second one does not wait for its cleaning up.

    Args:
        command: What to run.

    Returns:
        Its exit code, or the one that stands for the signal.
    """
    received: list[signal.Signals] = []
    with asyncio.Runner() as runner:
        try:
            return runner.run(_supervise(command, received))
        except asyncio.CancelledError:
            return _CODES[received[0]]


async def _supervise(command: Coroutine[Any, Any, ExitCode], received: list[signal.Signals]) -> ExitCode:
    """Await *command* with the signals' handlers in place."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - this is a coroutine of a task
    with _handlers(received, task.cancel):
        return await command


@contextlib.contextmanager
def _handlers(received: list[signal.Signals], cancel: Callable[[], object]) -> Iterator[None]:
    """Let the first signal cancel; from then on signals do what they do without us."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread only
        return
    loop = asyncio.get_running_loop()

    def restore() -> None:
        for number in _CODES:
            loop.remove_signal_handler(number)

    def stop(number: signal.Signals) -> None:
        received.append(number)
        restore()
        cancel()

    for number in _CODES:
        loop.add_signal_handler(number, stop, number)
    try:
        yield
    finally:
        restore()


async def in_thread(function: Callable[[], _T]) -> _T:
    """Call *function* in a thread that nobody waits for when the program ends.

    The event loop's own threads are joined at its end, and one that reads a terminal would never come back.

    Args:
        function: What blocks.
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
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(outcome)

    threading.Thread(target=work, name="aiobatch-reader", daemon=True).start()
    return await future
