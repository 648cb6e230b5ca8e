"""The errors of the aiohttp transport."""

from __future__ import annotations

import asyncio
import errno
import gzip
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from aiohttp import client_exceptions
from aiohttp.client_reqrep import ConnectionKey
from aioresponses import aioresponses
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from aiobatch.errors import (
    AiobatchError,
    ConnectError,
    InvalidInputError,
    MalformedResponseError,
    RequestTimeoutError,
    TransportError,
)
from aiobatch.options import Limits
from aiobatch.transport import AiohttpTransport, _aiohttp
from aiobatch.transport import _aiohttp_errors as edge

from ..helpers.ports import reserved_port
from .support import (
    KEY,
    REST_KEY,
    Handler,
    answering,
    assert_no_key,
    fail,
    hang,
    http,
    lingering,
    make_request,
    open_transport,
    raw_server,
    reset,
)


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
        error = await fail(url, response_bytes=100)
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
        error = await fail(url, response_bytes=4 << 20)
    assert isinstance(error, MalformedResponseError)
    assert sent < 100


@pytest.mark.parametrize(
    ("handle", "kind"),
    [
        (reset, TransportError),
        (answering(), TransportError),
        (answering(b""), TransportError),
        (answering(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), TransportError),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}"), TransportError),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"), TransportError),
        (answering(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000 + b"\r\n\r\n"), TransportError),
        (lingering(http(b"abcde", b"Content-Encoding: gzip")), MalformedResponseError),
        (hang, RequestTimeoutError),
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
        error = await fail(url, seconds=0.1 if handle is hang else 5.0)
    assert type(error) is kind
    assert str(error).startswith("View of audience 'vip' failed: ")
    assert_no_key(error)


async def test_refused_connection_is_a_connect_error() -> None:
    """The error states that nothing was sent, and names the host."""
    with reserved_port() as port:
        error = await fail(f"http://127.0.0.1:{port}")
    assert type(error) is ConnectError
    assert f"no connection to 127.0.0.1:{port}. Nothing was sent. [ClientConnectorError" in str(error)
    assert_no_key(error)


async def test_unknown_host_is_a_connect_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host name that does not resolve means that nothing was sent."""

    async def not_found(*_args: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", not_found)
    error = await fail("https://batch.invalid")
    assert type(error) is ConnectError
    assert_no_key(error)


async def test_broken_handshake_is_a_connect_error() -> None:
    """Nothing is sent to a server without TLS."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with raw_server(handle) as url:
        error = await fail(url.replace("http", "https"))
    assert type(error) is ConnectError
    assert "Check the port of base_url" in str(error)
    assert str(error).endswith("WRONG_VERSION_NUMBER]")
    assert_no_key(error)


_EXPECTED = {
    # No connection was made.
    **dict.fromkeys(
        (
            "ClientConnectorCertificateError",
            "ClientConnectorDNSError",
            "ClientConnectorError",
            "ClientConnectorSSLError",
            "ClientHttpProxyError",
            "ClientProxyConnectionError",
            "ClientSSLError",
            "ConnectionTimeoutError",
            "ServerFingerprintMismatch",
        ),
        ConnectError,
    ),
    # The request may have arrived.
    **dict.fromkeys(
        (
            "ClientConnectionError",
            "ClientConnectionResetError",
            "ClientError",
            "ClientOSError",
            "ClientPayloadError",
            "ClientResponseError",
            "ContentTypeError",
            "RedirectClientError",
            "ServerConnectionError",
            "ServerDisconnectedError",
            "TooManyRedirects",
            "UploadAbortedError",
            "WSServerHandshakeError",
        ),
        TransportError,
    ),
    **dict.fromkeys(("ServerTimeoutError", "SocketTimeoutError"), RequestTimeoutError),
    # The request cannot be sent.
    **dict.fromkeys(
        (
            "InvalidURL",
            "InvalidUrlClientError",
            "InvalidUrlRedirectClientError",
            "NonHttpUrlClientError",
            "NonHttpUrlRedirectClientError",
        ),
        InvalidInputError,
    ),
}
_WEBSOCKETS = "WSMessageTypeError"  # it is no ClientError, and aiobatch opens no websocket


@pytest.mark.parametrize("name", sorted({*client_exceptions.__all__, "TooManyRedirects"} - {_WEBSOCKETS}))
def test_map_of_foreign_errors_is_complete(name: str) -> None:
    """Each error class that aiohttp exports becomes the class of aiobatch's that fits."""
    bases = getattr(aiohttp, name).__mro__
    assert next(edge.FOREIGN_ERRORS[base] for base in bases if base in edge.FOREIGN_ERRORS) is _EXPECTED[name]


def test_untrusted_certificate_is_a_lasting_connect_error() -> None:
    """The error contains TLS's reason, which has no URL."""
    reason = ssl.SSLCertVerificationError(1, "verify failed")
    reason.verify_message = "self-signed certificate"
    key = ConnectionKey("api.batch.com", 443, True, True, None, None, None)
    foreign = aiohttp.ClientConnectorCertificateError(key, reason)
    error = edge.translate(foreign, make_request(), "https://api.batch.com")
    assert "self-signed certificate" in str(error)
    assert "SSL_CERT_FILE" in str(error)
    assert isinstance(error, ConnectError)
    assert error.lasting


CERTIFICATE_REMEDIES = {
    9: "not valid yet. Check the clock",
    10: "has expired",
    18: "not trusted. Set SSL_CERT_FILE",
    19: "not trusted. Set SSL_CERT_FILE",
    20: "not trusted. Set SSL_CERT_FILE",
    21: "not trusted. Set SSL_CERT_FILE",
    62: "is for another host",
    64: "is for another host",
}


@pytest.mark.parametrize(("code", "remedy"), CERTIFICATE_REMEDIES.items())
def test_each_fault_of_a_certificate_has_its_remedy(code: int, remedy: str) -> None:
    """Expired, wrong host and unknown authority have different causes, and waiting helps with none."""
    reason = ssl.SSLCertVerificationError(1, "verify failed")
    reason.verify_code, reason.verify_message = code, "reason of OpenSSL"
    key = ConnectionKey("api.batch.com", 443, True, True, None, None, None)
    foreign = aiohttp.ClientConnectorCertificateError(key, reason)
    error = edge.translate(foreign, make_request(), "https://api.batch.com")
    assert isinstance(error, ConnectError)
    assert error.lasting
    assert remedy in str(error)


@pytest.mark.parametrize("alert", ["SSLV3_ALERT_HANDSHAKE_FAILURE", "TLSV13_ALERT_CERTIFICATE_REQUIRED"])
def test_refused_handshake_names_the_client_certificate(alert: str) -> None:
    """The server's alert means that nothing was sent, and that waiting does not help."""
    reason = ssl.SSLError(1, alert)
    reason.reason = alert
    key = ConnectionKey("api.batch.com", 443, True, True, None, None, None)
    foreign = aiohttp.ClientConnectorSSLError(key, reason)
    error = edge.translate(foreign, make_request(), "https://api.batch.com")
    assert isinstance(error, ConnectError)
    assert error.lasting
    assert "client certificate" in str(error)


@contextmanager
def _dropping_listener() -> Iterator[str]:
    """Yield the origin of a listener whose backlog is full, so that the system drops further connections."""
    with socket.socket() as listener, ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.connect(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(("connect_timeout", "request_timeout"), [(0.1, 300.0), (300.0, 2.0), (None, 2.0)])
async def test_connection_that_hangs_sends_nothing(
    connect_timeout: float | None, request_timeout: float
) -> None:
    """The error is a ConnectError whichever timeout is shorter. It names the host and what to check."""
    with _dropping_listener() as url:
        transport = AiohttpTransport(
            url, limits=Limits(), request_timeout=request_timeout, connect_timeout=connect_timeout
        )
        async with asyncio.timeout(60):
            with pytest.raises(ConnectError, match=r"Nothing was sent.*DNS.*firewall") as caught:
                await transport.send(make_request())
        await transport.aclose()
    assert url.removeprefix("http://") in str(caught.value)
    assert not caught.value.lasting


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
async def test_authorities_of_the_environment_may_be_set_late(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Aiohttp reads them once, when it is imported. A client reads them when it opens its session for TLS."""
    secure = "https://api.batch.com"
    target = tmp_path / "authorities"
    if variable == "SSL_CERT_FILE":
        target.write_text("")
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert _aiohttp._trusted_authorities(secure) is True
    monkeypatch.setenv(variable, str(target))
    assert isinstance(_aiohttp._trusted_authorities(secure), ssl.SSLContext)
    assert _aiohttp._trusted_authorities("http://127.0.0.1:1") is True


@pytest.mark.parametrize(("status", "lasting"), [(403, True), (407, True), (502, False), (503, False)])
def test_only_a_proxy_that_refuses_is_lasting(status: int, lasting: bool) -> None:
    """A refusal needs another URL or password, a failure needs time."""
    url = URL(f"https://api.batch.com/1.0/{KEY}")
    info = aiohttp.RequestInfo(url, "CONNECT", CIMultiDictProxy(CIMultiDict()), url)
    foreign = aiohttp.ClientHttpProxyError(info, (), status=status)
    error = edge.translate(foreign, make_request(), "https://api.batch.com")
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
        async with open_transport("https://api.batch.com") as transport:
            with pytest.raises(MemoryError, match="no memory is left") as caught:
                await transport.send(make_request())
    assert caught.value.__context__ is caught.value.__cause__ is None


def test_lack_of_file_descriptors_has_a_remedy() -> None:
    """The error names what to raise or to lower."""
    key = ConnectionKey("api.batch.com", 443, True, True, None, None, None)
    foreign = aiohttp.ClientConnectorError(key, OSError(errno.EMFILE, "Too many open files"))
    error = edge.translate(foreign, make_request(), "https://api.batch.com")
    assert "ulimit -n" in str(error)


async def test_request_that_aiohttp_rejects_is_invalid_input() -> None:
    """An invalid header is no network failure, and is not retried."""
    request = make_request(headers={"X-Authorization": f"{REST_KEY}\nX-Injected: 1"})
    async with raw_server(hang) as url, open_transport(url) as transport:
        with pytest.raises(InvalidInputError, match="it cannot be sent") as caught:
            await transport.send(request)
    assert_no_key(caught.value)
