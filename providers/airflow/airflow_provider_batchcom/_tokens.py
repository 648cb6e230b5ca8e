"""The indexing tokens that an audience's open run waits for."""

from __future__ import annotations

from aiobatch import AudienceClient, IndexingToken
from aiobatch.sync import SyncEngine
from aiobatch.sync.state._chunks import ChunkState
from aiobatch.sync.state._journal import Journal
from aiobatch.sync.state._state import State
from aiobatch.sync.state._targets import TargetKey, get_or_create_audience


async def open_tokens(state: str, client: AudienceClient, name: str) -> list[IndexingToken]:
    """Return the tokens of chunks that are sent and not known to be APPLIED, in the order of the chunks.

    Args:
        state: The state, which this process does not have open.
        client: A client of the audience's target.
        name: The audience's name.

    Raises:
        StateError: The state cannot be read.
        LockedError: A run has it open.
    """
    engine = SyncEngine(state=state, records_attempts=False)
    async with engine, engine._record("read the tokens of", client, name) as thread:  # noqa: SLF001 - aiobatch has no public way
        return await thread.call(_read, TargetKey.of(client.target), name)


def _read(state: State, target: TargetKey, name: str) -> list[IndexingToken]:
    journal = Journal.resume(state, get_or_create_audience(state, target, name))
    chunks = [] if journal is None else journal.in_state(ChunkState.SENT)
    return [chunk.token for chunk in chunks if chunk.token is not None]
