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
from aiobatch.errors import TransportError, UploadError
from aiobatch.models import IndexingToken, Member

from ..conftest import leaked_tasks
from .upload_target import SIZE, Batch, stream, upload


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_upload, "MAX_IDS", SIZE)


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

    in_flight = job._in_flight
    assert (in_flight._chunks, in_flight._ranges if order == "sorted" else in_flight._ids) == (
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


async def test_cancelled_upload_leaves_no_task() -> None:
    """Cancelling an upload ends its chunks and closes its iterators."""
    batch = Batch([10**9])
    task = asyncio.create_task(upload(batch, _naturals_later([])).run())
    for _ in range(20):
        await asyncio.sleep(0)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert batch.in_flight == []
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
