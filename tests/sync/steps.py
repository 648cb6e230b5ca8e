"""Steps of chunks, written down as the sender does it."""

from __future__ import annotations

from collections.abc import Iterable

from aiobatch.sync.state._chunks import ChunkState, ChunkTransition
from aiobatch.sync.state._journal import Journal


def mark_sending(journal: Journal, ns: Iterable[int]) -> None:
    """Write down, before they are sent, that chunks are."""
    journal.record(ChunkTransition(n=n, state=ChunkState.SENDING) for n in ns)


def mark_sent(journal: Journal, n: int, token: str) -> None:
    """Write down a chunk's token."""
    journal.record([ChunkTransition(n=n, state=ChunkState.SENT, token=token)])


def mark_applied(journal: Journal, ns: Iterable[int]) -> None:
    """Write down that chunks are APPLIED: from here on their changes count."""
    journal.record(ChunkTransition(n=n, state=ChunkState.APPLIED) for n in ns)


def mark_refused(journal: Journal, n: int, reason: str) -> None:
    """Write down that Batch refuses every id of a chunk."""
    journal.record([ChunkTransition(n=n, state=ChunkState.REFUSED, reason=reason)])
