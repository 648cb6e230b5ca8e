"""Chunks, their states, and the transitions between them."""

from __future__ import annotations

import enum
from typing import Final, Self

import attrs

from ...models import IndexingToken
from .._errors import JournalError


class ChunkState(enum.StrEnum):
    """The state of a chunk."""

    PLANNED = "planned"
    SENDING = "sending"
    SENT = "sent"
    APPLIED = "applied"
    REFUSED = "refused"
    FAILED = "failed"
    REPLACED = "replaced"
    SPLIT = "split"
    DROPPED = "dropped"
    # Batch may have it. The next run decides for each of its IDs, by its own source.
    UNKNOWN = "unknown"


_TRANSITIONS: Final = {
    ChunkState.PLANNED: {ChunkState.SENDING, ChunkState.DROPPED},
    # SENDING again is a resend: the outcome of the first request is unknown.
    ChunkState.SENDING: {
        ChunkState.SENDING,
        ChunkState.SENT,
        ChunkState.REFUSED,
        ChunkState.FAILED,
        ChunkState.SPLIT,
        ChunkState.UNKNOWN,
    },
    # A chunk whose token Batch no longer knows is sent again.
    ChunkState.SENT: {ChunkState.SENDING, ChunkState.APPLIED, ChunkState.REPLACED, ChunkState.UNKNOWN},
}

# Batch may apply these chunks at any time, so they are settled before anything else is sent.
OPEN: Final = frozenset({ChunkState.SENDING, ChunkState.SENT})


@attrs.frozen(kw_only=True)
class ChunkTransition:
    """A change of a chunk's state.

    Attributes:
        n: The chunk's number.
        state: The new state.
        token: The indexing token, with SENT only.
        reason: Why, without IDs, with REFUSED and FAILED.
    """

    n: int
    state: ChunkState
    token: IndexingToken | None = None
    reason: str | None = None


@attrs.frozen(kw_only=True)
class Chunk:
    """The actions of one request.

    Attributes:
        n: Its number.
        first: Index of its first action in the run.
        past: Index after its last action.
        removes: How many of its actions are removals, which come first.
        state: Its state.
        token: Its indexing token. None if it has none.
        reason: Why it was refused or failed.
    """

    n: int
    first: int
    past: int
    removes: int
    state: ChunkState = ChunkState.PLANNED
    token: IndexingToken | None = None
    reason: str | None = None

    @classmethod
    def planned(cls, n: int, first: int, past: int, *, removes: int) -> Self:
        """Return a chunk in the state PLANNED.

        Args:
            n: Its number.
            first: Index of its first action.
            past: Index after its last action.
            removes: Removals of the whole run, which come first.
        """
        return cls(n=n, first=first, past=past, removes=max(0, min(past, removes) - first))

    @property
    def size(self) -> int:
        """Number of actions."""
        return self.past - self.first

    def after(self, transition: ChunkTransition) -> Self:
        """Return the chunk after a transition.

        Raises:
            JournalError: If the transition is not allowed.
        """
        if transition.state not in _TRANSITIONS.get(self.state, ()):
            msg = f"chunk {self.n} is {self.state} and cannot become {transition.state}"
            raise JournalError(msg)
        if (transition.token is not None) != (transition.state is ChunkState.SENT):
            msg = f"chunk {self.n}: a token comes with the state sent, and only with it"
            raise JournalError(msg)
        # A chunk that is sent again loses its token: the new request returns another one.
        keeps_token = transition.state in {ChunkState.APPLIED, ChunkState.REPLACED}
        token = self.token if keeps_token else transition.token
        return attrs.evolve(self, state=transition.state, token=token, reason=transition.reason)
