from __future__ import annotations

import threading
from typing import Any

import duckdb
import pytest

from aiobatch.sync.sources._id_rules import IdRules
from aiobatch.sync.sources._interruptible import InterruptibleQuery
from aiobatch.sync.sources._relation import explained
from aiobatch.sync.sources._source import Source
from aiobatch.sync.sources._stage import stage

# Runs until it is interrupted.
_ENDLESS = "SELECT 'u' || i AS id FROM range(1000000000000) AS t(i)"


class _StopError(Exception):
    """Nobody wants the rows any more."""


def _stop(_rows: int) -> None:
    raise _StopError


def test_the_callback_stops_the_work() -> None:
    """An exception out of the callback interrupts DuckDB and is raised, and nothing is left staged."""
    with duckdb.connect() as connection:
        with pytest.raises(_StopError):
            stage(connection, Source.parse("duckdb://", query=_ENDLESS), IdRules(), on_progress=_stop)
        assert connection.execute("FROM duckdb_tables()").fetchall() == []


@pytest.mark.parametrize("error", [BrokenPipeError("gone"), duckdb.IOException("gone"), KeyboardInterrupt()])
def test_the_callback_s_error_is_raised_as_it_is(error: BaseException) -> None:
    """Whatever the callback raises is no failure of the source or of the machine."""

    def fail(_rows: int) -> None:
        raise error

    with duckdb.connect() as connection, pytest.raises(type(error)) as caught:
        stage(connection, Source.parse("duckdb://", query=_ENDLESS), IdRules(), on_progress=fail)
    assert caught.value is error


def test_an_interrupt_from_outside_comes_through() -> None:
    """`connection.interrupt()` stops a staging, too."""
    with duckdb.connect() as connection:
        source = Source.parse("duckdb://", query=_ENDLESS)
        with pytest.raises(duckdb.InterruptException):
            stage(connection, source, IdRules(), on_progress=lambda _rows: connection.interrupt())


def test_an_iterable_is_stopped_between_portions() -> None:
    """A generator of the caller's is not read on when the callback has raised."""
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


def test_rows_are_told_while_they_are_read() -> None:
    """A statement whose rows are known beforehand is told by its share, another by what came before."""
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


def test_work_that_does_not_heed_is_interrupted_again() -> None:
    """An interrupt between two statements has no effect and is repeated; what blocks elsewhere is aborted."""
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


def test_tidying_up_is_not_disturbed() -> None:
    """Statements that put a connection in order are not interrupted; the interrupts go on after them."""
    connection = _Connection(share=0.0)
    interruptible = InterruptibleQuery(connection=connection, on_progress=_stop)  # type: ignore[arg-type]  # a double
    aborted = threading.Semaphore(0)
    interruptible.abort = aborted.release
    with interruptible:
        with interruptible.uninterruptible():
            assert not aborted.acquire(timeout=0.25)
        assert aborted.acquire(timeout=60)


def test_an_interrupt_is_no_fault_of_a_source() -> None:
    """Whatever is being read when the interrupt comes, it is not told as an error of the source."""
    with pytest.raises(duckdb.InterruptException), explained(lambda exc: ValueError(str(exc))):
        raise duckdb.InterruptException
    error = duckdb.IOException("gone")
    with pytest.raises(ValueError, match="gone"), explained(lambda exc: ValueError(str(exc))):
        raise error


def test_nothing_is_watched_without_a_callback() -> None:
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
        """Tell the share of the rows, in percent."""
        return self.share

    def interrupt(self) -> None:
        """Count."""
        self.interrupts += 1
