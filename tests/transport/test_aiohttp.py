from __future__ import annotations

import asyncio
import copy
import errno
import gzip
import pickle
import re
import resource
import socket
import ssl
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import client_exceptions, web
from aiohttp.client_reqrep import ConnectionKey
from aioresponses import aioresponses
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from aiobatch._http import Response
from aiobatch.errors import (
    AiobatchError,
    ConnectError,
    InvalidInputError,
    MalformedResponseError,
    RequestTimeoutError,
    TransportError,
)
from aiobatch.options import Limits
from aiobatch.transport import AiohttpTransport, Session
from aiobatch.transport import _aiohttp as edge
from aiobatch.transport._proxy import find_proxy

from ..helpers.ports import reserved_port
from .support import KEY, REST_KEY, Handler, answering, http, lingering, make_request, raw_server


@asynccontextmanager
async def _transport(
    base_url: str, *, seconds: float = 5.0, session: Session | None = None, **limits: Any
) -> AsyncIterator[AiohttpTransport]:
    transport = AiohttpTransport(base_url, limits=Limits(**limits), request_timeout=seconds, session=session)
    try:
        yield transport
    finally:
        await transport.aclose()


async def _fail(base_url: str, **options: Any) -> AiobatchError:
    """Send one request that fails, and return its error."""
    async with _transport(base_url, **options) as transport:
        with pytest.raises(AiobatchError) as caught:
            await transport.send(make_request())
    return caught.value


async def _receive(handle: Handler, **options: Any) -> Response:
    """Send one request to a raw server, and return the response."""
    async with raw_server(handle) as url, _transport(url, **options) as transport:
        return await transport.send(make_request())


async def _reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()


async def _hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


# ── what goes out ──


async def test_request_is_sent_as_it_was_built() -> None:
    """Path, query, headers and body arrive unchanged, with aiobatch's User-Agent."""
    seen: list[tuple[str, str, str, str, bytes]] = []

    async def handle(request: web.Request) -> web.Response:
        headers = request.headers
        seen.append(
            (
                request.method,
                request.raw_path,
                headers["X-Authorization"],
                headers["User-Agent"].partition("/")[0],
                await request.read(),
            )
        )
        return web.json_response({"a": 1})

    async with _web_server(handle) as url, _transport(url) as transport:
        target = f"/1.0/{KEY}/custom-audience/a%2Fb?from=%C3%A9+x"
        response = await transport.send(make_request(method="PATCH", target=target, body=b'{"ids":[]}'))
    assert seen == [("PATCH", target, REST_KEY, "aiobatch", b'{"ids":[]}')]
    assert (response.status, response.body, response.attempts) == (200, b'{"a": 1}', 1)


async def test_large_body_is_sent_without_a_warning() -> None:
    """A body of more than a megabyte is written in pieces."""
    sizes: list[int] = []

    async def handle(request: web.Request) -> web.Response:
        sizes.append(len(await request.read()))
        return web.json_response({})

    async with _web_server(handle) as url, _transport(url) as transport:
        await transport.send(make_request(method="POST", body=b"x" * 3_000_000))
    assert sizes == [3_000_000]


async def test_connections_are_reused() -> None:
    """Consecutive requests share a connection, whether the size of the response is known or not."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await answering(http(), chunked, http(), chunked)(reader, writer)

    async with raw_server(handle) as url, _transport(url) as transport:
        bodies = [(await transport.send(make_request())).body for _ in range(4)]
    assert bodies == [b"{}"] * 4
    assert connections == 1


async def test_aiohttp_sends_no_request_twice() -> None:
    """A kept connection that drops is one failed attempt, not a silent second request."""
    requests = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await reader.readuntil(b"\r\n\r\n")
        requests += 1
        if requests == 1:
            writer.write(http())
            await reader.readuntil(b"\r\n\r\n")
            requests += 1
        writer.transport.abort()

    async with raw_server(handle) as url, _transport(url) as transport:
        await transport.send(make_request())
        with pytest.raises(TransportError):
            await transport.send(make_request())
    assert requests == 2


# ── what comes back ──


async def test_error_response_has_the_headers_that_are_read() -> None:
    """They have lower-case names, and other headers are left out."""
    answer = http(b"{}", b"RETRY-AFTER: 7", b"Date: now", b"X-Other: o", status=b"429 Too Many Requests")
    assert (await _receive(answering(answer))).headers == {"retry-after": "7", "date": "now"}


async def test_redirects_are_not_followed() -> None:
    """A redirect is a response like any other, because a key must not be sent elsewhere."""
    response = await _receive(answering(http(b"", b"Location: http://elsewhere/", status=b"302 Found")))
    assert (response.status, response.headers["location"]) == (302, "http://elsewhere/")


@pytest.mark.parametrize("status", [401, 404, 429, 500, 503])
async def test_error_status_is_a_response(status: int) -> None:
    """The transport raises no error for a status."""
    line = f"{status} {HTTPStatus(status).phrase}".encode()
    assert (await _receive(answering(http(b"<html>", status=line)))).status == status


@pytest.mark.parametrize(
    "answer",
    [
        http(b"abcde", b"Content-Encoding: gzip", status=b"401 Unauthorized"),
        b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 50\r\n\r\nhalf",
    ],
    ids=["gzip garbage", "truncated"],
)
async def test_error_status_survives_an_unreadable_body(answer: bytes) -> None:
    """An unreadable error page is replaced by an empty body."""
    response = await _receive(answering(answer))
    assert (response.status, response.body) == (401, b"")


async def test_compressed_response_is_decompressed() -> None:
    """The transport accepts compression."""
    response = await _receive(answering(http(gzip.compress(b'{"a":1}'), b"Content-Encoding: gzip")))
    assert response.body == b'{"a":1}'


async def test_response_without_a_length_ends_with_the_connection() -> None:
    """HTTP/1.0 framing is supported."""
    assert (await _receive(answering(b"HTTP/1.1 200 OK\r\n\r\n{}"))).body == b"{}"


@pytest.mark.parametrize(
    "answer",
    [
        http(b"x" * 101),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"40\r\n" + b"x" * 64 + b"\r\n" * 1 + b"40\r\n" + b"x" * 64,
        http(gzip.compress(b"x" * 10_000), b"Content-Encoding: gzip"),
    ],
    ids=["declared", "chunked", "compressed"],
)
async def test_response_that_is_too_large_is_an_error(answer: bytes) -> None:
    """The limit applies to the decompressed body, with or without a declared length."""
    async with raw_server(answering(answer)) as url:
        error = await _fail(url, response_bytes=100)
    assert isinstance(error, MalformedResponseError)
    assert "larger than 100 bytes" in str(error)
    assert (error.method, error.path) == ("GET", "/1.0/***/custom-audience/vip")


async def test_endless_body_is_cut_off() -> None:
    """Reading stops near the limit, and the connection is closed."""
    sent = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(200):
            writer.write(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
            await writer.drain()
            sent += 1

    async with raw_server(handle) as url:
        error = await _fail(url, response_bytes=4 << 20)
    assert isinstance(error, MalformedResponseError)
    assert sent < 100


@pytest.mark.parametrize(
    ("handle", "kind"),
    [
        (_reset, TransportError),
        (answering(), TransportError),
        (answering(b""), TransportError),
        (answering(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), TransportError),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}"), TransportError),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"), TransportError),
        (answering(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000 + b"\r\n\r\n"), TransportError),
        (lingering(http(b"abcde", b"Content-Encoding: gzip")), MalformedResponseError),
        (_hang, RequestTimeoutError),
    ],
    ids=[
        "reset",
        "closed",
        "nothing",
        "not HTTP",
        "no number",
        "truncated",
        "long header",
        "gzip garbage",
        "slow",
    ],
)
async def test_unreadable_response_is_an_error_without_keys(
    handle: Handler, kind: type[AiobatchError]
) -> None:
    """Each failure has its class and names the request. No key is in it, or in its frames."""
    async with raw_server(handle) as url:
        error = await _fail(url, seconds=0.1 if handle is _hang else 5.0)
    assert type(error) is kind
    assert str(error).startswith("View of audience 'vip' failed: ")
    _assert_no_key(error)


async def test_refused_connection_is_a_connect_error() -> None:
    """The error states that nothing was sent, and names the host."""
    with reserved_port() as port:
        error = await _fail(f"http://127.0.0.1:{port}")
    assert type(error) is ConnectError
    assert f"no connection to 127.0.0.1:{port}. Nothing was sent. [ClientConnectorError" in str(error)
    _assert_no_key(error)


async def test_unknown_host_is_a_connect_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host name that does not resolve means that nothing was sent."""

    async def fail(*_args: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fail)
    error = await _fail("https://batch.invalid")
    assert type(error) is ConnectError
    _assert_no_key(error)


async def test_broken_handshake_is_a_connect_error() -> None:
    """Nothing is sent to a server without TLS."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with raw_server(handle) as url:
        error = await _fail(url.replace("http", "https"))
    assert type(error) is ConnectError
    _assert_no_key(error)


def _assert_no_key(error: BaseException) -> None:
    """Search for the keys wherever an error is shown or stored."""
    lines = traceback.TracebackException(
        type(error), error, error.__traceback__, capture_locals=True
    ).format()
    places = [
        "".join(lines),
        repr(error),
        str(error.__dict__),
        repr(copy.copy(error)),
        str(pickle.dumps(error)),
    ]
    for place in places:
        assert KEY not in place
        assert REST_KEY not in place
    assert error.__cause__ is None
    assert error.__context__ is None


# ── aiohttp's errors ──


_EXPORTED = [getattr(client_exceptions, name) for name in client_exceptions.__all__]


@pytest.mark.parametrize("kind", [*_EXPORTED, aiohttp.TooManyRedirects])
def test_map_of_foreign_errors_is_complete(kind: type[Exception]) -> None:
    """Each error class that aiohttp exports has a class of aiobatch's."""
    assert kind in edge.FOREIGN_ERRORS


def test_untrusted_certificate_is_a_lasting_connect_error() -> None:
    """The error contains TLS's reason, which has no URL."""
    reason = ssl.SSLCertVerificationError(1, "verify failed")
    reason.verify_message = "self-signed certificate"
    key = ConnectionKey("api.batch.com", 443, True, True, None, None, None)
    foreign = aiohttp.ClientConnectorCertificateError(key, reason)
    error = edge._translate(foreign, make_request(), "https://api.batch.com")
    assert "self-signed certificate" in str(error)
    assert "SSL_CERT_FILE" in str(error)
    assert isinstance(error, ConnectError)
    assert error.lasting


@pytest.mark.parametrize(("status", "lasting"), [(403, True), (407, True), (502, False), (503, False)])
def test_only_a_proxy_that_refuses_is_lasting(status: int, lasting: bool) -> None:
    """A refusal needs another URL or password, a failure needs time."""
    url = URL(f"https://api.batch.com/1.0/{KEY}")
    info = aiohttp.RequestInfo(url, "CONNECT", CIMultiDictProxy(CIMultiDict()), url)
    foreign = aiohttp.ClientHttpProxyError(info, (), status=status)
    error = edge._translate(foreign, make_request(), "https://api.batch.com")
    assert isinstance(error, ConnectError)
    assert error.lasting == lasting
    assert "HTTPS_PROXY" in str(error)
    assert f"[ClientHttpProxyError, {status}]" in str(error)


@pytest.mark.parametrize("is_wrapped", [False, True])
async def test_lack_of_memory_is_a_memory_error(is_wrapped: bool) -> None:
    """It is not retried, and not reported as the lost connection that aiohttp makes of it."""
    foreign: Exception = MemoryError()
    if is_wrapped:
        foreign = aiohttp.ClientConnectionError(f"Failed to send bytes to /1.0/{KEY}")
        foreign.__cause__ = MemoryError()
    with aioresponses() as answers:
        answers.get(re.compile(".*"), exception=foreign)
        async with _transport("https://api.batch.com") as transport:
            with pytest.raises(MemoryError, match="no memory is left") as caught:
                await transport.send(make_request())
    assert caught.value.__context__ is caught.value.__cause__ is None


# ── cancelling ──


async def test_cancelling_closes_the_connection() -> None:
    """A cancelled request raises CancelledError and leaves no connection open."""
    came, closed = asyncio.Event(), asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        came.set()
        await reader.read()
        closed.set()

    async def expire(timeout: asyncio.Timeout) -> None:
        await came.wait()
        timeout.reschedule(0)

    async def send(transport: AiohttpTransport) -> None:
        async with asyncio.timeout(None) as timeout, asyncio.TaskGroup() as group:
            group.create_task(expire(timeout))
            await transport.send(make_request())

    async with raw_server(handle) as url, _transport(url) as transport:
        with pytest.raises(TimeoutError) as caught:
            await send(transport)
        assert not isinstance(caught.value, AiobatchError)
        await asyncio.wait_for(closed.wait(), 60)


@pytest.mark.parametrize("chunked", [True, False])
async def test_cancelling_in_the_middle_of_a_body_closes_the_connection(chunked: bool) -> None:
    """The same applies while the body is read."""
    came, closed = asyncio.Event(), asyncio.Event()
    head = b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n" if chunked else b"Content-Length: 50\r\n\r\n{"

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + head)
        await writer.drain()
        came.set()
        await reader.read()
        closed.set()

    async with raw_server(handle) as url, _transport(url) as transport:
        task = asyncio.create_task(transport.send(make_request()))
        await came.wait()
        await asyncio.sleep(0.05)  # until the headers were read
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(closed.wait(), 60)


# ── sessions ──


async def test_given_session_is_used_and_left_open() -> None:
    """The owner of the session closes it."""
    async with raw_server(answering(http())) as url, Session(headers={"X-Own": "1"}) as session:
        async with _transport(url, session=session) as transport:
            assert (await transport.send(make_request())).status == 200
        assert not session.closed


async def test_closed_session_is_refused() -> None:
    """The error names what to pass instead."""
    session = Session()
    await session.close()
    with pytest.raises(InvalidInputError, match="session is closed"):
        AiohttpTransport("http://127.0.0.1", limits=Limits(), request_timeout=1, session=session)


async def test_session_with_its_own_authentication_is_refused() -> None:
    """Its password would be sent to Batch."""
    with pytest.warns(DeprecationWarning, match="auth"):
        session = Session(auth=aiohttp.BasicAuth("user", "password"))
    async with session:
        with pytest.raises(InvalidInputError, match="auth=") as caught:
            AiohttpTransport("http://127.0.0.1", limits=Limits(), request_timeout=1, session=session)
    assert "password" not in str(caught.value)


async def test_session_closed_during_use_is_invalid_input() -> None:
    """Closing the session of an open client is an error of the caller."""
    session = Session()
    async with _transport("http://127.0.0.1", session=session) as transport:
        await session.close()
        assert transport.in_flight_limit != 0
        with pytest.raises(InvalidInputError, match="the session is closed"):
            await transport.send(make_request())


async def test_closed_transport_does_not_open_again() -> None:
    """A retry may meet a closed transport, so the error is not InvalidInputError."""
    async with raw_server(answering(http())) as url:
        unused = AiohttpTransport(url, limits=Limits(), request_timeout=1)
        used = AiohttpTransport(url, limits=Limits(), request_timeout=1)
        await used.send(make_request())
        for transport in (unused, used):
            await transport.aclose()
            await transport.aclose()
            with pytest.raises(AiobatchError, match="the client was closed") as caught:
                await transport.send(make_request())
            assert type(caught.value) is AiobatchError


@pytest.mark.parametrize(("limit", "per_host", "expected"), [(0, 0, None), (7, 0, 7), (0, 5, 5), (7, 5, 5)])
async def test_pool_of_a_given_session_limits_requests_in_flight(
    limit: int, per_host: int, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests must not wait in the pool, where their timeout runs."""
    monkeypatch.setattr("resource.getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    async with Session(connector=aiohttp.TCPConnector(limit=limit, limit_per_host=per_host)) as session:
        transport = AiohttpTransport("http://127.0.0.1", limits=Limits(), request_timeout=1, session=session)
        assert transport.in_flight_limit == expected


@pytest.mark.parametrize(("descriptors", "expected"), [(1024, 512), (64, 32), (1, 1)])
async def test_half_of_the_file_descriptors_stay_free(
    descriptors: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process's limit is the only limit of aiobatch's own pool."""
    monkeypatch.setattr("resource.getrlimit", lambda _: (descriptors, 4096))
    assert (
        AiohttpTransport("http://127.0.0.1", limits=Limits(), request_timeout=1).in_flight_limit == expected
    )
    async with Session(connector=aiohttp.TCPConnector(limit=500)) as session:
        transport = AiohttpTransport("http://127.0.0.1", limits=Limits(), request_timeout=1, session=session)
        assert transport.in_flight_limit == min(500, expected)


def test_lack_of_file_descriptors_has_a_remedy() -> None:
    """The error names what to raise or to lower."""
    key = ConnectionKey("api.batch.com", 443, True, True, None, None, None)
    foreign = aiohttp.ClientConnectorError(key, OSError(errno.EMFILE, "Too many open files"))
    error = edge._translate(foreign, make_request(), "https://api.batch.com")
    assert "ulimit -n" in str(error)


async def test_request_that_aiohttp_rejects_is_invalid_input() -> None:
    """An invalid header is no network failure, and is not retried."""
    request = make_request(headers={"X-Authorization": f"{REST_KEY}\nX-Injected: 1"})
    async with raw_server(_hang) as url, _transport(url) as transport:
        with pytest.raises(InvalidInputError, match="it cannot be sent") as caught:
            await transport.send(request)
    _assert_no_key(caught.value)


async def test_proxy_of_the_environment_is_used_for_https_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain http goes to this machine only. NO_PROXY is respected."""
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "internal.example")
    assert find_proxy("https://api.batch.com") == "http://proxy.example:3128"
    assert find_proxy("https://internal.example:8443") is None
    assert find_proxy("http://127.0.0.1:1") is None


def test_proxy_needs_no_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tools accept that, too. An empty value names no proxy."""
    monkeypatch.setenv("https_proxy", "user:password@proxy.example:3128")
    assert find_proxy("https://api.batch.com") == "http://user:password@proxy.example:3128"
    monkeypatch.setenv("https_proxy", "")
    assert find_proxy("https://api.batch.com") is None


@pytest.mark.parametrize(
    "name", ["socks5://user:password@proxy.example", "http://", "http://[password", "://"]
)
async def test_unusable_proxy_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SOCKS proxy is not supported, and the error shows no password."""
    monkeypatch.setenv("https_proxy", name)
    async with _transport("https://api.batch.example") as transport:
        with pytest.raises(InvalidInputError, match="HTTPS_PROXY") as caught:
            await transport.send(make_request())
    assert "user:password@ before" in str(caught.value)
    _assert_no_key(caught.value)


async def test_https_uses_a_tunnel_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CONNECT request has the credentials of the proxy's URL. If it is refused, nothing was sent."""
    asked: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(http(b"", status=b"407 Proxy Authentication Required"))
        await writer.drain()

    async with raw_server(handle) as url:
        monkeypatch.setenv("https_proxy", url.replace("http://", "http://user:password@"))
        error = await _fail("https://api.batch.example")
    assert asked[0].startswith(b"CONNECT api.batch.example:443 ")
    assert b"Proxy-Authorization: Basic" in asked[0]
    assert type(error) is ConnectError
    assert "password" not in str(error)
    _assert_no_key(error)


class _MockedResponse(aiohttp.ClientResponse):
    """Adds to aiohttp 3.14's response what aioresponses lacks (pnuckowski/aioresponses#289)."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options["stream_writer"] = SimpleNamespace(output_size=0)
        super().__init__(*args, **options)


async def test_transport_works_with_aioresponses() -> None:
    """Users' tests may mock aiohttp below aiobatch."""
    with aioresponses() as mocked:
        url = f"https://api.batch.com/1.0/{KEY}/custom-audience/vip"
        mocked.get(url, payload={"a": 1}, response_class=_MockedResponse)
        async with _transport("https://api.batch.com") as transport:
            response = await transport.send(make_request())
    assert (response.status, response.body) == (200, b'{"a": 1}')


@asynccontextmanager
async def _web_server(handle: Any) -> AsyncIterator[str]:
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
