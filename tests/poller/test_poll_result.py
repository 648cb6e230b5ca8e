from __future__ import annotations

from typing import Any

import pytest

from aiobatch._poller._poll_result import PollResult, interpret
from aiobatch.errors import (
    AiobatchError,
    AudienceNotFoundError,
    AuthenticationError,
    ConnectError,
    ForbiddenError,
    InvalidInputError,
    InvalidRequestError,
    MaintenanceError,
    MalformedResponseError,
    RateLimitedError,
    RequestTimeoutError,
    ResponseError,
    ServerError,
    TokenReplacedError,
    TransportError,
)
from aiobatch.models import Audience, IdType, IndexingState, IndexingToken, Operation

_FIELDS: dict[str, Any] = {"method": "GET", "path": "/"}
MISSING = AudienceNotFoundError("missing", status=404, **_FIELDS)


def _token(operation: Operation = Operation.UPDATE) -> IndexingToken:
    return IndexingToken("vip", "t", operation)


def _audience(state: IndexingState | None) -> Audience:
    return Audience(name="vip", id_type=IdType.CUSTOM_IDS, indexing_state=state)


@pytest.mark.parametrize("operation", Operation)
def test_applied_ends_the_wait_with_the_audience(operation: Operation) -> None:
    """APPLIED is the result of any operation."""
    audience = _audience(IndexingState.APPLIED)

    assert interpret(_token(operation), audience) == PollResult(final=audience)


def test_replaced_ends_the_wait_with_an_error() -> None:
    """REPLACED is final."""
    result = interpret(_token(), _audience(IndexingState.REPLACED))

    assert isinstance(result.final, TokenReplacedError)
    assert result.final.token == "vip:update:t"


@pytest.mark.parametrize("state", ["IN_PROGRESS", "SOMETHING_NEW"])
def test_any_other_state_is_pending(state: str) -> None:
    """A state that is not known to be final does not end the wait."""
    assert interpret(_token(), _audience(IndexingState(state))) == PollResult(pending_state=state)


def test_answer_without_a_state_is_a_failure() -> None:
    """A response without a state is a failed poll."""
    failure = interpret(_token(), _audience(None)).failure
    assert isinstance(failure, MalformedResponseError)
    assert "no indexing_state" in str(failure)


PASSING_STATUSES = (408, 425, 429, *range(500, 600))
LASTING_STATUSES = (400, 401, 402, 403, 404, 405, 409, 410, 413, 415, 422, 451)


@pytest.mark.parametrize("operation", Operation)
def test_passing_status_is_a_failed_poll(operation: Operation) -> None:
    """Every failure of a server ends no wait, and a proxy's page ends none with any status."""
    for status in (*PASSING_STATUSES, *LASTING_STATUSES):
        page = ResponseError("a page", status=status, is_foreign=True, **_FIELDS)
        assert interpret(_token(operation), page) == PollResult(failure=page)
    for status in PASSING_STATUSES:
        error = ResponseError("it failed", status=status, **_FIELDS)
        assert interpret(_token(operation), error) == PollResult(failure=error)


@pytest.mark.parametrize(
    "error",
    [
        RateLimitedError("slow down", status=429, **_FIELDS),
        ServerError("broken", status=500, **_FIELDS),
        MaintenanceError("down", status=503, **_FIELDS),
        AudienceNotFoundError("a page", status=404, is_foreign=True, **_FIELDS),
        TransportError("reset"),
        RequestTimeoutError("slow"),
        ConnectError("refused"),
        MalformedResponseError("half"),
    ],
    ids=str,
)
@pytest.mark.parametrize("operation", Operation)
def test_temporary_error_is_a_failed_poll(error: AiobatchError, operation: Operation) -> None:
    """Overload, maintenance, broken connections, unreadable responses and a proxy's pages end no wait."""
    assert interpret(_token(operation), error) == PollResult(failure=error)


@pytest.mark.parametrize(
    "error",
    [
        *(ResponseError(f"no {status}", status=status, **_FIELDS) for status in LASTING_STATUSES),
        InvalidRequestError("bad", status=400, **_FIELDS),
        AuthenticationError("key", status=401, **_FIELDS),
        ForbiddenError("no", status=403, **_FIELDS),
        MISSING,
        ConnectError("untrusted", lasting=True),
        InvalidInputError("the session is closed"),
    ],
    ids=str,
)
def test_lasting_error_ends_the_wait(error: AiobatchError) -> None:
    """Any other error status of Batch is final, and so is an error that no later poll can avoid."""
    assert interpret(_token(), error) == PollResult(final=error)


@pytest.mark.parametrize("operation", [Operation.UPDATE, Operation.REPLACE, Operation.CREATE])
def test_missing_audience_that_is_being_created_is_pending(operation: Operation) -> None:
    """While a creation is not indexed, a 404 means pending for any write of that audience."""
    assert interpret(_token(operation), MISSING, is_being_created=True).pending_state is not None


def test_missing_audience_of_a_creation_is_pending() -> None:
    """An audience does not exist until its creation is indexed."""
    assert interpret(_token(Operation.CREATE), MISSING).pending_state == "404, not created yet"


def test_missing_audience_of_a_deletion_is_applied() -> None:
    """A deletion is applied when the audience no longer exists."""
    end = interpret(_token(Operation.DELETE), MISSING).final

    assert isinstance(end, Audience)
    assert (end.name, end.nb_ids, end.indexing_state) == ("vip", 0, IndexingState.APPLIED)
