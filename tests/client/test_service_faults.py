from __future__ import annotations

import asyncio
import collections
import gzip
import re
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import orjson
import pytest

from aiobatch import (
    App,
    AudienceClient,
    AudienceNotFoundError,
    AuthenticationError,
    ConnectError,
    ForbiddenError,
    InvalidRequestError,
    Limits,
    MaintenanceError,
    MalformedResponseError,
    Project,
    RateLimitedError,
    RequestTimeoutError,
    ResponseError,
    RetryPolicy,
    ServerError,
    TransportError,
)

from ..helpers.listener import Listener

Script = Callable[[asyncio.StreamWriter], Awaitable[None]]

TARGETS: Mapping[str, App | Project] = {
    "1.x": App(rest_api_key="rest-key", api_key="app-key"),
    "2.x": Project(rest_api_key="rest-key", project_key="project-key"),
}
VIP = {"name": "vip", "type": "custom_ids", "nb_ids": 7, "indexing_state": "APPLIED"}
HTML = b"<html><head><title>Sorry</title></head><body>Sorry</body></html>"
MEGABYTE = b" " * 1024 * 1024


def whole(status: int, body: bytes = b"", *fields: str, length: int | None = None) -> Script:
    """Answer with a status, header fields and a body."""
    size = len(body) if length is None else length
    lines = (f"HTTP/1.1 {status} Reason", f"Content-Length: {size}", *fields, "", "")
    return raw("\r\n".join(lines).encode() + body)


def json(status: int, answer: object, *fields: str) -> Script:
    """Answer with JSON."""
    return whole(status, orjson.dumps(answer), "Content-Type: application/json", *fields)


def raw(data: bytes) -> Script:
    """Answer with bytes that may be anything."""

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return script


def then(script: Script, end: Callable[[asyncio.StreamWriter], object]) -> Script:
    """Answer, and end the connection."""

    async def ended(writer: asyncio.StreamWriter) -> None:
        await script(writer)
        await writer.drain()
        end(writer)

    return ended


def close(writer: asyncio.StreamWriter) -> None:
    """End the connection in good order."""
    writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    """Reset the connection."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def drip(data: bytes) -> Script:
    """Answer a byte at a time, and never come to an end."""

    async def script(writer: asyncio.StreamWriter) -> None:
        for byte in data:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.005)
        await asyncio.Event().wait()

    return script


async def silence(writer: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.Event().wait()


async def flood(writer: asyncio.StreamWriter) -> None:
    """Answer with 200 MB whose size is not said beforehand."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(200):
        writer.write(b"100000\r\n" + MEGABYTE + b"\r\n")
        await writer.drain()
    pytest.fail("all of it was read")


def bomb() -> bytes:
    """Return 64 MB in few bytes."""
    packer = zlib.compressobj(1, wbits=31)
    return b"".join([*(packer.compress(MEGABYTE) for _ in range(64)), packer.flush()])


class Service(Listener):
    """A server that answers each request with the next script, byte for byte, and well once there is none."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: collections.deque[Script] = collections.deque()
        self.heads: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer what comes."""
        while True:
            await self._answer(reader, writer)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        size = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        await reader.readexactly(int(size[1]) if size else 0)
        script = self.scripts.popleft() if self.scripts else json(200, VIP)
        await script(writer)
        await writer.drain()


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    """A server that listens."""
    async with Service() as service:
        yield service


@pytest.fixture(params=list(TARGETS))
def label(request: pytest.FixtureRequest) -> str:
    """The API; a test may override this."""
    return str(request.param)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """One connection: if it is not given back, the next request blocks."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        session._retry_connection = False  # aiohttp would send a GET again that was cut off
        yield session


def make(service: Service, label: str, session: aiohttp.ClientSession, timeout: float) -> AudienceClient:
    """Return a client that tries once."""
    return AudienceClient(
        TARGETS[label],
        base_url=service.url,
        retry=RetryPolicy(attempts=1, request_timeout=timeout),
        limits=Limits(pause_initial=0.001, pause_maximum=0.001),
        session=session,
    )


@pytest.fixture
async def client(
    service: Service, label: str, session: aiohttp.ClientSession
) -> AsyncIterator[AudienceClient]:
    """A client that has more time than a busy machine needs."""
    async with make(service, label, session, 60) as client:
        yield client


async def fails(
    client: AudienceClient, kind: type[Exception], text: str, after: AudienceClient | None = None
) -> Exception:
    """View, expect an error of exactly that kind and text, and find the client as good as before.

    Args:
        client: The client.
        kind: The error's class.
        text: What its text matches.
        after: Who finds the session as good as before, if it is another client.
    """
    with pytest.raises(kind, match=text) as caught:
        await client.view("vip")
    assert type(caught.value) is kind
    told = str(caught.value)
    assert "audience 'vip'" in told.lower()
    assert not re.search("rest-key|app-key|project-key", told)
    assert (await (after or client).view("vip")).nb_ids == 7
    return caught.value


STATUSES: Mapping[int, tuple[type[ResponseError], str]] = {
    400: (InvalidRequestError, "Do not send it again unchanged"),
    401: (AuthenticationError, "Check rest_api_key"),
    403: (ForbiddenError, "Ask Batch to give the key this permission"),
    404: (AudienceNotFoundError, "check the spelling|Check the version and base_url"),
    429: (RateLimitedError, r"Send fewer requests: set Limits\(rate=…\)"),
    500: (ServerError, "It is safe to send it again"),
    502: (ServerError, "It is safe to send it again"),
    503: (MaintenanceError, "It is safe to send it again"),
    504: (ServerError, "It is safe to send it again"),
    301: (ResponseError, "redirects are not followed"),
    418: (ResponseError, "does not document this status"),
}
BODIES: Mapping[str, bytes] = {
    "nothing": b"",
    "html": HTML,
    "truncated json": b'{"code": 10, "mess',
    "a list": b'["code", 10]',
    "a string": b'"no"',
    "null": b"null",
    "wrong types": b'{"code": true, "message": {"a": 1}, "error_code": [], "error_message": 5}',
    "no utf-8": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("body", list(BODIES))
@pytest.mark.parametrize("status", list(STATUSES))
async def test_the_status_decides_whatever_the_body(
    service: Service, client: AudienceClient, status: int, body: str
) -> None:
    """The text says what to do next, and of HTML that it was some."""
    kind, advice = STATUSES[status]
    service.scripts.append(whole(status, BODIES[body]))
    error = await fails(client, kind, rf"(?:{advice}).*\[{status}\]")
    assert isinstance(error, ResponseError)
    assert (error.status, error.code, error.name, error.message) == (status, None, None, None)
    assert ("HTML" in str(error)) == (body == "html")


@pytest.mark.parametrize(
    ("status", "code", "name"),
    [
        (401, 10, "AUTHENTICATION_INVALID"),
        (403, 12, "API_MISUSE"),
        (404, 20, "ROUTE_NOT_FOUND"),
        (400, 30, "MISSING_PARAMETER"),
        (400, 31, "MALFORMED_PARAMETER"),
        (400, 32, "MALFORMED_JSON_BODY"),
        (500, 1, "SERVER_ERROR"),
        (503, 2, "MAINTENANCE_ERROR"),
    ],
)
async def test_documented_errors_are_named(
    service: Service, client: AudienceClient, label: str, status: int, code: int, name: str
) -> None:
    """Number, name and Batch's own words, in the shape of either generation."""
    words = "Batch's own words"
    shape = (
        {"code": code, "message": words} if label == "1.x" else {"error_code": name, "error_message": words}
    )
    service.scripts.append(json(status, shape))
    error = await fails(client, STATUSES[status][0], rf"\[{status} {name}\]$")
    assert isinstance(error, ResponseError)
    assert (error.code, error.name, error.message) == (code, name, words)
    assert (error.method, error.attempts) == ("GET", 1)


async def test_words_that_repeat_a_key_are_masked(
    service: Service, client: AudienceClient, label: str
) -> None:
    """Whatever Batch answers, no error tells a key."""
    words = "unknown: rest-key, app-key, project-key"
    service.scripts.append(json(401, {"message": words}))
    with pytest.raises(AuthenticationError) as caught:
        await client.view("vip")
    own = ["rest-key", "app-key" if label == "1.x" else "project-key"]
    assert not [key for key in own if key in str(caught.value) + repr(vars(caught.value))]


@pytest.mark.parametrize(
    ("field", "seconds"), [("5", 5), ("0.5", 0.5), ("Mon, 23 Nov 2026 10:00:07 GMT", 7), ("soon", None)]
)
async def test_a_429_tells_how_long_to_wait(
    service: Service, client: AudienceClient, field: str, seconds: float | None
) -> None:
    """Seconds, or a date, which is compared with the answer's own."""
    fields = (f"Retry-After: {field}", "Date: Mon, 23 Nov 2026 10:00:00 GMT")
    service.scripts.append(json(429, {"message": "slow down"}, *fields))
    with pytest.raises(RateLimitedError, match="slow down") as caught:
        await client.view("vip")
    assert caught.value.retry_after == seconds


BROKEN: Mapping[str, tuple[Script, type[Exception], str]] = {
    "truncated json": (whole(200, b'{"name": "vi'), MalformedResponseError, "the body is not JSON"),
    "a list": (json(200, [VIP]), MalformedResponseError, "must be an object, not a list"),
    "a string": (json(200, "vip"), MalformedResponseError, "must be an object, not a string"),
    "a missing field": (json(200, {"name": "vip"}), MalformedResponseError, r"field missing @ \$\.type"),
    "a wrong type": (json(200, VIP | {"nb_ids": "7"}), MalformedResponseError, r"not a string @ \$\.nb_ids"),
    "a wrong time": (json(200, VIP | {"created": "now"}), MalformedResponseError, r"a time.*\$\.created"),
    "null": (whole(200, b"null"), MalformedResponseError, "must be an object, not null"),
    "html": (whole(200, HTML), MalformedResponseError, "the body is HTML, not JSON"),
    "nothing": (whole(200), MalformedResponseError, "the body is empty"),
    "no content": (raw(b"HTTP/1.1 204 No Content\r\n\r\n"), MalformedResponseError, "the body is empty"),
    "no utf-8": (whole(200, b'{"name": "\xff\xfe"}'), MalformedResponseError, "the body is not JSON"),
    "deep nesting": (whole(200, b'{"a":' * 100_000), MalformedResponseError, "the body is not JSON"),
    "200 MB, announced": (whole(200, b"{", length=200 * 1024**2), MalformedResponseError, "is larger than"),
    "200 MB": (flood, MalformedResponseError, "is larger than 16777216 bytes"),
    "64 MB, zipped": (
        whole(200, bomb(), "Content-Encoding: gzip"),
        MalformedResponseError,
        "is larger than 16777216 bytes",
    ),
    "gzip garbage": (
        whole(200, b"\x1f\x8bgarbage", "Content-Encoding: gzip"),
        MalformedResponseError,
        "cannot be decompressed",
    ),
    "no gzip": (
        whole(200, orjson.dumps(VIP), "Content-Encoding: gzip"),
        MalformedResponseError,
        "cannot be decompressed",
    ),
    "half of a gzip": (
        whole(200, gzip.compress(orjson.dumps(VIP))[:-20], "Content-Encoding: gzip"),
        MalformedResponseError,
        "the body is (not JSON|empty)",
    ),
    "closed in the body": (
        then(whole(200, b'{"na', length=99), close),
        TransportError,
        "no readable response",
    ),
    "reset in the body": (
        then(whole(200, b'{"na', length=99), reset),
        TransportError,
        "no readable response",
    ),
    "closed in the head": (then(raw(b"HTTP/1.1 200 O"), close), TransportError, "no readable response"),
    "reset at once": (then(raw(b""), reset), TransportError, "no readable response"),
    "closed at once": (then(raw(b""), close), TransportError, "no readable response"),
    "no http": (raw(b"220 smtp.example.com ESMTP\r\n\r\n"), TransportError, "no readable response"),
    "a bad length": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), TransportError, "no readable"),
    "a bad chunk": (
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
        TransportError,
        "no readable response",
    ),
    "a huge head": (whole(200, b"{}", "X: " + "x" * 100_000), TransportError, "no readable response"),
}
SLOW: Mapping[str, Script] = {
    "silence": silence,
    "a slow head": drip(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 999),
    "a slow body": drip(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + b" " * 999),
}


@pytest.mark.parametrize("label", ["2.x"])
@pytest.mark.parametrize("case", list(BROKEN))
async def test_an_answer_that_cannot_be_read(service: Service, client: AudienceClient, case: str) -> None:
    """It is told apart from a refusal, its place is named, and the connection is given back or closed."""
    script, kind, text = BROKEN[case]
    service.scripts.append(script)
    await fails(client, kind, text)


@pytest.mark.parametrize("label", ["2.x"])
@pytest.mark.parametrize("case", list(SLOW))
async def test_an_answer_that_does_not_end(
    service: Service, client: AudienceClient, session: aiohttp.ClientSession, label: str, case: str
) -> None:
    """What is silent, or says something all the time, is given up in time, and its connection is closed."""
    service.scripts.append(SLOW[case])
    async with make(service, label, session, 0.5) as hasty:
        await fails(hasty, RequestTimeoutError, "no complete response in time", after=client)


@pytest.mark.parametrize("label", ["2.x"])
@pytest.mark.parametrize("status", [401, 404, 503])
@pytest.mark.parametrize(
    "case",
    ["closed in the body", "reset in the body", "too large", "too large and unannounced", "gzip garbage"],
)
async def test_an_error_whose_body_cannot_be_read(
    service: Service, client: AudienceClient, status: int, case: str
) -> None:
    """The status says enough."""
    chunked = b"HTTP/1.1 %d Sorry\r\nTransfer-Encoding: chunked\r\n\r\n" % status
    chunks = (b"100000\r\n" + MEGABYTE + b"\r\n") * 20
    cases: Mapping[str, Script] = {
        "closed in the body": then(whole(status, HTML[:9], length=99), close),
        "reset in the body": then(whole(status, HTML[:9], length=99), reset),
        "too large": whole(status, b"<", length=200 * 1024**2),
        "too large and unannounced": then(raw(chunked + chunks), close),
        "gzip garbage": whole(status, b"garbage", "Content-Encoding: gzip"),
    }
    service.scripts.append(cases[case])
    kind, advice = STATUSES[status]
    await fails(client, kind, rf"(?:{advice}).*\[{status}\]")


async def test_an_unknown_state_survives_as_itself(service: Service, client: AudienceClient) -> None:
    """A view is no place to judge it."""
    service.scripts.append(json(200, VIP | {"indexing_state": "SHUFFLING"}))
    state = (await client.view("vip")).indexing_state
    assert state == "SHUFFLING"
    assert state is not None
    assert not state.is_known


async def test_what_is_unusual_but_readable_is_read(service: Service, client: AudienceClient) -> None:
    """Chunks, gzip, interim answers, odd content types, fields that nobody knows."""
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
    """Keys go to no other place than base_url."""
    async with Service() as other:
        service.scripts.append(whole(status, b"", f"Location: {other.url}/elsewhere"))
        with pytest.raises(ResponseError, match=rf"redirects are not followed.*base_url.*\[{status}\]"):
            await client.view("vip")
        assert other.heads == []
    assert len(service.heads) == 1


async def test_a_page_of_the_list_that_cannot_be_read(
    service: Service, client: AudienceClient, label: str
) -> None:
    """The row and the field are named in Batch's words."""
    field = "custom_audiences" if label == "1.x" else "audiences"
    rows = [VIP, VIP | {"type": 5}]
    service.scripts.append(json(200, {field: rows, "has_more": False}))
    with pytest.raises(MalformedResponseError, match=rf"List of audiences failed: .*\$\.{field}\[1\]\.type"):
        _ = [audience async for audience in client.list_audiences()]


@pytest.mark.parametrize("label", ["2.x"])
async def test_a_list_that_turns_in_circles(service: Service, client: AudienceClient) -> None:
    """A cursor that comes again ends it."""
    page = {"audiences": [VIP], "has_more": True, "next_from": "again"}
    service.scripts += [json(200, page)] * 3
    with pytest.raises(MalformedResponseError, match="Batch repeated a page, after 1 audiences"):
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
async def test_a_write_without_a_token(
    service: Service, client: AudienceClient, method: str, answer: dict[str, Any]
) -> None:
    """The write may have taken effect: the text says so and what to do. `create` looks."""
    service.scripts += [json(202, answer), whole(404)]
    with pytest.raises(
        MalformedResponseError, match=rf"{method.capitalize()} of audience 'vip'.*\$\.indexing_token"
    ) as caught:
        await WRITES[method](client)
    assert ("Look for the audience" if method == "create" else "safe to send it again") in str(caught.value)


@pytest.mark.parametrize("label", ["1.x"])
@pytest.mark.parametrize("field", ["indexing_token", "token"])
async def test_a_token_under_either_name(service: Service, client: AudienceClient, field: str) -> None:
    """1.x documents none of them."""
    service.scripts.append(json(200, {field: "abc"}))
    assert (await client.update("vip", add=["u1"])).value == "abc"


@pytest.mark.parametrize("failure", ["status", "no answer", "no json"])
async def test_the_last_of_many_attempts_is_told_with_their_number(service: Service, failure: str) -> None:
    """Three requests, one error."""
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


async def test_nobody_listens(service: Service) -> None:
    """No connection means that nothing was sent."""
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
