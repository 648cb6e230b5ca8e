"""What the answer to one poll means for the wait."""

from __future__ import annotations

import logging

import attrs

from ..errors import (
    AiobatchError,
    AudienceNotFoundError,
    IndexingTimeoutError,
    ResponseError,
    TokenReplacedError,
)
from ..models import Audience, IdType, IndexingState, IndexingToken, Operation, Outcome

_logger = logging.getLogger("aiobatch.poller")

# BATCH_API.md, "Errors": these say nothing about the token, so they never end a wait.
_PASSING = frozenset({408, 429, 500, 502, 503, 504})


@attrs.frozen(kw_only=True)
class Verdict:
    """One of the three is given.

    Attributes:
        end: How the wait ends.
        pending: The state in which the token still is.
        failure: Why the poll brought no state.
    """

    end: Audience | AiobatchError | None = None
    pending: str | None = None
    failure: str | None = None


def judge(token: IndexingToken, answer: Audience | AiobatchError) -> Verdict:
    """Judge an answer: a wait ends only of what will not pass."""
    if isinstance(answer, AiobatchError):
        return _judge_error(token, answer)
    state = answer.indexing_state
    if state is None:
        return Verdict(failure="an answer without indexing_state")
    if state is IndexingState.APPLIED:
        return Verdict(end=answer)
    if state is IndexingState.REPLACED:
        return Verdict(end=TokenReplacedError(token=str(token), audience=token.audience))
    return Verdict(pending=str(state))


def outcome_of(end: Audience | Exception) -> Outcome:
    """Name the way in which a wait ended."""
    if isinstance(end, Audience):
        return Outcome.APPLIED
    if isinstance(end, TokenReplacedError):
        return Outcome.REPLACED
    return Outcome.TIMED_OUT if isinstance(end, IndexingTimeoutError) else Outcome.FAILED


def _judge_error(token: IndexingToken, error: AiobatchError) -> Verdict:
    """Judge a poll that brought no state."""
    if isinstance(error, AudienceNotFoundError) and token.operation is Operation.DELETE:
        return Verdict(end=_deleted(token))
    if isinstance(error, AudienceNotFoundError) and token.operation is Operation.CREATE:
        # 2.x: the audience is there only once its creation is indexed.
        return Verdict(pending="404, not created yet")
    if isinstance(error, ResponseError) and error.status not in _PASSING:
        return Verdict(end=error)
    return Verdict(
        failure=f"HTTP {error.status}" if isinstance(error, ResponseError) else type(error).__name__
    )


def _deleted(token: IndexingToken) -> Audience:
    """Return what is left of a deleted audience."""
    return Audience(
        name=token.audience, id_type=IdType.CUSTOM_IDS, nb_ids=0, indexing_state=IndexingState.APPLIED
    )


class OddStates:
    """Says once of each state that Batch's documentation does not name it."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def note(self, state: IndexingState) -> None:
        """Take note that Batch named *state*."""
        if not state.is_known and state not in self._seen:
            self._seen.add(state)
            _logger.warning(
                "Batch named an unknown indexing state, %r; the wait goes on until its timeout", str(state)
            )
