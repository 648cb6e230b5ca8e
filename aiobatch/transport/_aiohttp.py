"""The only importer of aiohttp's client: its errors become ours here, and lose what they know of keys."""

from __future__ import annotations

import asyncio
import errno
import io
import resource
import ssl
import urllib.request
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

import aiohttp
from aiohttp import hdrs, http_exceptions
from multidict import CIMultiDict
from yarl import URL

from .._http import Request, Response
from .._version import __version__
from ..errors import (
    AiobatchError,
    ConnectError,
    InvalidInputError,
    MalformedResponseError,
    RequestTimeoutError,
    TransportError,
)
from ..options import Limits
from ._request_timeout import Deadlines

__all__ = ["FOREIGN_ERRORS", "AiohttpTransport", "Session"]

Session = aiohttp.ClientSession

# What each of aiohttp's errors is to us; a subclass that is not listed counts as its nearest base.
FOREIGN_ERRORS: dict[type[Exception], type[AiobatchError]] = {
    aiohttp.ClientError: TransportError,
    # No connection was made, so nothing was sent.
    aiohttp.ClientConnectorError: ConnectError,
    aiohttp.ClientConnectorCertificateError: ConnectError,
    aiohttp.ClientConnectorDNSError: ConnectError,
    aiohttp.ClientConnectorSSLError: ConnectError,
    aiohttp.ClientHttpProxyError: ConnectError,
    aiohttp.ClientProxyConnectionError: ConnectError,
    aiohttp.ClientSSLError: ConnectError,
    aiohttp.ConnectionTimeoutError: ConnectError,
    aiohttp.ServerFingerprintMismatch: ConnectError,
    # The request may have arrived.
    aiohttp.ClientConnectionError: TransportError,
    aiohttp.ClientConnectionResetError: TransportError,
    aiohttp.ClientOSError: TransportError,
    aiohttp.ClientPayloadError: TransportError,
    aiohttp.ClientResponseError: TransportError,
    aiohttp.ContentTypeError: TransportError,
    aiohttp.RedirectClientError: TransportError,
    aiohttp.ServerConnectionError: TransportError,
    aiohttp.ServerDisconnectedError: TransportError,
    aiohttp.TooManyRedirects: TransportError,
    aiohttp.UploadAbortedError: TransportError,
    aiohttp.ServerTimeoutError: RequestTimeoutError,
    aiohttp.SocketTimeoutError: RequestTimeoutError,
    OSError: TransportError,
    TimeoutError: RequestTimeoutError,
    # It cannot be sent: a base_url, header or session that aiohttp refuses.
    ValueError: InvalidInputError,
    aiohttp.InvalidURL: InvalidInputError,
    aiohttp.InvalidUrlClientError: InvalidInputError,
    aiohttp.InvalidUrlRedirectClientError: InvalidInputError,
    aiohttp.NonHttpUrlClientError: InvalidInputError,
    aiohttp.NonHttpUrlRedirectClientError: InvalidInputError,
    # Websockets, which nobody opens.
    aiohttp.WSMessageTypeError: TransportError,
    aiohttp.WSServerHandshakeError: TransportError,
}
_FOREIGN = (aiohttp.ClientError, OSError, ValueError)

# The headers that somebody reads, of answers that are no success; to build all of them would cost as much as
# everything else in this file.
_HEADERS = tuple((name, name.lower()) for name in (hdrs.DATE, hdrs.LOCATION, hdrs.RETRY_AFTER))
_SUCCESSES = range(200, 300)
# `Deadlines` counts the time.
_NO_TIMEOUT = aiohttp.ClientTimeout()
_REFUSALS = range(400, 500)
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE})
# aiohttp warns of larger bodies given as bytes: it would write them in one go, and the loop would wait.
_LARGE_BODY = 1024 * 1024


class AiohttpTransport:
    """Sends requests with aiohttp, each once.

    Args:
        base_url: The origin to send to, as `check_base_url` returns it.
        limits: `response_bytes` is read here.
        request_timeout: Seconds that a request may take until the last byte of its answer.
        session: A session to use; it is not closed. None to open one with the first request.

    Raises:
        InvalidInputError: The session is closed, or brings an authentication of its own.
    """

    def __init__(
        self, base_url: str, *, limits: Limits, request_timeout: float, session: Session | None = None
    ) -> None:
        if session is not None:
            _check_session(session)
        self._base_url = base_url
        self._scheme, self._netloc, *_ = urlsplit(base_url)
        self._given: Mapping[str, str] | None = None
        self._ready: CIMultiDict[str] = CIMultiDict()
        self._limit = limits.response_bytes
        self._deadlines = Deadlines(request_timeout)
        self._session = session
        self._owned = session is None
        self._closed = False

    @property
    def in_flight_limit(self) -> int | None:
        """How many connections there may be; None for any number.

        A session that was passed in says it: a request that waited for a connection of its pool would use up
        its timeout (aio-libs/aiohttp#10313). And half of the process's file descriptors are left to others.
        """
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        limits = [0 if descriptors == resource.RLIM_INFINITY else max(1, descriptors // 2)]
        connector = None if self._owned or self._session is None else self._session.connector
        if connector is not None:
            limits += [connector.limit, connector.limit_per_host]
        return min(filter(None, limits), default=None)

    async def send(self, request: Request) -> Response:
        """Send *request* and return the answer, whatever its status; redirects are not followed.

        Raises:
            ConnectError: No connection could be made.
            RequestTimeoutError: The answer was not complete in time.
            TransportError: The connection broke, or what came was not HTTP.
            MalformedResponseError: The answer is too large, or cannot be decompressed.
            InvalidInputError: The session is closed, or refuses the request.
            AiobatchError: This transport was closed.
            MemoryError: There is none left to send or receive with.
        """
        session = self._opened(request)
        failure: Exception
        try:
            response = await self._exchange(session, request)
        except asyncio.CancelledError as error:
            # The same error, without aiohttp's frames: their locals hold the URL and the headers.
            raise error.with_traceback(None)  # noqa: B904 - it is its own cause
        except MemoryError:
            failure = _lack_memory(request)
        except _FOREIGN as error:
            failure = _translate(error, request, self._base_url)
        else:
            if response is not None:
                return response
            failure = MalformedResponseError(
                f"{request.label}: the answer is larger than {self._limit} bytes; "
                "check base_url, or raise Limits.response_bytes",
                method=request.method,
                path=request.path,
            )
        # Out of the except block: aiohttp's error, which knows the URL and headers, must not be its context.
        raise failure

    async def _exchange(self, session: Session, request: Request) -> Response | None:
        """Send and receive once; None stands for an answer that is too large.

        It raises none of our errors: the URL of `answer` would stand among the locals of the traceback.
        """
        answer: aiohttp.ClientResponse | None = None
        body: bytes | None = None
        try:
            with self._deadlines:
                answer = await session.request(
                    request.method,
                    self._locate(request.target),
                    headers=self._headers(request.headers),
                    data=_wrap(request.body),
                    timeout=_NO_TIMEOUT,
                    allow_redirects=False,
                    raise_for_status=False,
                )
                is_bounded = _is_bounded(answer, self._limit)
                body = await (answer.read() if is_bounded else _read_within(answer, self._limit))
        except _FOREIGN:
            if answer is None or answer.ok:
                raise
        if body is None:
            if answer.ok:
                return None
            body = b""  # the status says enough, and what an error page holds is never relied on
        if answer.status in _SUCCESSES:
            return Response(status=answer.status, body=body)
        headers = {name: answer.headers[key] for key, name in _HEADERS if key in answer.headers}
        return Response(status=answer.status, headers=headers, body=body)

    def _locate(self, target: str) -> URL:
        """Return where to send; given in parts, it is not parsed, and yarl caches no URL with a key."""
        path, _, query = target.partition("?")
        return URL(SplitResult(self._scheme, self._netloc, path, query, ""), encoded=True)

    def _headers(self, headers: Mapping[str, str]) -> CIMultiDict[str]:
        """Return *headers* as aiohttp wants them; a dialect gives the same ones with every request."""
        if headers is not self._given:
            self._given, self._ready = headers, CIMultiDict(headers)
        return self._ready

    def _opened(self, request: Request) -> Session:
        """Return the session; open one inside the running loop with the first request."""
        if self._closed:
            # No InvalidInputError: that says that nothing was sent, and this may be a retry.
            msg = f"{request.label}: the client was closed before it was answered; it may have taken effect"
            raise AiobatchError(msg)
        if self._session is None:
            self._session = _open_session(self._base_url)
        if self._session.closed:
            msg = "the session is closed"
            raise InvalidInputError(msg)
        return self._session

    async def aclose(self) -> None:
        """Close the session if it was opened here."""
        self._closed = True
        self._deadlines.close()
        if self._owned and self._session is not None:
            await self._session.close()


def _check_session(session: Session) -> None:
    """Refuse a session that cannot be used."""
    if not isinstance(session, Session):
        msg = f"session must be an aiohttp.ClientSession, not {type(session).__name__}; or leave it out"
        raise InvalidInputError(msg)
    if session.closed:
        msg = "session: it is closed; pass an open aiohttp.ClientSession, or none"
        raise InvalidInputError(msg)
    if session.auth is not None:
        msg = "session: it has auth= of its own, which would go to Batch; pass one without, or none"
        raise InvalidInputError(msg)


def _open_session(base_url: str) -> Session:
    """Open a session for one origin."""
    session = aiohttp.ClientSession(
        # Requests are admitted before they come here; a queue in the pool would use up their timeouts.
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={
            hdrs.USER_AGENT: f"aiobatch/{__version__}",
            hdrs.ACCEPT: "application/json",
            hdrs.ACCEPT_ENCODING: "gzip, deflate",
        },
        proxy=_find_proxy(base_url),
    )
    # Sentry's and OpenTelemetry's instrumentations add one to every session; they would record the URL, which
    # holds a key in 1.x, and send headers of theirs to Batch.
    session.trace_configs.clear()
    # aiohttp sends GET, PUT and DELETE again by itself when a kept-alive connection drops, without telling
    # anybody (aio-libs/aiohttp#10790); RetryPolicy counts every request.
    session._retry_connection = False  # noqa: SLF001
    return session


def _find_proxy(base_url: str) -> str | None:
    """Return the proxy that the environment names for an origin.

    aiohttp's `trust_env` asks in two threads for each request, for the proxy and for ~/.netrc; one origin has
    one proxy, and no password of another tool's is wanted here. Plain http goes to this machine only.
    """
    parts = urlsplit(base_url)
    if parts.scheme != "https" or urllib.request.proxy_bypass(parts.netloc):
        return None
    named = urllib.request.getproxies().get("https")
    if not named:
        return None
    proxy = named if "://" in named else f"http://{named}"
    if not _is_usable(proxy):
        msg = (
            "the environment variable HTTPS_PROXY names no proxy that can be used: give http://host:port, "
            "with user:password@ before the host where it wants them; SOCKS is not spoken"
        )
        raise InvalidInputError(msg)
    return proxy


def _is_usable(proxy: str) -> bool:
    """Tell whether a URL names a host and a scheme that aiohttp speaks to a proxy."""
    try:
        url = URL(proxy)
    except ValueError:
        return False
    return url.scheme in {"http", "https"} and bool(url.host)


def _wrap(body: bytes) -> bytes | io.BytesIO | None:
    """Return a body as aiohttp likes it."""
    if not body:
        return None  # b"" would go out as a body of no bytes
    return body if len(body) <= _LARGE_BODY else io.BytesIO(body)


def _is_bounded(answer: aiohttp.ClientResponse, limit: int) -> bool:
    """Tell whether the body will have at most *limit* bytes because its head says so."""
    headers = answer.headers
    return (
        int(headers.get(hdrs.CONTENT_LENGTH, limit + 1)) <= limit
        and hdrs.CONTENT_ENCODING not in headers
        and hdrs.TRANSFER_ENCODING not in headers
    )


async def _read_within(answer: aiohttp.ClientResponse, limit: int) -> bytes | None:
    """Read a body whose size is not known beforehand; None when it is larger than *limit* bytes."""
    body = bytearray()
    try:
        if int(answer.headers.get(hdrs.CONTENT_LENGTH, 0)) > limit:
            return None
        async for chunk in answer.content.iter_any():
            body += chunk
            if len(body) > limit:
                return None
        return bytes(body)
    finally:
        # After the last byte the connection is in the pool again and this does nothing to it.
        answer.close()


def _lack_memory(request: Request) -> MemoryError:
    return MemoryError(f"{request.label}: no memory is left; it may have taken effect")


def _translate(error: Exception, request: Request, base_url: str) -> AiobatchError | MemoryError:
    """Make our error of a foreign one, with nothing of its text: that may hold the URL, and the URL a key."""
    if isinstance(error.__cause__, MemoryError):
        return _lack_memory(request)  # to aiohttp a lost connection, which would be tried again and again
    ours = next(FOREIGN_ERRORS[kind] for kind in type(error).__mro__ if kind in FOREIGN_ERRORS)
    if isinstance(error.__cause__, http_exceptions.ContentEncodingError):
        return MalformedResponseError(
            f"{request.label}: the answer cannot be decompressed ({_name(error)})",
            method=request.method,
            path=request.path,
        )
    text = f"{request.label}: {_WHAT[ours].format(host=urlsplit(base_url).netloc)} ({_name(error)})"
    if ours is not ConnectError:
        return ours(text)
    return ConnectError(text + _remedy(error), lasting=_is_lasting(error))


_WHAT: dict[type[AiobatchError], str] = {
    ConnectError: "no connection to {host}; nothing was sent",
    RequestTimeoutError: "no complete answer in time; it may have taken effect",
    TransportError: "no readable answer; it may have taken effect",
    InvalidInputError: "it cannot be sent; check base_url and the session that was passed in",
}


_PROXY = "the proxy is the one that HTTPS_PROXY or the session names"
_REMEDIES: dict[type[Exception], str] = {
    aiohttp.ClientConnectorCertificateError: (
        "its TLS certificate is not trusted: name its authority's file in SSL_CERT_FILE, or pass a session "
        "whose connector has an ssl context of its own"
    ),
    aiohttp.ClientHttpProxyError: f"{_PROXY}: check its URL and credentials",
    aiohttp.ClientProxyConnectionError: _PROXY,
}


def _remedy(error: Exception) -> str:
    """Say what to do about a connection that was not made, where that is known."""
    if getattr(error, "errno", None) in _EXHAUSTED:
        return "; this process has no file descriptor left: raise `ulimit -n`, or lower Limits.in_flight"
    return next((f"; {words}" for kind, words in _REMEDIES.items() if isinstance(error, kind)), "")


def _is_lasting(error: Exception) -> bool:
    """Tell whether waiting mends nothing: a wrong certificate, a proxy that refuses."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return error.status in _REFUSALS
    return isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ServerFingerprintMismatch)


def _name(error: Exception) -> str:
    """Name an error's class and, where there is one, the system's or TLS's reason."""
    reason = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    name = type(error).__name__
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"{name}, {error.status}"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"{name}: {reason.verify_message}"
    if isinstance(reason, OSError) and reason.errno is not None:
        return f"{name}, errno {reason.errno}"
    return name
