"""Progress reports and interruption of queries that block."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar

import attrs
import duckdb

_T = TypeVar("_T")
# Seconds between two calls of the callback, for a smooth progress bar and a prompt stop.
_INTERVAL = 0.1


@attrs.define(kw_only=True)
class InterruptibleQuery:
    """Calls a callback from another thread. If it raises, interrupts the query. `check` raises it again.

    Attributes:
        connection: The connection of the query.
        on_progress: Called with the number of rows read so far. None for no reports.
        done: Rows of the completed statements.
        expected: Rows of the current statement, if known. DuckDB reports the share that is read.
        abort: Ends work that blocks outside DuckDB, such as a query in another database.
    """

    connection: duckdb.DuckDBPyConnection
    on_progress: Callable[[int], None] | None
    done: int = 0
    expected: int = 0
    abort: Callable[[], None] | None = None
    _error: BaseException | None = attrs.field(default=None, init=False)
    _quiet: threading.Lock = attrs.field(factory=threading.Lock, init=False)
    _ended: threading.Event = attrs.field(factory=threading.Event, init=False)
    _thread: threading.Thread | None = attrs.field(default=None, init=False)

    def __enter__(self) -> Self:
        """Start the thread."""
        if self.on_progress is not None:
            self._thread = threading.Thread(
                target=self._run, args=(self.on_progress,), name="aiobatch-progress"
            )
            self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """End the thread. The callback is not called again."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def check(self) -> None:
        """Raise the callback's error, if there is one."""
        if self._error is not None:
            raise self._error

    def pause(self, seconds: float) -> None:
        """Wait, unless the callback has raised.

        Args:
            seconds: The time to wait.
        """
        self._ended.wait(seconds)
        self.check()

    def abandonable(self, work: Callable[[], _T]) -> _T:
        """Return the result of work that nothing can interrupt. It is left behind if the callback raises.

        Args:
            work: Connects to a host, which may not answer.
        """
        done: Future[_T] = Future()

        def run() -> None:
            try:
                done.set_result(work())
            except BaseException as exc:  # noqa: BLE001  # result() raises it again, in the caller's thread
                done.set_exception(exc)

        threading.Thread(target=run, name="aiobatch-connect", daemon=True).start()
        while not wait([done], timeout=_INTERVAL).done:
            self.check()
        return done.result()

    @contextmanager
    def uninterruptible(self) -> Iterator[None]:
        """Keep statements that clean up from being interrupted."""
        with self._quiet:
            yield

    def _run(self, on_progress: Callable[[int], None]) -> None:
        while not self._ended.wait(_INTERVAL):
            if self._error is not None:
                # Again, until the query ends: an interrupt between two statements is lost.
                self._interrupt()
                continue
            try:
                on_progress(self._rows())
            except BaseException as exc:  # noqa: BLE001  # check() raises it again, in the query's thread
                self._error = exc
                self._interrupt()

    def _rows(self) -> int:
        share = self.connection.query_progress() if self.expected else 0.0
        return self.done + int(self.expected * max(share, 0.0) / 100)

    def _interrupt(self) -> None:
        with self._quiet:
            self.connection.interrupt()
            if self.abort is not None:
                self.abort()
