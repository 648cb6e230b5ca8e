"""A chunk's life: which steps it can take."""

from __future__ import annotations

import enum
from typing import Final, Self

import attrs

from .._errors import JournalError


class ChunkState(enum.StrEnum):
    """How far a chunk is."""

    PLANNED = "planned"
    SENDING = "sending"
    SENT = "sent"
    APPLIED = "applied"
    REFUSED = "refused"
    FAILED = "failed"
    REPLACED = "replaced"
    SPLIT = "split"
    DROPPED = "dropped"


_STEPS: Final = {
    ChunkState.PLANNED: {ChunkState.SENDING, ChunkState.DROPPED},
    # A resend is a second step to SENDING: the outcome of the first is unknown.
    ChunkState.SENDING: {
        ChunkState.SENDING,
        ChunkState.SENT,
        ChunkState.REFUSED,
        ChunkState.FAILED,
        ChunkState.SPLIT,
    },
    # A token that Batch no longer knows is sent again.
    ChunkState.SENT: {ChunkState.SENDING, ChunkState.APPLIED, ChunkState.REPLACED},
}

# Batch may or may not have, or will have, these chunks: they come before anything else of their audience.
OPEN: Final = frozenset({ChunkState.SENDING, ChunkState.SENT})


@attrs.frozen(kw_only=True)
class ChunkTransition:
    """A step of a chunk.

    Attributes:
        n: The chunk's number.
        state: The state that it takes.
        token: Its indexing token, `str(IndexingToken)`; with SENT alone.
        reason: Why, without ids; with REFUSED and FAILED.
    """

    n: int
    state: ChunkState
    token: str | None = None
    reason: str | None = None


@attrs.frozen(kw_only=True)
class Chunk:
    """The actions of one request.

    Attributes:
        n: Its number.
        first: Its first action in the order of the run.
        past: One past its last.
        removes: How many of them are removes; the others are adds.
        state: How far it is.
        token: Its indexing token, as `str(IndexingToken)` wrote it; None while there is none.
        reason: Why it was refused or failed.
    """

    n: int
    first: int
    past: int
    removes: int
    state: ChunkState = ChunkState.PLANNED
    token: str | None = None
    reason: str | None = None

    @property
    def size(self) -> int:
        """Actions."""
        return self.past - self.first

    def step(self, mark: ChunkTransition) -> Self:
        """Return the chunk after a step.

        Args:
            mark: The step.

        Raises:
            JournalError: The chunk cannot take it.
        """
        if mark.state not in _STEPS.get(self.state, ()):
            msg = f"chunk {self.n} is {self.state} and cannot become {mark.state}"
            raise JournalError(msg)
        if (mark.token is not None) != (mark.state is ChunkState.SENT):
            msg = f"chunk {self.n}: a token comes with the state sent, and only with it"
            raise JournalError(msg)
        token = self.token if mark.state in {ChunkState.APPLIED, ChunkState.REPLACED} else mark.token
        return attrs.evolve(self, state=mark.state, token=token, reason=mark.reason)


def removes_within(first: int, past: int, removes: int) -> int:
    """Count the removes of a range, where the run's removes come first.

    Args:
        first: The range's first action.
        past: One past its last.
        removes: Removes of the whole run.
    """
    return max(0, min(past, removes) - first)
