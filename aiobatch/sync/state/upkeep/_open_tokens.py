"""The tokens of an open run, for a program that waits for them itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ...._client import AudienceClient
from ....models import IndexingToken, check_name
from ....options import check_instance
from .._chunks import ChunkState
from .._journal import Journal
from .._targets import TargetKey
from ..ledger._ledger import StateUrl
from ..objects._open_state import read_state, to_location


async def open_tokens(state: Path | str | StateUrl, client: AudienceClient, name: str) -> list[IndexingToken]:
    """Return the tokens that the open run of an audience waits for, in the order of its chunks.

    Chunks of unknown outcome have none: `SyncEngine.settle` sends them again. Nothing is sent here.

    Args:
        state: The state: a file, or a URL such as `s3://bucket/prefix`.
        client: A client of the audience's target. It need not be open.
        name: The audience's name.

    Raises:
        LockedError: A run has the state file open. On object storage, a run is no obstacle.
        StateError: There is no state, or it cannot be read.
        InvalidInputError: An argument is invalid.
    """
    check_instance(client, AudienceClient, "client")
    check_name(name)
    location = to_location(state)
    return await asyncio.to_thread(_read, location, TargetKey.of(client.target).audience_key(name))


def _read(location: Path | StateUrl, key: str) -> list[IndexingToken]:
    with read_state(location, only=key) as state:
        if not state.rows("SELECT 1 FROM audiences WHERE key = ?", [key]):
            return []
        journal = Journal.resume(state, state.audience_by_key(key))
        if journal is None:
            return []
        sent = journal.in_state(ChunkState.SENT)
        return [chunk.token for chunk in sent if chunk.token is not None]
