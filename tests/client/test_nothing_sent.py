"""The claim that nothing was sent: no error makes it if an earlier attempt or another chunk was sent."""

from __future__ import annotations

import pytest

from aiobatch import (
    AiobatchError,
    AudienceClient,
    ConnectError,
    InvalidInputError,
    MaintenanceError,
    MalformedResponseError,
    Project,
    Request,
    RequestTimeoutError,
    Response,
    RetryPolicy,
    TransportError,
    UploadError,
)
from aiobatch.errors._requests import after_earlier_attempts
from aiobatch.testing import FakeClock, FakeTransport, json_response

PROJECT = Project(rest_api_key="rest", project_key="project")
CLAIM = "Nothing was sent."
EARLIER = "An earlier attempt may have taken effect."
ACCEPTED = json_response(202, {"indexing_token": "t"})
NO_CONNECTION = ConnectError(f"Update of audience 'vip' failed: no connection to x. {CLAIM} [X]")
CLOSED = InvalidInputError(f"The session is closed. {CLAIM} Pass another one.")


def _client(transport: FakeTransport, attempts: int) -> AudienceClient:
    retry = RetryPolicy(attempts=attempts)
    return AudienceClient(PROJECT, transport=transport, clock=FakeClock(), retry=retry)


@pytest.mark.parametrize("last", [NO_CONNECTION, CLOSED], ids=["no connection", "closed session"])
@pytest.mark.parametrize(
    "first",
    [
        RequestTimeoutError("slow"),
        TransportError("reset"),
        MalformedResponseError("unreadable"),
        json_response(500, {}),
        json_response(504, {}),
        Response(status=202, body=b"<html>"),
    ],
    ids=lambda value: str(getattr(value, "status", type(value).__name__)),
)
async def test_no_claim_after_an_attempt_that_was_sent(first: Response | Exception, last: Exception) -> None:
    """The last attempt was not sent, but an earlier one was, and its outcome is unknown."""
    async with _client(FakeTransport([first, last]), 2) as client:
        with pytest.raises(AiobatchError) as caught:
            await client.update("vip", add=["u1"])
    assert not isinstance(caught.value, ConnectError | InvalidInputError)
    assert CLAIM not in str(caught.value)
    assert EARLIER in str(caught.value)


@pytest.mark.parametrize("last", [NO_CONNECTION, CLOSED], ids=["no connection", "closed session"])
@pytest.mark.parametrize(
    "first",
    [NO_CONNECTION, json_response(503, {}), json_response(429, {})],
    ids=lambda value: str(getattr(value, "status", type(value).__name__)),
)
async def test_claim_after_attempts_without_effect(first: Response | Exception, last: Exception) -> None:
    """If no attempt can have had an effect, the claim is right."""
    async with _client(FakeTransport([first, last]), 2) as client:
        with pytest.raises(type(last), match=CLAIM):
            await client.update("vip", add=["u1"])


async def test_no_claim_about_a_creation_of_unknown_outcome() -> None:
    """The first attempt to create may be in Batch's queue, so the second one cannot claim anything."""
    answers: list[Response | BaseException] = [
        RequestTimeoutError("slow"),
        json_response(404, {}),
        NO_CONNECTION,
    ]
    async with _client(FakeTransport(answers), 1) as client:
        client._retry = RetryPolicy(attempts=2)  # of creations. The transport does not retry.
        with pytest.raises(TransportError) as caught:
            await client.create("vip")
    assert type(caught.value) is TransportError
    assert CLAIM not in str(caught.value)
    assert EARLIER in str(caught.value)


@pytest.mark.parametrize("reason", [NO_CONNECTION, CLOSED], ids=["no connection", "closed session"])
@pytest.mark.parametrize("accepted", [0, 1])
async def test_upload_claims_nothing_about_all_chunks(reason: Exception, accepted: int) -> None:
    """The reason is about one chunk. The text lists what Batch accepted, and what it did not."""
    sent = 0

    def answer(_: Request) -> Response:
        nonlocal sent
        sent += 1
        if sent > accepted:
            raise reason
        return ACCEPTED

    async with _client(FakeTransport(answer), 1) as client:
        with pytest.raises(UploadError) as caught:
            await client.upload("vip", add=(f"u{n}" for n in range(25_000)))
    assert CLAIM not in str(caught.value)
    assert CLAIM not in caught.value.reason
    assert f"Accepted: {'add[0:10000]' if accepted else 'nothing'}. Not accepted: add[" in str(caught.value)


def test_attributes_of_an_error_remain() -> None:
    """An error that states more than the claim keeps its class and attributes."""
    paused = MaintenanceError(
        f"A 503 paused the client. {CLAIM}", status=503, method="GET", path="/", retry_after=3.0
    )
    changed = after_earlier_attempts(paused)
    assert isinstance(changed, MaintenanceError)
    assert (changed.retry_after, changed.status) == (3.0, 503)
    assert str(changed) == f"A 503 paused the client. {EARLIER} [503]"
    other = TransportError("reset")
    assert after_earlier_attempts(other) is other
