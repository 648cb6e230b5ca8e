"""The aiohttp transport, and the translation of aiohttp's errors, which may contain keys."""

from __future__ import annotations

import asyncio
import copy
import errno
import io
import ssl
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
from ._proxy import find_proxy
from ._request_timeout import RequestTimeouts

__all__ = ["FOREIGN_ERRORS", "AiohttpTransport", "Session"]

Session = aiohttp.ClientSession

# The error that each of aiohttp's errors becomes. A class that is not listed counts as its nearest base.
FOREIGN_ERRORS: dict[type[Exception], type[AiobatchError]] = {
    aiohttp.ClientError: TransportError,
    OSError: TransportError,
    TimeoutError: RequestTimeoutError,
    aiohttp.ServerTimeoutError: RequestTimeoutError,
    # No connection was made, so nothing was sent.
    aiohttp.ClientConnectorError: ConnectError,
    aiohttp.ClientHttpProxyError: ConnectError,
    aiohttp.ConnectionTimeoutError: ConnectError,
    aiohttp.ServerFingerprintMismatch: ConnectError,
    # The request cannot be sent: aiohttp rejects the base_url, a header or the session.
    ValueError: InvalidInputError,
    aiohttp.InvalidURL: InvalidInputError,
    aiohttp.NonHttpUrlClientError: InvalidInputError,
}
_FOREIGN = (aiohttp.ClientError, OSError, ValueError)

# The headers that aiobatch reads, all of them in responses without success. Building all headers would cost
# as much as the rest of this file.
_HEADERS = tuple((name, name.lower()) for name in (hdrs.DATE, hdrs.LOCATION, hdrs.RETRY_AFTER))
_SUCCESSES = range(200, 300)
# `RequestTimeouts` takes its place.
_NO_TIMEOUT = aiohttp.ClientTimeout()
_REFUSALS = range(400, 500)
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE})
# aiohttp warns of larger bodies given as bytes: one write of them would block the event loop.
_LARGE_BODY = 1024 * 1024


class AiohttpTransport:
    """Sends requests with aiohttp, each once.

    Args:
        base_url: The origin to send to, as `check_base_url` returns it.
        limits: `response_bytes` is read here.
        request_timeout: Seconds from the start of a request to the last byte of its response.
        session: A session to use. It is not closed. None opens one with the first request.

    Raises:
        InvalidInputError: The session is closed, or has an authentication of its own.
    """

    def __init__(
        self, base_url: str, *, limits: Limits, request_timeout: float, session: Session | None = None
    ) -> None:
        if session is not None:
            _check_session(session)
        self._base_url = base_url
        self._scheme, self._netloc, *_ = urlsplit(base_url)
        self._last_headers: Mapping[str, str] | None = None
        self._prepared_headers: CIMultiDict[str] = CIMultiDict()
        self._limit = limits.response_bytes
        self._timeouts = RequestTimeouts(request_timeout)
        self._session = session
        self._owned = session is None
        self._twin: Session | None = None
        self._proxy: str | None = None
        self._closed = False

    @property
    def in_flight_limit(self) -> int | None:
        """Connections at most. None means no limit.

        The pool of a session that was passed in has a limit: a request that waited for one of its connections
        would use up its timeout (aio-libs/aiohttp#10313). Half of the process's file descriptors stay free.
        """
        descriptors = _file_descriptors()
        limits = [None if descriptors is None else max(1, descriptors // 2)]
        connector = None if self._owned or self._session is None else self._session.connector
        if connector is not None:
            limits += [connector.limit, connector.limit_per_host]
        return min(filter(None, limits), default=None)

    async def send(self, request: Request) -> Response:
        """Send *request* and return the response, whatever its status. Redirects are not followed.

        Raises:
            ConnectError: No connection could be made.
            RequestTimeoutError: The response was not complete in time.
            TransportError: The connection broke, or the response was not HTTP.
            MalformedResponseError: The response is too large, or cannot be decompressed.
            InvalidInputError: The session is closed, or rejects the request.
            AiobatchError: This transport was closed.
            MemoryError: No memory is left to send or receive.
        """
        session = self._opened(request)
        failure: Exception
        try:
            response = await self._exchange(session, request)
        except asyncio.CancelledError as error:
            # The same error, without aiohttp's frames: their locals hold the URL and the headers.
            raise error.with_traceback(None)  # noqa: B904 - it is its own cause
        except MemoryError:
            failure = _memory_error(request)
        except _FOREIGN as error:
            failure = _translate(error, request, self._base_url)
        else:
            if response is not None:
                return response
            failure = MalformedResponseError(
                f"{request.subject} failed: the response is larger than {self._limit} bytes. "
                "Check base_url, or raise Limits.response_bytes.",
                method=request.method,
                path=request.path,
            )
        # Raised outside the except block: aiohttp's error, which has the URL and headers, must not be its
        # context.
        raise failure

    async def _exchange(self, session: Session, request: Request) -> Response | None:
        """Send and receive once. Return None for a response that is too large.

        It raises no error of aiobatch's, because the traceback's locals would contain the URL of `answer`.
        """
        answer: aiohttp.ClientResponse | None = None
        body: bytes | None = None
        try:
            with self._timeouts:
                answer = await session.request(
                    request.method,
                    self._locate(request.target),
                    headers=self._headers(request.headers),
                    data=_wrap(request.body),
                    timeout=_NO_TIMEOUT,
                    proxy=self._proxy,
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
            body = b""  # the status is enough: nothing depends on the text of an error page
        if answer.status in _SUCCESSES:
            return Response(status=answer.status, body=body)
        headers = {name: answer.headers[key] for key, name in _HEADERS if key in answer.headers}
        return Response(status=answer.status, headers=headers, body=body)

    def _locate(self, target: str) -> URL:
        """Return the URL. Built from parts, it is not parsed, and yarl caches no URL with a key."""
        path, _, query = target.partition("?")
        return URL(SplitResult(self._scheme, self._netloc, path, query, ""), encoded=True)

    def _headers(self, headers: Mapping[str, str]) -> CIMultiDict[str]:
        """Return *headers* in aiohttp's type. A dialect passes the same mapping with each request."""
        if headers is not self._last_headers:
            self._last_headers, self._prepared_headers = headers, CIMultiDict(headers)
        return self._prepared_headers

    def _opened(self, request: Request) -> Session:
        """Return the session. The first request opens one inside the running loop."""
        if self._closed:
            # Not InvalidInputError, which guarantees that nothing was sent: this may be a retry.
            msg = (
                f"{request.subject} failed: the client was closed before the response. "
                "The request may have taken effect."
            )
            raise AiobatchError(msg)
        if self._session is None:
            self._session = _open_session(self._base_url)
        if self._session.closed:
            msg = (
                "Nothing was sent because the session is closed. Pass an open aiohttp.ClientSession, or none."
            )
            raise InvalidInputError(msg)
        if not self._owned and self._session.trust_env:
            if self._twin is None:
                # A proxy of the session's own wins over that of the environment, as in aiohttp.
                own = self._session._default_proxy  # noqa: SLF001 - no public way exists
                self._proxy = None if own is not None else find_proxy(self._base_url)
                self._twin = _without_netrc(self._session)
            return self._twin
        return self._session

    async def aclose(self) -> None:
        """Close the session if it was opened here."""
        self._closed = True
        self._timeouts.close()
        if self._twin is not None:
            self._twin.detach()
        if self._owned and self._session is not None:
            await self._session.close()


def _check_session(session: Session) -> None:
    """Raise InvalidInputError if a session cannot be used."""
    if not isinstance(session, Session):
        msg = f"session must be an aiohttp.ClientSession or None, not {type(session).__name__}."
        raise InvalidInputError(msg)
    if session.closed:
        msg = "session is closed. Pass an open aiohttp.ClientSession, or none."
        raise InvalidInputError(msg)
    if session.auth is not None:
        msg = "session has its own auth=, which would be sent to Batch. Pass a session without it, or none."
        raise InvalidInputError(msg)


def _file_descriptors() -> int | None:
    """Return the number of file descriptors that this process may have. None for no limit."""
    try:
        import resource  # noqa: PLC0415 - Windows and Pyodide do not have it
    except ImportError:
        return None
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if descriptors == resource.RLIM_INFINITY else descriptors


def _without_netrc(session: Session) -> Session:
    """Return a session that shares everything with *session* but its trust in the environment.

    With `trust_env` aiohttp sends a password of ~/.netrc, whose `default` entry matches every host. An
    `auth=` that prevents it would send another header. The proxy of the environment is passed per request.
    """
    twin = copy.copy(session)
    twin._trust_env = False  # noqa: SLF001 - no public way exists
    return twin


def _open_session(base_url: str) -> Session:
    session = aiohttp.ClientSession(
        # Requests are admitted before they reach the pool. A queue in the pool would use up their timeouts.
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={
            hdrs.USER_AGENT: f"aiobatch/{__version__}",
            hdrs.ACCEPT: "application/json",
            hdrs.ACCEPT_ENCODING: "gzip, deflate",
        },
        proxy=find_proxy(base_url),
    )
    # The instrumentations of Sentry and OpenTelemetry add one to every session. They would record the URL,
    # which contains a key in 1.x, and send their headers to Batch.
    session.trace_configs.clear()
    # If a kept-alive connection drops, aiohttp silently sends GET, PUT and DELETE again
    # (aio-libs/aiohttp#10790). RetryPolicy must count every request.
    session._retry_connection = False  # noqa: SLF001
    return session


def _wrap(body: bytes) -> bytes | io.BytesIO | None:
    if not body:
        return None  # b"" would be sent as an empty body
    return body if len(body) <= _LARGE_BODY else io.BytesIO(body)


def _is_bounded(answer: aiohttp.ClientResponse, limit: int) -> bool:
    """Return whether the headers guarantee a body of at most *limit* bytes."""
    headers = answer.headers
    return (
        int(headers.get(hdrs.CONTENT_LENGTH, limit + 1)) <= limit
        and hdrs.CONTENT_ENCODING not in headers
        and hdrs.TRANSFER_ENCODING not in headers
    )


async def _read_within(answer: aiohttp.ClientResponse, limit: int) -> bytes | None:
    """Read a body of unknown size. Return None if it is larger than *limit* bytes."""
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
        # After the last byte the connection is back in the pool, and this does not affect it.
        answer.close()


def _memory_error(request: Request) -> MemoryError:
    return MemoryError(f"{request.subject} failed: no memory is left. The request may have taken effect.")


def _translate(error: Exception, request: Request, base_url: str) -> AiobatchError | MemoryError:
    """Return aiobatch's error for a foreign one, without its text, which may contain the URL and so a key."""
    if isinstance(error.__cause__, MemoryError):
        return _memory_error(request)  # aiohttp reports a lost connection, which would be retried
    kind = next(FOREIGN_ERRORS[base] for base in type(error).__mro__ if base in FOREIGN_ERRORS)
    if isinstance(error.__cause__, http_exceptions.ContentEncodingError):
        return MalformedResponseError(
            f"{request.subject} failed: the response cannot be decompressed. [{_name(error)}]",
            method=request.method,
            path=request.path,
        )
    reason = _REASONS[kind].format(host=urlsplit(base_url).netloc)
    if kind is not ConnectError:
        return kind(f"{request.subject} failed: {reason} [{_name(error)}]")
    text = f"{request.subject} failed: {reason}{_remedy(error)} [{_name(error)}]"
    return ConnectError(text, lasting=_is_lasting(error))


_REASONS: dict[type[AiobatchError], str] = {
    ConnectError: "no connection to {host}. Nothing was sent.",
    RequestTimeoutError: "no complete response in time. The request may have taken effect.",
    TransportError: "no readable response. The request may have taken effect.",
    InvalidInputError: "it cannot be sent. Check base_url and the session that was passed in.",
}


_PROXY = "The proxy is set by HTTPS_PROXY or by the session"
_REMEDIES: dict[type[Exception], str] = {
    aiohttp.ClientConnectorCertificateError: (
        "Its TLS certificate is not trusted. Set SSL_CERT_FILE to a file with its authority, or pass a "
        "session whose connector has its own ssl context."
    ),
    aiohttp.ClientHttpProxyError: f"{_PROXY}. Check its URL and credentials.",
    aiohttp.ClientProxyConnectionError: f"{_PROXY}.",
}


def _remedy(error: Exception) -> str:
    """Return what to do about a connection that was not made, or nothing if that is unknown."""
    if getattr(error, "errno", None) in _EXHAUSTED:
        return " No file descriptor is left in this process. Raise `ulimit -n`, or lower Limits.in_flight."
    return next((f" {remedy}" for kind, remedy in _REMEDIES.items() if isinstance(error, kind)), "")


def _is_lasting(error: Exception) -> bool:
    """Return whether waiting cannot help: the certificate is wrong, or the proxy refuses."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return error.status in _REFUSALS
    return isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ServerFingerprintMismatch)


def _name(error: Exception) -> str:
    """Return an error's class and, if there is one, the reason of the system or of TLS."""
    reason = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    name = type(error).__name__
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"{name}, {error.status}"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"{name}: {reason.verify_message}"
    if isinstance(reason, OSError) and reason.errno is not None:
        return f"{name}, errno {reason.errno}"
    return name
