"""The interpretation of an answer to a poll."""

from __future__ import annotations

import logging

import attrs

from .._logs import log
from ..errors import (
    AiobatchError,
    AudienceNotFoundError,
    ConnectError,
    IndexingTimeoutError,
    InvalidInputError,
    MalformedResponseError,
    ResponseError,
    TokenReplacedError,
)
from ..models import Audience, IdType, IndexingState, IndexingToken, Operation, Outcome
from ._token_wait import TokenWait

_logger = logging.getLogger("aiobatch.poller")

# Unknown states that are logged. A server that invents new ones without end must not fill the disk.
_LOGGED_STATES = 20

# These statuses are not about the token, so they never end a wait: a timeout, a replay that came too early,
# a rate limit, and every failure of a server or of a proxy in front of it.
_TEMPORARY = frozenset({408, 425, 429, *range(500, 600)})


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
    failure: AiobatchError | None = None


def interpret(
    token: IndexingToken, answer: Audience | AiobatchError, *, is_being_created: bool = False
) -> PollResult:
    """Interpret an answer. Only a state or an error that waiting cannot change ends the wait.

    Args:
        token: The token.
        answer: The answer to its poll.
        is_being_created: Whether the audience was created, but that is not indexed as far as is known.
    """
    if isinstance(answer, AiobatchError):
        return _interpret_error(token, answer, is_being_created=is_being_created)
    state = answer.indexing_state
    if state is None:
        msg = f"View of audience {token.audience!r} failed: the response has no indexing_state."
        return PollResult(failure=MalformedResponseError(msg))
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


def _interpret_error(token: IndexingToken, error: AiobatchError, *, is_being_created: bool) -> PollResult:
    if not isinstance(error, ResponseError):
        return PollResult(final=error) if _is_lasting(error) else PollResult(failure=error)
    if error.status in _TEMPORARY or error.is_foreign:
        return PollResult(failure=error)
    if isinstance(error, AudienceNotFoundError) and token.operation is Operation.DELETE:
        deleted = Audience(
            name=token.audience, id_type=IdType.CUSTOM_IDS, nb_ids=0, indexing_state=IndexingState.APPLIED
        )
        return PollResult(final=deleted)
    if isinstance(error, AudienceNotFoundError) and (is_being_created or token.operation is Operation.CREATE):
        # 2.x answers 404 for any token of the audience until the creation is indexed.
        return PollResult(pending_state="404, not created yet")
    return PollResult(final=error)


def _is_lasting(error: AiobatchError) -> bool:
    """Return whether no later poll can succeed: nothing was sent, for a reason that remains."""
    return isinstance(error, InvalidInputError) or (isinstance(error, ConnectError) and error.lasting)


def name_of(failure: AiobatchError) -> str:
    """Return a short name of a failed poll."""
    return f"HTTP {failure.status}" if isinstance(failure, ResponseError) else type(failure).__name__


class FailureLog:
    """Logs the first failed poll of a series, whatever the number of tokens that fail for that reason."""

    def __init__(self) -> None:
        self._logged: set[str] = set()

    def record_failure(self, wait: TokenWait, failure: AiobatchError) -> None:
        """Log *failure* unless a poll failed for the same reason since the last recovery."""
        if (name := name_of(failure)) not in self._logged:
            self._logged.add(name)
            log(
                _logger,
                logging.WARNING,
                "poll failed",
                wait_id=wait.number,
                audience=wait.token.audience,
                polls=wait.polls,
                error=type(failure).__name__,
                reason=str(failure),
            )

    def record_recovery(self) -> None:
        """Note that a token whose polls failed was polled with success."""
        self._logged.clear()


class UnknownStateLog:
    """Logs each state that Batch's documentation does not name once, up to a limit."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def check(self, state: IndexingState) -> None:
        """Log *state* if it is unknown and was not logged before."""
        if not state.is_known and state not in self._seen and len(self._seen) < _LOGGED_STATES:
            self._seen.add(state)
            log(_logger, logging.WARNING, "unknown indexing state, polling continues", state=str(state))
