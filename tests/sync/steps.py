"""Chunk transitions, recorded as the sender does."""

from __future__ import annotations

from collections.abc import Iterable

from aiobatch.models import IndexingToken
from aiobatch.sync.state._chunks import ChunkState, ChunkTransition
from aiobatch.sync.state._journal import Journal


def mark_sending(journal: Journal, ns: Iterable[int]) -> None:
    """Record that chunks are about to be sent."""
    journal.record(ChunkTransition(n=n, state=ChunkState.SENDING) for n in ns)


def mark_sent(journal: Journal, n: int, token: str) -> None:
    """Record a chunk's token."""
    journal.record([ChunkTransition(n=n, state=ChunkState.SENT, token=IndexingToken.parse(token))])


def mark_applied(journal: Journal, ns: Iterable[int]) -> None:
    """Record that chunks are APPLIED."""
    journal.record(ChunkTransition(n=n, state=ChunkState.APPLIED) for n in ns)


def mark_refused(journal: Journal, n: int, reason: str) -> None:
    """Record that Batch refused every ID of a chunk."""
    journal.record([ChunkTransition(n=n, state=ChunkState.REFUSED, reason=reason)])
