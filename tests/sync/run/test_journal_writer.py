from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from aiobatch.sync import JournalError, Mode
from aiobatch.sync.run._journal_writer import JournalWriter
from aiobatch.sync.state._chunks import ChunkState, ChunkTransition
from aiobatch.sync.state._diff import PlanRequest, make_plan
from aiobatch.sync.state._journal import Journal
from aiobatch.sync.state._state import State
from aiobatch.sync.state._thread import StateThread

from ..state.states import ANYTHING, stage, vip

CHUNKS = 20


def _begin(state: State) -> Journal:
    """Begin a run of twenty chunks."""
    stage(state, [f"user-{n}" for n in range(CHUNKS)])
    request = PlanRequest(mode=Mode.MIRROR, source="test", overrides=ANYTHING, chunk_size=1)
    return Journal.begin(state, make_plan(state, vip(state), request))


@pytest_asyncio.fixture
async def writer(tmp_path: Path) -> AsyncIterator[JournalWriter]:
    """Give a writer of a journal that was just begun."""
    thread = await StateThread.open(tmp_path / "state.duckdb", what="test", memory_limit="200MB")
    yield JournalWriter(await thread.run(_begin, thread.state), thread)
    await thread.aclose()


def sending(n: int) -> ChunkTransition:
    """Return the transition of a chunk that is sent."""
    return ChunkTransition(n=n, state=ChunkState.SENDING)


async def on_disk(writer: JournalWriter) -> list[int]:
    """Return the chunks whose steps are on disk."""
    state = writer.thread.state
    rows = await writer.thread.run(state.rows, "SELECT n FROM marks ORDER BY seq")
    return [n for (n,) in rows]


async def test_concurrent_transitions_share_a_transaction(
    writer: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is written at once, and those that arrive during its write form the second group."""
    groups: list[int] = []
    record = Journal.record

    def counted(self: Journal, transitions: Any) -> None:
        steps = list(transitions)
        groups.append(len(steps))
        record(self, steps)

    monkeypatch.setattr(Journal, "record", counted)
    await asyncio.gather(*(writer.write(sending(n)) for n in range(CHUNKS)))
    assert sum(groups) == CHUNKS
    assert len(groups) <= 2
    assert await on_disk(writer) == list(range(CHUNKS))


async def test_transition_is_on_disk_when_write_returns(writer: JournalWriter) -> None:
    """A caller may rely on a transition that it awaited."""
    await writer.write(sending(3))
    assert await on_disk(writer) == [3]
    assert writer.journal.chunks[3].state is ChunkState.SENDING


async def test_invalid_transition_raises(writer: JournalWriter) -> None:
    """The caller gets the error, and the next transition is written."""
    with pytest.raises(JournalError):
        await writer.write(ChunkTransition(n=1, state=ChunkState.APPLIED))
    await writer.write(sending(1))
    assert await on_disk(writer) == [1]


async def test_transition_is_written_after_its_caller_was_cancelled(writer: JournalWriter) -> None:
    """A token that was received is written before the writer closes."""
    tasks = [asyncio.create_task(writer.write(sending(n))) for n in range(3)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await writer.aclose()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await on_disk(writer) == [0, 1, 2]
    await writer.aclose()


async def test_failed_group_fails_the_remaining_callers(writer: JournalWriter) -> None:
    """If one caller of a failing group was cancelled, the other gets the error."""
    left = asyncio.create_task(writer.write(ChunkTransition(n=1, state=ChunkState.APPLIED)))
    stays = asyncio.create_task(writer.write(ChunkTransition(n=1, state=ChunkState.APPLIED)))
    await asyncio.sleep(0)
    left.cancel()
    with pytest.raises(JournalError):
        await stays
