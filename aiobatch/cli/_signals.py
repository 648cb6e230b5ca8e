"""Run a command on an event loop until it is done, or until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

import attrs

from ._exit_codes import ExitCode

__all__ = ["SignalledError", "graceful_stop", "in_thread", "run", "set_exit_message"]

_T = TypeVar("_T")
_CODES = {signal.SIGINT: ExitCode.INTERRUPTED, signal.SIGTERM: ExitCode.TERMINATED}


class SignalledError(BaseException):
    """A signal ended a command before it could say how far it came.

    Attributes:
        code: The exit code that stands for the signal.
        left: What stands, and what to do next; None where the command did not say.
    """

    code: ExitCode
    left: str | None

    def __init__(self, code: ExitCode, left: str | None) -> None:
        super().__init__(code, left)
        self.code = code
        self.left = left


@attrs.define(eq=False)
class _Signals:
    """What signals came, and who is told of the first.

    Attributes:
        received: Signals so far.
        stop: Told of the first one in place of a cancellation; returns whether it sees to the end.
        left: What stands if the command is cancelled now.
    """

    received: list[signal.Signals] = attrs.field(factory=list)
    stop: Callable[[], bool] | None = None
    left: str | None = None

    @property
    def code(self) -> ExitCode:
        """The exit code that stands for the first signal."""
        return _CODES[self.received[0]] if self.received else ExitCode.INTERRUPTED

    def arrive(self, number: signal.Signals) -> bool:
        """Note a signal; return whether everything is to be cancelled for it."""
        self.received.append(number)
        is_seen_to = len(self.received) == 1 and self.stop is not None and self.stop()
        return not is_seen_to


_signals: ContextVar[_Signals] = ContextVar("signals")


def run(command: Coroutine[Any, Any, ExitCode]) -> ExitCode:
    """Run *command*; SIGINT and SIGTERM cancel it, and a further one does not wait for its cleaning up.

    Args:
        command: What to run.

    Returns:
        Its exit code.

    Raises:
        SignalledError: It was cancelled for a signal.
    """
    signals = _Signals()
    with asyncio.Runner() as runner:
        try:
            return runner.run(_supervise(command, signals))
        except asyncio.CancelledError:
            raise SignalledError(signals.code, signals.left) from None


async def _supervise(command: Coroutine[Any, Any, ExitCode], signals: _Signals) -> ExitCode:
    """Await *command* with the signals' handlers in place."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - this is a coroutine of a task
    _signals.set(signals)
    with _handlers(signals, task.cancel):
        return await command


def set_exit_message(text: str) -> None:
    """Let a command that a signal has cancelled end with *text*: what stands, and what to do next."""
    _signals.get().left = text


@contextlib.contextmanager
def graceful_stop(stop: Callable[[], bool]) -> Iterator[Callable[[], ExitCode]]:
    """Let the first signal end the command gently; a second one cancels it.

    Args:
        stop: Called at the first signal; returns whether the command ends by itself, else it is cancelled.

    Yields:
        What returns the exit code that stands for the signal.
    """
    signals = _signals.get()
    signals.stop = stop
    try:
        yield lambda: signals.code
    finally:
        signals.stop = None


@contextlib.contextmanager
def _handlers(signals: _Signals, cancel: Callable[[], object]) -> Iterator[None]:
    """Let a signal cancel, unless it is seen to; from then on signals do what they do without us."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread only
        return
    loop = asyncio.get_running_loop()

    def restore() -> None:
        for number in _CODES:
            loop.remove_signal_handler(number)

    def arrive(number: signal.Signals) -> None:
        if signals.arrive(number):
            restore()
            cancel()

    for number in _CODES:
        loop.add_signal_handler(number, arrive, number)
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
