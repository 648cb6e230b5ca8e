"""The indexing tokens that an audience's open run waits for."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiobatch import AudienceClient, IndexingToken
from aiobatch.sync import StateError
from aiobatch.sync.state._chunks import ChunkState
from aiobatch.sync.state._journal import Journal
from aiobatch.sync.state._state import State
from aiobatch.sync.state._targets import TargetKey


async def open_tokens(state: str, client: AudienceClient, name: str) -> list[IndexingToken]:
    """Return the tokens of chunks that are sent and not known to be APPLIED, in the order of the chunks.

    Args:
        state: The state, which no run has open.
        client: A client of the audience's target.
        name: The audience's name.

    Raises:
        StateError: The state cannot be read.
        LockedError: A run has it open.
    """
    return await asyncio.to_thread(_read, state, client, name)


def _read(path: str, client: AudienceClient, name: str) -> list[IndexingToken]:
    try:
        state = State.read(Path(path))
    except StateError as error:
        if error.reason == "missing":
            return []
        raise
    with state:
        key = TargetKey.of(client.target).audience_key(name)
        if not state.rows("SELECT 1 FROM audiences WHERE key = ?", [key]):
            return []
        journal = Journal.resume(state, state.audience_by_key(key))
        chunks = [] if journal is None else journal.in_state(ChunkState.SENT)
        return [chunk.token for chunk in chunks if chunk.token is not None]
