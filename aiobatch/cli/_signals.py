"""The event loop of a command, and how SIGINT and SIGTERM end it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from typing import Any

import attrs

from .._tasks import DaemonExecutor, in_thread
from ._exit_codes import ExitCode

__all__ = ["SignalledError", "graceful_stop", "in_thread", "run", "set_exit_message"]

_CODES = {signal.SIGINT: ExitCode.INTERRUPTED, signal.SIGTERM: ExitCode.TERMINATED}


class SignalledError(BaseException):
    """A signal cancelled a command.

    Attributes:
        code: The exit code of the signal.
        message: What was done and what to do next. None: the command did not set a message.
    """

    code: ExitCode
    message: str | None

    def __init__(self, code: ExitCode, message: str | None) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


@attrs.define(eq=False)
class _Signals:
    """The signals of one command.

    Attributes:
        received: Signals so far.
        stop: Called at the first signal instead of a cancellation. Returns whether the command ends by
            itself.
        message: What `SignalledError` carries if the command is cancelled now.
    """

    received: list[signal.Signals] = attrs.field(factory=list)
    stop: Callable[[], bool] | None = None
    message: str | None = None

    @property
    def code(self) -> ExitCode:
        """The exit code of the first signal."""
        return _CODES[self.received[0]] if self.received else ExitCode.INTERRUPTED

    def arrive(self, number: signal.Signals) -> bool:
        """Record a signal and return whether it cancels the command."""
        self.received.append(number)
        stops_by_itself = len(self.received) == 1 and self.stop is not None and self.stop()
        return not stops_by_itself


_signals: ContextVar[_Signals] = ContextVar("signals")


def run(command: Coroutine[Any, Any, ExitCode]) -> ExitCode:
    """Run *command*. SIGINT and SIGTERM cancel it, and a second one kills the process.

    Args:
        command: The coroutine of a command.

    Returns:
        The command's exit code.

    Raises:
        SignalledError: A signal cancelled it.
    """
    signals = _Signals()
    with asyncio.Runner() as runner:
        try:
            return runner.run(_supervise(command, signals))
        except asyncio.CancelledError:
            raise SignalledError(signals.code, signals.message) from None


async def _supervise(command: Coroutine[Any, Any, ExitCode], signals: _Signals) -> ExitCode:
    """Await *command* with the signal handlers in place."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - this is a coroutine of a task
    _signals.set(signals)
    # Its end must not wait for a call that hangs, such as the lookup of a name.
    asyncio.get_running_loop().set_default_executor(DaemonExecutor())
    with _handlers(signals, task.cancel):
        return await command


def set_exit_message(text: str) -> None:
    """Set the message that a command ends with if a signal cancels it."""
    _signals.get().message = text


@contextlib.contextmanager
def graceful_stop(stop: Callable[[], bool]) -> Iterator[Callable[[], ExitCode]]:
    """Make the first signal call *stop*. A second one cancels the command.

    Args:
        stop: Called at the first signal. Returns whether the command ends by itself. If not, it is cancelled.

    Yields:
        A function that returns the exit code of the signal.
    """
    signals = _signals.get()
    signals.stop = stop
    try:
        yield lambda: signals.code
    finally:
        signals.stop = None


@contextlib.contextmanager
def _handlers(signals: _Signals, cancel: Callable[[], object]) -> Iterator[None]:
    """Install the signal handlers until a signal cancels the command."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread only
        return
    loop = asyncio.get_running_loop()

    def restore() -> None:
        for number in _CODES:
            loop.remove_signal_handler(number)

    def arrive(number: signal.Signals) -> None:
        if signals.arrive(number):
            # The next signal interrupts the clean-up: it gets Python's own handler.
            restore()
            cancel()

    for number in _CODES:
        loop.add_signal_handler(number, arrive, number)
    try:
        yield
    finally:
        restore()
