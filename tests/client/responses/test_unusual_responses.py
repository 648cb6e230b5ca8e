from __future__ import annotations

import gzip
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
import pytest

from aiobatch import (
    AudienceClient,
    ConnectError,
    MalformedResponseError,
    ResponseError,
    RetryPolicy,
    ServerError,
    TransportError,
)

from .scripted_server import HTML, TARGETS, VIP, Service, close, json, raw, then, whole


async def test_unknown_state_is_kept(service: Service, client: AudienceClient) -> None:
    """A view returns an undocumented state as it is."""
    service.scripts.append(json(200, VIP | {"indexing_state": "SHUFFLING"}))
    state = (await client.view("vip")).indexing_state
    assert state == "SHUFFLING"
    assert state is not None
    assert not state.is_known


async def test_unusual_responses_are_read(service: Service, client: AudienceClient) -> None:
    """Chunks, gzip, interim responses, odd content types and unknown fields are valid."""
    body = orjson.dumps(VIP | {"new_field": [1, 2]})
    service.scripts += (
        raw(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        ),
        whole(200, gzip.compress(body), "Content-Encoding: gzip"),
        raw(
            b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"
            % (len(body), body)
        ),
        whole(200, body, "Content-Type: text/plain; charset=latin-1"),
        whole(201, b"\r\n " + body + b"\n"),
        then(raw(b"HTTP/1.0 200 OK\r\n\r\n" + body), close),
    )
    for _ in range(len(service.scripts)):
        assert (await client.view("vip")).nb_ids == 7


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(service: Service, client: AudienceClient, status: int) -> None:
    """Keys are sent only to base_url."""
    async with Service() as other:
        service.scripts.append(whole(status, b"", f"Location: {other.url}/elsewhere"))
        with pytest.raises(ResponseError, match=rf"redirects are not followed.*base_url.*\[{status}\]"):
            await client.view("vip")
        assert other.heads == []
    assert len(service.heads) == 1


async def test_unreadable_page_names_row_and_field(
    service: Service, client: AudienceClient, label: str
) -> None:
    """The error contains the row and the field, in Batch's terms."""
    field = "custom_audiences" if label == "1.x" else "audiences"
    rows = [VIP, VIP | {"name": 5}]
    service.scripts.append(json(200, {field: rows, "has_more": False}))
    with pytest.raises(MalformedResponseError, match=rf"List of audiences failed: .*\$\.{field}\[1\]\.name"):
        _ = [audience async for audience in client.list_audiences()]


@pytest.mark.parametrize("label", ["2.x"])
async def test_repeated_cursor_ends_the_list(service: Service, client: AudienceClient) -> None:
    """A cursor that repeats ends the list with an error."""
    page = {"audiences": [VIP], "has_more": True, "next_from": "again"}
    service.scripts += [json(200, page)] * 3
    with pytest.raises(MalformedResponseError, match=r"does not end\. After . audiences, pages repeat"):
        _ = [audience async for audience in client.list_audiences()]


WRITES: Mapping[str, Callable[[AudienceClient], Awaitable[object]]] = {
    "create": lambda c: c.create("vip"),
    "update": lambda c: c.update("vip", add=["u1"]),
    "replace": lambda c: c.replace("vip", ["u1"]),
    "delete": lambda c: c.delete("vip"),
}


@pytest.mark.parametrize("label", ["2.x"])
@pytest.mark.parametrize("method", list(WRITES))
@pytest.mark.parametrize(
    "answer",
    [{}, {"indexing_token": None}, {"indexing_token": 5}, {"indexing_token": ""}, {"indexing_token": "a\nb"}],
    ids=repr,
)
async def test_write_without_a_token_is_unreadable(
    service: Service, client: AudienceClient, method: str, answer: dict[str, Any]
) -> None:
    """The write may have taken effect, so the message contains the remedy. `create` views the audience."""
    service.scripts += [json(202, answer), whole(404)]
    with pytest.raises(
        MalformedResponseError, match=rf"{method.capitalize()} of audience 'vip'.*\$\.indexing_token"
    ) as caught:
        await WRITES[method](client)
    assert ("Look for the audience" if method == "create" else "safe to send it again") in str(caught.value)


@pytest.mark.parametrize("label", ["1.x"])
@pytest.mark.parametrize("field", ["indexing_token", "token"])
async def test_token_is_read_under_both_names(service: Service, client: AudienceClient, field: str) -> None:
    """1.x documents neither name."""
    service.scripts.append(json(200, {field: "abc"}))
    assert (await client.update("vip", add=["u1"])).value == "abc"


@pytest.mark.parametrize("failure", ["status", "no answer", "no json"])
async def test_error_has_the_number_of_attempts(service: Service, failure: str) -> None:
    """Three requests raise one error."""
    script, kind = {
        "status": (whole(500), ServerError),
        "no answer": (then(raw(b""), close), TransportError),
        "no json": (whole(200, HTML), MalformedResponseError),
    }[failure]
    service.scripts += [script] * 3
    retry = RetryPolicy(attempts=3, initial=0.001)
    async with AudienceClient(TARGETS["2.x"], base_url=service.url, retry=retry) as client:
        with pytest.raises(kind) as caught:
            await client.view("vip")
        assert caught.value.attempts == 3  # type: ignore[attr-defined]  # each of the three has it
        assert len(service.heads) == 3
        service.scripts += [script] * 2
        assert (await client.view("vip")).nb_ids == 7
        assert client.stats.requests == 6


async def test_refused_connection_sends_nothing(service: Service) -> None:
    """A refused connection means that nothing was sent."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    client = AudienceClient(
        TARGETS["1.x"], base_url=f"http://127.0.0.1:{port}", retry=RetryPolicy(attempts=2, initial=0.001)
    )
    async with client:
        with pytest.raises(
            ConnectError, match=rf"View of audience 'vip'.*127.0.0.1:{port}. Nothing was sent"
        ):
            await client.view("vip")
        assert client.stats.requests == 2
