from __future__ import annotations

import socket
import threading
from typing import Any

import duckdb
import pytest

from aiobatch.sync._errors import SourceError
from aiobatch.sync.sources._id_rules import IdRules
from aiobatch.sync.sources._interruptible import InterruptibleQuery
from aiobatch.sync.sources._relation import explained
from aiobatch.sync.sources._source import Source
from aiobatch.sync.sources._stage import StageOptions, stage

# Runs until it is interrupted.
_ENDLESS = "SELECT 'u' || i AS id FROM range(1000000000000) AS t(i)"


class _StopError(Exception):
    """The error of a callback that stops the query."""


def _stop(_rows: int) -> None:
    raise _StopError


def test_callback_stops_the_query() -> None:
    """An exception in the callback interrupts DuckDB and is raised, and nothing is staged."""
    with duckdb.connect() as connection:
        with pytest.raises(_StopError):
            stage(connection, Source.parse("duckdb://", query=_ENDLESS), IdRules(), on_progress=_stop)
        assert connection.execute("FROM duckdb_tables()").fetchall() == []


def test_silent_query_is_given_up() -> None:
    """A query that returns nothing for the time of the timeout is interrupted, also without a callback."""
    source = Source.parse("duckdb://", query=f"{_ENDLESS} WHERE i < 0")
    with duckdb.connect() as connection:
        with pytest.raises(SourceError, match=r"within 0\.2 seconds"):
            stage(connection, source, IdRules(), options=StageOptions(idle_timeout=0.2))
        assert connection.execute("FROM duckdb_tables()").fetchall() == []


def test_source_that_still_delivers_is_not_given_up() -> None:
    """Rows, or blocks that are no rows yet, start the wait again."""
    times = [0.0]
    with duckdb.connect() as connection:
        query = InterruptibleQuery(
            connection=connection, on_progress=None, patience=10, now=lambda: times[-1]
        )
        for time in (9.0, 18.0):
            times.append(time)
            query.refuse_silence(0)
            query.arrived()
        for time, rows in ((27.0, 1), (36.0, 2), (45.0, 2)):
            times.append(time)
            query.refuse_silence(rows)
        times.append(47.0)
        with pytest.raises(SourceError, match="within 10 seconds"):
            query.refuse_silence(2)


@pytest.mark.parametrize("error", [BrokenPipeError("gone"), duckdb.IOException("gone"), KeyboardInterrupt()])
def test_callbacks_error_is_raised_as_it_is(error: BaseException) -> None:
    """The callback's error is not an error of the source or the machine."""

    def fail(_rows: int) -> None:
        raise error

    with duckdb.connect() as connection, pytest.raises(type(error)) as caught:
        stage(connection, Source.parse("duckdb://", query=_ENDLESS), IdRules(), on_progress=fail)
    assert caught.value is error


def test_interrupt_from_outside_is_raised() -> None:
    """`connection.interrupt()` stops a staging, too."""
    with duckdb.connect() as connection:
        source = Source.parse("duckdb://", query=_ENDLESS)
        with pytest.raises(duckdb.InterruptException):
            stage(connection, source, IdRules(), on_progress=lambda _rows: connection.interrupt())


def test_iterable_is_stopped_between_portions() -> None:
    """The caller's generator is not read further after the callback has raised."""
    called = threading.Event()

    def endless() -> Any:
        while True:
            yield "a"

    def stop(rows: int) -> None:
        called.set()
        _stop(rows)

    with duckdb.connect() as connection, pytest.raises(_StopError):
        stage(connection, Source.of(endless()), IdRules(), on_progress=stop)
    assert called.is_set()


def test_rows_are_reported_while_they_are_read() -> None:
    """The progress of a statement is its share of the expected rows, if these are known."""
    told = threading.Event()
    seen: list[int] = []

    def note(rows: int) -> None:
        seen.append(rows)
        if len(seen) > 2:
            told.set()

    connection = _Connection(share=50.0)
    with InterruptibleQuery(connection=connection, on_progress=note, done=10) as interruptible:  # type: ignore[arg-type]  # a double
        interruptible.expected = 100
        assert told.wait(60)
    assert seen[-1] == 60
    told.clear()
    connection.share = -1.0  # DuckDB does not know yet
    with InterruptibleQuery(connection=connection, on_progress=note, done=10, expected=100):  # type: ignore[arg-type]  # a double
        assert told.wait(60)
    assert seen[-1] == 10


def test_interrupts_are_repeated() -> None:
    """An interrupt between two statements has no effect and is repeated. Work outside DuckDB is aborted."""
    aborted = threading.Semaphore(0)
    connection = _Connection(share=0.0)
    interruptible = InterruptibleQuery(connection=connection, on_progress=_stop)  # type: ignore[arg-type]  # a double
    interruptible.abort = aborted.release
    with interruptible:
        for _ in range(3):
            assert aborted.acquire(timeout=60)
    assert connection.interrupts >= 3
    with pytest.raises(_StopError):
        interruptible.check()


def test_clean_up_is_not_interrupted() -> None:
    """Statements that restore a connection are not interrupted. The interrupts continue after them."""
    connection = _Connection(share=0.0)
    interruptible = InterruptibleQuery(connection=connection, on_progress=_stop)  # type: ignore[arg-type]  # a double
    aborted = threading.Semaphore(0)
    interruptible.abort = aborted.release
    with interruptible:
        with interruptible.uninterruptible():
            assert not aborted.acquire(timeout=0.25)
        assert aborted.acquire(timeout=60)


def test_interrupt_is_not_an_error_of_the_source() -> None:
    """An interrupt during any kind of reading is not reported as an error of the source."""
    with pytest.raises(duckdb.InterruptException), explained(lambda exc: ValueError(str(exc))):
        raise duckdb.InterruptException
    error = duckdb.IOException("gone")
    with pytest.raises(ValueError, match="gone"), explained(lambda exc: ValueError(str(exc))):
        raise error


def test_no_callback_needs_no_thread() -> None:
    """Without a callback there is no thread."""
    before = set(threading.enumerate())
    with InterruptibleQuery(connection=_Connection(share=0.0), on_progress=None) as interruptible:  # type: ignore[arg-type]  # a double
        assert set(threading.enumerate()) <= before
    interruptible.check()


class _Connection:
    """What a InterruptibleQuery asks of a connection."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.interrupts = 0

    def query_progress(self) -> float:
        """Return the share that is read."""
        return self.share

    def interrupt(self) -> None:
        """Count."""
        self.interrupts += 1


def test_host_that_does_not_answer_is_left_behind() -> None:
    """A connection that hangs ends with the callback's error. A failure to connect is raised as it is."""
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and never answers
        address = f"postgresql://me@127.0.0.1:{server.getsockname()[1]}/db"
        source = Source.parse(address, query="SELECT 1 AS id")
        with duckdb.connect() as connection, pytest.raises(_StopError):
            stage(connection, source, IdRules(), on_progress=_stop)


def test_failure_of_abandonable_work_is_raised() -> None:
    """The error of work that was not abandoned is raised in the caller's thread."""
    interruptible = InterruptibleQuery(connection=_Connection(share=0.0), on_progress=None)  # type: ignore[arg-type]  # a double

    def fail() -> None:
        raise _StopError

    with pytest.raises(_StopError):
        interruptible.abandonable(fail)
    assert interruptible.abandonable(lambda: 5) == 5
