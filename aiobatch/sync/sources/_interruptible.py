"""Tells how many rows are read while DuckDB works, and stops the work when nobody wants it any more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import attrs
import duckdb

# Seconds between two calls of the callback: often enough for a progress bar and for a prompt stop.
_INTERVAL = 0.1


@attrs.define(kw_only=True)
class InterruptibleQuery:
    """Calls back from a thread of its own; what the callback raises ends the work, and `check` raises it.

    Attributes:
        connection: The connection that works.
        on_progress: Called with the rows read so far; None to watch nothing.
        done: Rows of the statements that have ended.
        expected: Rows of the present statement, where known; DuckDB tells what share of them is read.
        abort: Ends what blocks outside DuckDB, such as a query in another database.
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
        """Begin to call back."""
        if self.on_progress is not None:
            self._thread = threading.Thread(
                target=self._run, args=(self.on_progress,), name="aiobatch-progress"
            )
            self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Stop calling back; no call comes after this."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def check(self) -> None:
        """Raise what the callback raised, if it did."""
        if self._error is not None:
            raise self._error

    @contextmanager
    def uninterruptible(self) -> Iterator[None]:
        """Let a few statements that tidy up run to their end."""
        with self._quiet:
            yield

    def _run(self, on_progress: Callable[[int], None]) -> None:
        """Call back until told to end; a failing callback interrupts the work until it heeds."""
        while not self._ended.wait(_INTERVAL):
            if self._error is not None:
                self._interrupt()
                continue
            try:
                on_progress(self._rows())
            except BaseException as exc:  # noqa: BLE001  # it is raised again by check(), in the thread that works
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
