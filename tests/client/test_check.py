from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from aiobatch import (
    AiobatchError,
    AudienceClient,
    AudienceNotFoundError,
    AuthenticationError,
    IndexingState,
    InvalidInputError,
    MaintenanceError,
    MalformedResponseError,
    RetryPolicy,
    TransportError,
)
from aiobatch.interfaces import Response
from aiobatch.testing import FakeClock, FakeTransport, json_response

from .arguments.rejections import TARGETS

MISSING = json_response(404, {"error_code": "AUDIENCE_NOT_FOUND", "error_message": "none"})
STATES: Mapping[str, tuple[str, Response, str]] = {
    "pending": ("vip:update:t", json_response(200, {"indexing_state": "IN_PROGRESS"}), "IN_PROGRESS"),
    "applied": ("vip:update:t", json_response(200, {"indexing_state": "APPLIED"}), "APPLIED"),
    "replaced": ("vip:update:t", json_response(200, {"indexing_state": "REPLACED"}), "REPLACED"),
    "unknown": ("vip:update:t", json_response(200, {"indexing_state": "QUEUED"}), "QUEUED"),
    "not created yet": ("vip:create:t", MISSING, "IN_PROGRESS"),
    "deleted": ("vip:delete:t", MISSING, "APPLIED"),
}
FAILURES: Mapping[str, tuple[Response | BaseException, type[AiobatchError]]] = {
    "missing": (MISSING, AudienceNotFoundError),
    "wrong key": (json_response(401, {}), AuthenticationError),
    "maintenance": (json_response(503, {}), MaintenanceError),
    "no state": (json_response(200, {"name": "vip"}), MalformedResponseError),
    "broken": (TransportError("The connection broke."), TransportError),
}


def client_of(answer: Response | BaseException) -> tuple[AudienceClient, FakeTransport]:
    """Return a client that gets *answer*, and its transport."""
    transport = FakeTransport(lambda _: answer)
    retry = RetryPolicy(attempts=5)
    return AudienceClient(TARGETS["2.x"], transport=transport, clock=FakeClock(), retry=retry), transport


@pytest.mark.parametrize("case", list(STATES))
async def test_check_asks_once(case: str) -> None:
    """The state is returned after one request, whatever it is."""
    token, answer, state = STATES[case]
    client, transport = client_of(answer)
    async with client:
        result = await client.check(token)
    assert result == state
    assert isinstance(result, IndexingState)
    assert len(transport.requests) == 1
    assert transport.requests[0].target.endswith("indexing_token=t")


@pytest.mark.parametrize("case", list(FAILURES))
async def test_check_raises_the_failure_of_its_request(case: str) -> None:
    """A failure is raised at once, without a second request."""
    answer, error = FAILURES[case]
    client, transport = client_of(answer)
    async with client:
        with pytest.raises(error):
            await client.check("t", audience="vip")
    assert len(transport.requests) == 1


async def test_update_of_an_audience_that_is_being_created() -> None:
    """404 means pending for every token of an audience whose creation is not indexed."""
    answers: list[Any] = [
        json_response(202, {"indexing_token": "t1"}),
        json_response(202, {"indexing_token": "t2"}),
    ]
    transport = FakeTransport([*answers, MISSING])
    async with AudienceClient(TARGETS["2.x"], transport=transport) as client:
        await client.create("vip")
        token = await client.update("vip", add=["u1"])
        assert await client.check(token) is IndexingState.IN_PROGRESS


@pytest.mark.parametrize("token", [None, 5, "t"])
async def test_invalid_token_sends_nothing(offline_client: AudienceClient, token: Any) -> None:
    """The token is checked as in `await_applied`."""
    with pytest.raises(InvalidInputError):
        await offline_client.check(token)
