"""Progress reports and interruption of queries that block."""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import attrs
import duckdb

from .._errors import SourceError

_T = TypeVar("_T")
# Seconds between two calls of the callback, for a smooth progress bar and a prompt stop.
_INTERVAL = 0.1
# The descriptors of this process.
_DESCRIPTORS = Path("/dev/fd")
_DEFAULT_PORT = "5432"
# Seconds that a server has to cancel a query.
_PATIENCE = 2.0


@attrs.define(kw_only=True)
class InterruptibleQuery:
    """Calls a callback from another thread. If it raises, interrupts the query. `check` raises it again.

    A query without data for too long is interrupted as well, by a SourceError.

    Attributes:
        connection: The connection of the query.
        on_progress: Called with the number of rows read so far. None for no reports.
        done: Rows of the completed statements.
        expected: Rows of the current statement, if known. DuckDB reports the share that is read.
        abort: Ends work that blocks outside DuckDB, such as a query in another database.
        patience: The longest wait for rows, or for `arrived`, in seconds. None: no limit.
        label: The name of the source, for that error.
        now: The time in seconds.
    """

    connection: duckdb.DuckDBPyConnection
    on_progress: Callable[[int], None] | None
    done: int = 0
    expected: int = 0
    abort: Callable[[], None] | None = None
    patience: float | None = None
    label: str = ""
    now: Callable[[], float] = time.monotonic
    _last: float = attrs.field(init=False)
    _seen: int = attrs.field(default=0, init=False)
    _error: BaseException | None = attrs.field(default=None, init=False)
    _quiet: threading.Lock = attrs.field(factory=threading.Lock, init=False)
    _ended: threading.Event = attrs.field(factory=threading.Event, init=False)
    _thread: threading.Thread | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        """Start the wait."""
        self._last = self.now()

    def __enter__(self) -> Self:
        """Start the thread."""
        if self.on_progress is not None or self.patience is not None:
            self._thread = threading.Thread(target=self._run, name="aiobatch-progress")
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

    def arrived(self) -> None:
        """Note that data arrived which is no row yet."""
        self._last = self.now()

    def refuse_silence(self, rows: int) -> None:
        """Check that the source still delivers.

        Args:
            rows: The rows so far.

        Raises:
            SourceError: Nothing arrived for too long.
        """
        if rows != self._seen:
            self._seen, self._last = rows, self.now()
        if self.patience is not None and self.now() - self._last > self.patience:
            msg = f"its data did not arrive within {self.patience:g} seconds. Check it, or raise the timeout"
            raise SourceError(msg, location=self.label)

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

    def _run(self) -> None:
        while not self._ended.wait(_INTERVAL):
            if self._error is not None:
                # Again, until the query ends: an interrupt between two statements is lost.
                self._interrupt()
                continue
            try:
                rows = self._rows()
                if self.on_progress is not None:
                    self.on_progress(rows)
                self.refuse_silence(rows)
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


@attrs.define(eq=False)
class ServerSockets:
    """The sockets of one connection to a database.

    No driver has a timeout for a server that stops to answer, and to cancel a query takes an answer as well.
    Shut down, a socket ends a call that waits for it.

    Attributes:
        dsn: Its connection string, which names the ports.
    """

    dsn: str = attrs.field(repr=False)
    _before: frozenset[int] = attrs.field(init=False, factory=frozenset)
    _peers: frozenset[Any] = attrs.field(init=False, factory=frozenset)
    _cancelling: threading.Thread | None = attrs.field(init=False, default=None)
    _shut_at: float = attrs.field(init=False, default=0.0)

    @contextmanager
    def opened_here(self) -> Iterator[None]:
        """Note the sockets to the server that are opened within."""
        self._before = frozenset(inode for inode, _ in _connected())
        yield
        found = {peer for inode, one in _connected() if inode not in self._before for peer in [_peer(one)]}
        self._peers = frozenset(peer for peer in found if self._is_server(peer))

    def cancel(self, cancel: Callable[[], object]) -> None:
        """End the query. Call it again and again until it has ended: a server that is frozen is cut off.

        Args:
            cancel: Asks the server to cancel the query. It may block.
        """
        if self._cancelling is None:

            def ask() -> None:
                with suppress(Exception):  # the query may have ended already
                    cancel()

            self._cancelling = threading.Thread(target=ask, name="aiobatch-cancel", daemon=True)
            self._cancelling.start()
            self._shut_at = time.monotonic() + _PATIENCE
        elif time.monotonic() > self._shut_at:
            for inode, one in _connected():
                if inode not in self._before and _peer(one) in self._peers:
                    with suppress(OSError):
                        one.shutdown(socket.SHUT_RDWR)

    def _is_server(self, peer: Any) -> bool:
        if isinstance(peer, str):
            return ".s.PGSQL." in peer
        return isinstance(peer, tuple) and (
            str(peer[1]) in self.dsn or str(peer[1]) == os.environ.get("PGPORT", _DEFAULT_PORT)
        )


def _connected() -> Iterator[tuple[int, socket.socket]]:
    """Yield the inode of each socket of this process, and a copy of it that is closed afterwards."""
    for path in _DESCRIPTORS.iterdir() if _DESCRIPTORS.is_dir() else ():
        with suppress(OSError):  # another thread closed it
            descriptor = os.dup(int(path.name))
            status = os.fstat(descriptor)
            if not stat.S_ISSOCK(status.st_mode):
                os.close(descriptor)
                continue
            with socket.socket(fileno=descriptor) as one:
                yield status.st_ino, one


def _peer(one: socket.socket) -> Any:
    """Return the address at the other end. None if there is none."""
    try:
        return one.getpeername()
    except OSError:
        return None
