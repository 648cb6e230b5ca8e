"""The interpretation of an answer to a poll."""

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

# BATCH_API.md, "Errors": these statuses are not about the token, so they never end a wait.
_TEMPORARY = frozenset({408, 429, 500, 502, 503, 504})


@attrs.frozen(kw_only=True)
class PollResult:
    """The meaning of one answer. Exactly one field is set.

    Attributes:
        final: The result of the wait.
        pending_state: The state of a token that is still pending.
        failure: Why the poll returned no state.
    """

    final: Audience | AiobatchError | None = None
    pending_state: str | None = None
    failure: str | None = None


def interpret(token: IndexingToken, answer: Audience | AiobatchError) -> PollResult:
    """Interpret an answer. Only a state or an error that waiting cannot change ends the wait."""
    if isinstance(answer, AiobatchError):
        return _interpret_error(token, answer)
    state = answer.indexing_state
    if state is None:
        return PollResult(failure="a response without indexing_state")
    if state is IndexingState.APPLIED:
        return PollResult(final=answer)
    if state is IndexingState.REPLACED:
        return PollResult(final=TokenReplacedError(token=str(token), audience=token.audience))
    return PollResult(pending_state=str(state))


def outcome_of(result: Audience | Exception) -> Outcome:
    """Return the outcome of a wait that ended with *result*."""
    if isinstance(result, Audience):
        return Outcome.APPLIED
    if isinstance(result, TokenReplacedError):
        return Outcome.REPLACED
    return Outcome.TIMED_OUT if isinstance(result, IndexingTimeoutError) else Outcome.FAILED


def _interpret_error(token: IndexingToken, error: AiobatchError) -> PollResult:
    if isinstance(error, AudienceNotFoundError) and token.operation is Operation.DELETE:
        deleted = Audience(
            name=token.audience, id_type=IdType.CUSTOM_IDS, nb_ids=0, indexing_state=IndexingState.APPLIED
        )
        return PollResult(final=deleted)
    if isinstance(error, AudienceNotFoundError) and token.operation is Operation.CREATE:
        # 2.x answers 404 until the creation is indexed.
        return PollResult(pending_state="404, not created yet")
    if not isinstance(error, ResponseError):
        return PollResult(failure=type(error).__name__)
    if error.status in _TEMPORARY:
        return PollResult(failure=f"HTTP {error.status}")
    return PollResult(final=error)


class UnknownStateLog:
    """Logs each state that Batch's documentation does not name, once."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def check(self, state: IndexingState) -> None:
        """Log *state* if it is unknown and was not logged before."""
        if not state.is_known and state not in self._seen:
            self._seen.add(state)
            _logger.warning("unknown indexing state, polling continues: state=%s", state)
