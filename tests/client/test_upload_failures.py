from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from aiobatch._client import _upload
from aiobatch._client._upload import UploadChunk
from aiobatch.errors import AiobatchError, InvalidInputError, UploadError
from aiobatch.models import IndexingToken, Member

from ..conftest import leaked_tasks
from .upload_target import SIZE, Batch, check_members, upload


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_upload, "MAX_IDS", SIZE)


def _breaking(count: int) -> Iterator[str]:
    yield from map(str, range(count))
    msg = "the cursor is gone"
    raise OSError(msg)


async def _breaking_later(count: int) -> AsyncIterator[str]:
    for item in _breaking(count):
        yield item


@pytest.mark.parametrize("source", [_breaking, _breaking_later])
@pytest.mark.parametrize("name", ["add", "remove"])
async def test_exception_of_an_iterable_is_the_cause(source: Callable[[int], Any], name: str) -> None:
    """The upload ends with an account of every position and the tokens."""
    batch = Batch()

    with pytest.raises(UploadError) as caught:
        await upload(batch, **{name: source(10)}).run()

    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.sent == ((name, range(8)),)
    assert caught.value.unread[name] == 8
    assert caught.value.not_sent == ()
    assert len(caught.value.tokens) == 2


async def test_any_exception_of_an_iterator_is_the_cause() -> None:
    """StopAsyncIteration ends a stream only. Raised by a plain generator, it must not look like its end."""

    def source() -> Iterator[str]:
        yield from map(str, range(6))
        raise StopAsyncIteration

    with pytest.raises(UploadError) as caught:
        await upload(Batch(), add=source()).run()

    assert isinstance(caught.value.__cause__, StopAsyncIteration)
    assert caught.value.unread["add"] == 4


async def test_failure_ends_reading() -> None:
    """After a failure at most one more item of a slow stream is awaited."""
    batch = Batch(failing=frozenset({0}))
    gate = asyncio.Event()
    read = 0

    async def trickle() -> AsyncIterator[str]:
        nonlocal read
        for read in range(1000):
            if read == SIZE + 1:
                await gate.wait()
            yield f"{read:09}"

    task = asyncio.create_task(upload(batch, trickle(), ["x"], limit=2).run())
    for _ in range(20):
        await asyncio.sleep(0)
    gate.set()

    with pytest.raises(UploadError) as caught:
        await task
    assert read == SIZE + 1
    assert caught.value.not_sent == (("add", range(SIZE)),)
    assert caught.value.unread == {"add": SIZE, "remove": 0}


async def test_chunks_in_flight_finish_after_a_failure() -> None:
    """A failed chunk cancels no other, because the outcome would be unknown."""
    batch = Batch([1, 10], failing=frozenset({0}))

    with pytest.raises(UploadError) as caught:
        await upload(batch, iter(map(str, range(100, 140))), limit=2).run()

    assert caught.value.not_sent == (("add", range(4)),)
    assert caught.value.sent == (("add", range(4, 8)),)
    assert caught.value.unread == {"add": 8, "remove": 0}


async def test_chunk_waiting_for_a_failed_one_is_not_sent() -> None:
    """A chunk that waits for another counts as unread if that one fails."""
    batch = Batch([5], failing=frozenset({0}))

    with pytest.raises(UploadError) as caught:
        await upload(batch, iter(["a", "b", "c", "d", "a"])).run()

    assert len(batch.sent) == 1
    assert caught.value.unread == {"add": 4, "remove": 0}


async def test_collections_are_checked_before_anything_is_sent() -> None:
    """In a collection an invalid ID is found at any position."""
    batch = Batch()

    with pytest.raises(InvalidInputError, match=r"add\[9\]"):
        await upload(batch, [*map(str, range(9)), ""], iter([])).run()
    with pytest.raises(InvalidInputError, match=r"add\[5\] is also in remove"):
        await upload(batch, [*map(str, range(9))], {"5": 1}.keys()).run()
    with pytest.raises(InvalidInputError, match=r"add\[1\] is also in remove"):
        await upload(batch, ["1", Member("2")], [Member("2")]).run()
    with pytest.raises(InvalidInputError, match="remove must be an iterable of IDs, not dict"):
        await upload(batch, ["1"], {"2": "3"}).run()

    assert batch.sent == []


@pytest.mark.parametrize("bad", [5, None, ["list"], b"bytes"])
async def test_invalid_id_in_a_stream_has_its_position(bad: Any) -> None:
    """Its chunk fails, and the error contains the position in the iterable."""

    async def refuse(chunk: UploadChunk) -> IndexingToken:
        check_members(chunk.lists["add"], "add")
        check_members(chunk.lists["remove"], "remove")
        return IndexingToken("vip", "t")

    job = upload(Batch(), iter(["1", "2", "3", "4", "5", bad]), iter(["8"]))
    job._send = refuse

    with pytest.raises(UploadError) as caught:
        await job.run()
    assert str(caught.value.__cause__).startswith("add[5]: an ID must be")


async def test_id_in_both_streams_has_its_position() -> None:
    """Within one chunk an ID to add and to remove is found."""
    batch = Batch()

    async def refuse(chunk: UploadChunk) -> IndexingToken:
        if set(chunk.lists["add"]) & set(chunk.lists["remove"]):
            msg = "both"
            raise InvalidInputError(msg)
        return await batch.send(chunk)

    job = upload(batch, iter(["1", "2", "3", "4", "5", "6"]), iter(["6"]))
    job._send = refuse

    with pytest.raises(UploadError) as caught:
        await job.run()
    assert str(caught.value.__cause__).startswith("add[5] is also in remove")


async def test_rejection_without_a_position_is_the_cause() -> None:
    """A rejection by the dialect that no single item explains is the cause as it is."""

    async def refuse(chunk: UploadChunk) -> IndexingToken:
        msg = "the session is closed"
        raise InvalidInputError(msg)

    job = upload(Batch(), iter(["1"]))
    job._send = refuse

    with pytest.raises(UploadError) as caught:
        await job.run()
    assert str(caught.value.__cause__) == "the session is closed"


async def test_unexpected_exception_is_raised_unchanged() -> None:
    """An exception that is not an AiobatchError is raised as it is, and leaves no task."""

    async def explode(chunk: UploadChunk) -> IndexingToken:
        raise ZeroDivisionError

    job = upload(Batch(), iter(map(str, range(20))))
    job._send = explode

    with pytest.raises(ZeroDivisionError):
        await job.run()
    assert not await leaked_tasks()


class Pool:
    """A connection pool's only connection."""

    def __init__(self) -> None:
        self.taken = False

    def rows(self) -> Iterator[str]:
        """Yield IDs while the connection is taken."""
        self.taken = True
        try:
            yield from map(str, range(10**9))
        finally:
            self.taken = False

    async def rows_async(self) -> AsyncIterator[str]:
        """Yield IDs while the connection is taken, and return it after a turn of the event loop."""
        rows = self.rows()
        try:
            for row in rows:
                yield row
        finally:
            await asyncio.sleep(0)
            rows.close()  # type: ignore[attr-defined]  # it is a generator


class Table:
    """An iterable whose iterator is a generator."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def __aiter__(self) -> AsyncIterator[str]:
        return self.pool.rows_async()


SOURCES: dict[str, Callable[[Pool], Any]] = {
    "generator": Pool.rows,
    "asynchronous generator": Pool.rows_async,
    "iterable": Table,
}


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("name", ["add", "remove"])
@pytest.mark.parametrize("kind", list(SOURCES))
async def test_failed_upload_closes_its_source(kind: str, name: str) -> None:
    """A failure, and a cancellation, close the generators at once, without the garbage collector."""
    pool = Pool()
    source = SOURCES[kind](pool)
    with pytest.raises(UploadError):
        await upload(Batch(failing=frozenset({1})), **{name: source}).run()
    assert not pool.taken

    source = SOURCES[kind](pool)
    task = asyncio.create_task(upload(Batch(turns=[10**9]), **{name: source}).run())
    for _ in range(5):
        await asyncio.sleep(0)
    assert pool.taken
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not pool.taken


@pytest.mark.usefixtures("_no_collector")
async def test_failed_upload_leaves_no_cycle() -> None:
    """The error refers to no iterable, so that a wrapped generator ends with the last reference to it."""
    pool = Pool()
    with contextlib.suppress(UploadError):
        await upload(Batch(failing=frozenset({0})), add=map(str, pool.rows())).run()
    assert not pool.taken


@pytest.mark.parametrize("kind", ["generator", "asynchronous generator"])
async def test_exception_while_closing_is_logged(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """An exception that closing raises does not hide why the upload failed."""

    def broken() -> Iterator[str]:
        try:
            yield from map(str, range(10**9))
        finally:
            raise OSError

    async def broken_later() -> AsyncIterator[str]:
        try:
            for number in range(10**9):
                yield str(number)
        finally:
            raise OSError

    source = broken() if kind == "generator" else broken_later()
    with pytest.raises(UploadError) as caught:
        await upload(Batch(failing=frozenset({0})), source).run()
    assert isinstance(caught.value.__cause__, AiobatchError)
    assert "closing an iterable raised" in caplog.text


def test_repr_of_a_chunk_shows_no_id() -> None:
    """A chunk's repr ends up in logs and tracebacks."""
    chunk = UploadChunk(0)
    chunk.put("add", ["zoe@example.com"], 0)
    assert "zoe" not in repr(chunk)
    assert "range(0, 1)" in repr(chunk)
