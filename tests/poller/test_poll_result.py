from __future__ import annotations

from typing import Any

import pytest

from aiobatch._poller._poll_result import PollResult, interpret
from aiobatch.errors import (
    AiobatchError,
    AudienceNotFoundError,
    AuthenticationError,
    ForbiddenError,
    InvalidRequestError,
    MaintenanceError,
    MalformedResponseError,
    RateLimitedError,
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
    assert interpret(_token(), _audience(None)).failure == "a response without indexing_state"


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (RateLimitedError("slow down", status=429, **_FIELDS), "HTTP 429"),
        (ServerError("broken", status=500, **_FIELDS), "HTTP 500"),
        (ServerError("gateway", status=502, **_FIELDS), "HTTP 502"),
        (MaintenanceError("down", status=503, **_FIELDS), "HTTP 503"),
        (ServerError("gateway", status=504, **_FIELDS), "HTTP 504"),
        (TransportError("reset"), "TransportError"),
        (MalformedResponseError("half"), "MalformedResponseError"),
    ],
    ids=str,
)
def test_temporary_error_is_a_failed_poll(error: AiobatchError, failure: str) -> None:
    """Overload, maintenance, broken connections and unreadable responses end no wait."""
    assert interpret(_token(), error) == PollResult(failure=failure)


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequestError("bad", status=400, **_FIELDS),
        AuthenticationError("key", status=401, **_FIELDS),
        ForbiddenError("no", status=403, **_FIELDS),
        MISSING,
        ServerError("unheard of", status=501, **_FIELDS),
    ],
    ids=str,
)
def test_lasting_error_ends_the_wait(error: AiobatchError) -> None:
    """Any other error status is final."""
    assert interpret(_token(), error) == PollResult(final=error)


def test_missing_audience_of_a_creation_is_pending() -> None:
    """An audience does not exist until its creation is indexed."""
    assert interpret(_token(Operation.CREATE), MISSING).pending_state == "404, not created yet"


def test_missing_audience_of_a_deletion_is_applied() -> None:
    """A deletion is applied when the audience no longer exists."""
    end = interpret(_token(Operation.DELETE), MISSING).final

    assert isinstance(end, Audience)
    assert (end.name, end.nb_ids, end.indexing_state) == ("vip", 0, IndexingState.APPLIED)
