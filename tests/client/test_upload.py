from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiobatch._client import _upload
from aiobatch._client._upload import Items, Upload, UploadChunk
from aiobatch.dialects import check_members
from aiobatch.errors import InvalidInputError, TransportError, UploadError
from aiobatch.models import IndexingToken, Member

from ..conftest import leaked_tasks

SIZE = 4


class Batch:
    """Accepts chunks after a few iterations of the loop, and records those in flight.

    Args:
        turns: How many turns each chunk takes, one after the other.
        failing: The numbers, by when they were sent, of the chunks that fail.
    """

    def __init__(self, turns: list[int] | None = None, failing: frozenset[int] = frozenset()) -> None:
        self.turns = turns or [1]
        self.failing = failing
        self.sent: list[tuple[list[Any], list[Any]]] = []
        self.accepted: list[tuple[list[Any], list[Any]]] = []
        self.under_way: list[set[str]] = []
        self.peak = 0
        self.clashes = self.claims = self.false_claims = 0

    async def send(self, chunk: UploadChunk) -> IndexingToken:
        """Accept one chunk."""
        number = len(self.sent)
        add, remove = chunk.lists["add"], chunk.lists["remove"]
        self.sent.append((add, remove))
        ids = {item if isinstance(item, str) else item.id for item in (*add, *remove)}
        self.clashes += any(not ids.isdisjoint(other) for other in self.under_way)
        self.false_claims += chunk.is_distinct and len(ids) < chunk.size
        self.claims += chunk.is_distinct
        self.under_way.append(ids)
        self.peak = max(self.peak, len(self.under_way))
        try:
            for _ in range(self.turns[number % len(self.turns)]):
                await asyncio.sleep(0)
            if number in self.failing:
                msg = "reset"
                raise TransportError(msg)
        finally:
            self.under_way.remove(ids)
        self.accepted.append((add, remove))
        return IndexingToken("vip", f"t{number}")


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_upload, "MAX_IDS", SIZE)


def upload(
    batch: Batch,
    add: Items = (),
    remove: Items = (),
    *,
    limit: int = 3,
    on_progress: Callable[[int], None] | None = None,
) -> Upload:
    """Return an upload to *batch*."""
    return Upload(
        "vip", add, remove, check=check_members, send=batch.send, limit=limit, on_progress=on_progress
    )


async def stream(items: list[Any]) -> AsyncIterator[Any]:
    """Yield items asynchronously."""
    for item in items:
        await asyncio.sleep(0)
        yield item


STYLES: list[Callable[[list[Any]], Any]] = [list, tuple, iter, stream]
IDS = st.lists(st.integers(0, 30).map(str) | st.integers(0, 30).map(lambda n: Member(str(n))), max_size=40)
PLAIN = st.lists(st.integers(0, 30).map(str), max_size=40)


@given(
    add=IDS | PLAIN,
    remove=PLAIN,
    styles=st.tuples(st.sampled_from(STYLES), st.sampled_from(STYLES)),
    turns=st.lists(st.integers(0, 6), min_size=1, max_size=8),
    failing=st.frozensets(st.integers(0, 12), max_size=2),
    limit=st.integers(1, 5),
)
def test_every_position_is_accounted_for(
    add: list[str | Member],
    remove: list[str],
    styles: tuple[Callable[[list[Any]], Any], Callable[[list[Any]], Any]],
    turns: list[int],
    failing: frozenset[int],
    limit: int,
) -> None:
    """For any IDs, chunks in flight are disjoint, and each position is sent, not sent or unread."""
    if stream not in styles and iter not in styles:  # else it would be refused
        gone = set(remove)
        add = [item for item in add if (item if isinstance(item, str) else item.id) not in gone]
    batch = Batch(turns, failing)

    async def run() -> UploadError | None:
        try:
            tokens = await upload(batch, styles[0](add), styles[1](remove), limit=limit).run()
        except UploadError as error:
            return error
        finally:
            assert not await leaked_tasks()
        _check_success(batch, add, remove, tokens)
        return None

    error = asyncio.run(run())
    assert batch.clashes == batch.false_claims == 0
    assert batch.peak <= limit
    assert all(1 <= len(added) + len(removed) <= SIZE for added, removed in batch.sent)
    assert all(len(added) + len(removed) == SIZE for added, removed in batch.sent[:-1])
    if error is not None:
        _check_account(batch, add, remove, error)


def _check_success(batch: Batch, add: list[Any], remove: list[Any], tokens: list[IndexingToken]) -> None:
    """Check that all was sent, in order, with a token for each chunk in the order of the ids."""
    assert [item for added, _ in batch.sent for item in added] == add
    assert [item for _, removed in batch.sent for item in removed] == remove
    assert [token.value for token in tokens] == [f"t{number}" for number in range(len(batch.sent))]
    assert len(batch.accepted) == len(batch.sent) == -(-(len(add) + len(remove)) // SIZE)


def _check_account(batch: Batch, add: list[Any], remove: list[Any], error: UploadError) -> None:
    """Check that the error reports every position correctly."""
    lists = {"add": add, "remove": remove}
    positions = [
        *((name, index) for name, span in (*error.sent, *error.not_sent) for index in span),
        *((name, index) for name, start in error.unread.items() for index in range(start, len(lists[name]))),
    ]
    assert sorted(positions) == sorted(
        (name, index) for name, items in lists.items() for index in range(len(items))
    )
    said = sorted((name, str(lists[name][index])) for name, span in error.sent for index in span)
    true = [("add", str(item)) for added, _ in batch.accepted for item in added]
    true += [("remove", str(item)) for _, removed in batch.accepted for item in removed]
    assert said == sorted(true)
    assert len(error.tokens) == len(batch.accepted)
    assert isinstance(error.__cause__, TransportError)


def _naturals(read: list[int]) -> Iterator[str]:
    for number in itertools.count():
        read.append(number)
        yield f"{number:09}"


async def _naturals_later(read: list[int]) -> AsyncIterator[str]:
    for item in _naturals(read):
        yield item


@pytest.mark.parametrize("source", [_naturals, _naturals_later])
async def test_read_ahead_is_limited(source: Callable[[list[int]], Any]) -> None:
    """An endless iterable is read only for the chunks in flight and the next one."""
    read: list[int] = []
    batch = Batch([10**9])
    task = asyncio.create_task(upload(batch, source(read), limit=3).run())
    for _ in range(100):
        await asyncio.sleep(0)

    assert len(read) <= 3 * SIZE + SIZE
    assert len(batch.sent) == 3
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_unordered_chunks_are_known_to_be_distinct() -> None:
    """Comparing unordered IDs also shows that no chunk contains one twice."""
    batch = Batch(turns=[3])

    await upload(batch, ["1", "5", "2", "6", "3", "7", "4", "8", "0", "9", "0"]).run()

    assert (batch.claims, batch.false_claims) == (1, 0)  # the first was alone, the last has one twice


@pytest.mark.parametrize("order", ["sorted", "shuffled"])
async def test_ids_of_ended_chunks_are_forgotten(order: str) -> None:
    """The IDs of a chunk are forgotten when it ends, ordered or not."""
    ids = [f"{number:04}" for number in range(200)]
    if order == "shuffled":
        random.Random(1).shuffle(ids)
    job = upload(Batch([1, 3, 2]), iter(ids))

    await job.run()

    under_way = job._in_flight
    assert (under_way._chunks, under_way._ranges if order == "sorted" else under_way._ids) == (
        ({}, {}) if order == "sorted" else ({}, set())
    )


async def test_repeated_id_waits_for_the_first() -> None:
    """A chunk that repeats an ID waits until the chunk in flight has ended."""
    batch = Batch([20, 1])

    await upload(batch, iter(["a", "b", "c", "d", "a", "e", "f", "g", "h"])).run()

    assert batch.clashes == 0
    assert batch.peak <= 2
    assert len(batch.accepted) == 3


async def test_id_twice_in_a_chunk_is_no_conflict() -> None:
    """An ID that is twice in one chunk does not conflict with other chunks."""
    batch = Batch([5])

    await upload(batch, iter(["x", "a", "x", "b", "m", "m", "c", "n"])).run()

    assert batch.peak == 2


async def test_empty_upload_sends_nothing() -> None:
    """Without IDs there is no chunk and no token."""
    batch = Batch()

    assert await upload(batch, [], iter([])).run() == []
    assert batch.sent == []


async def test_adds_and_removes_share_a_chunk() -> None:
    """The last chunk of adds is filled up with removes."""
    batch = Batch()

    await upload(batch, ["1", "2", "3", "4", "5"], ["6", "7", "8", "9"]).run()

    assert batch.sent == [(["1", "2", "3", "4"], []), (["5"], ["6", "7", "8"]), ([], ["9"])]


async def test_progress_counts_accepted_ids() -> None:
    """The callback is called for every accepted chunk only."""
    heard: list[int] = []

    with pytest.raises(UploadError):
        await upload(Batch(failing=frozenset({2})), iter(map(str, range(10))), on_progress=heard.append).run()

    assert heard == [4, 8]


async def test_exception_of_the_callback_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """An exception of the callback is logged, and the upload continues."""

    def explode(_: int) -> None:
        raise ZeroDivisionError

    tokens = await upload(Batch(), map(str, range(8)), on_progress=explode).run()

    assert len(tokens) == 2
    assert caplog.text.count("on_progress raised") == 2


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


async def test_cancelled_upload_leaves_no_task() -> None:
    """Cancelling an upload ends its chunks and closes its iterators."""
    batch = Batch([10**9])
    task = asyncio.create_task(upload(batch, _naturals_later([])).run())
    for _ in range(20):
        await asyncio.sleep(0)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert batch.under_way == []
    assert not await leaked_tasks()


async def test_check_of_large_collections_does_not_block() -> None:
    """The check of a long list yields to the event loop between chunks."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counter = asyncio.create_task(count())
    await upload(Batch(), [*map(str, range(400))], [*map(str, range(400, 800))])._check_collections()
    counter.cancel()
    await asyncio.gather(counter, return_exceptions=True)

    assert turns >= 400 * 2 // SIZE
