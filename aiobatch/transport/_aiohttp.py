"""The aiohttp transport."""

from __future__ import annotations

import asyncio
import copy
import io
import math
import os
import ssl
from collections.abc import Mapping
from typing import cast
from urllib.parse import SplitResult, urlsplit

import aiohttp
from aiohttp import hdrs
from multidict import CIMultiDict
from yarl import URL

from .._tasks import Lookups
from .._version import __version__
from ..errors import (
    AiobatchError,
    InvalidInputError,
    MalformedResponseError,
)
from ..interfaces import Request, Response
from ..options import Limits
from ._aiohttp_errors import memory_error, translate
from ._proxy import check_credentials, find_proxy
from ._request_timeout import RequestTimeouts

__all__ = ["AiohttpTransport", "Session"]

Session = aiohttp.ClientSession

_FOREIGN = (aiohttp.ClientError, OSError, ValueError)

# The headers that aiobatch reads, all of them in responses without success. Building all headers would cost
# as much as the rest of this file.
_HEADERS = tuple((name, name.lower()) for name in (hdrs.DATE, hdrs.LOCATION, hdrs.RETRY_AFTER))
_SUCCESSES = range(200, 300)
# The largest share of a request's timeout that its connection may take. If both ended together, the error
# could not state that nothing was sent.
_CONNECT_SHARE = 0.9
# https://docs.openssl.org/master/man3/SSL_CTX_set_default_verify_paths/
_CA_VARIABLES = frozenset({"SSL_CERT_FILE", "SSL_CERT_DIR"})
# aiohttp warns of larger bodies given as bytes: one write of them would block the event loop.
_LARGE_BODY = 1024 * 1024


class AiohttpTransport:
    """Sends requests with aiohttp, each once.

    Args:
        base_url: The origin to send to, as `check_base_url` returns it.
        limits: `response_bytes` is read here.
        request_timeout: Seconds from the start of a request to the last byte of its response.
        connect_timeout: Seconds that a new connection may take. None for no limit of its own.
        session: A session to use. It is not closed. None opens one with the first request.

    Raises:
        InvalidInputError: The session is closed, belongs to a closed loop, has an authentication of its own,
            does not decompress, or has a proxy whose password cannot be sent.
    """

    def __init__(
        self,
        base_url: str,
        *,
        limits: Limits,
        request_timeout: float,
        connect_timeout: float | None = None,
        session: Session | None = None,
    ) -> None:
        if session is not None:
            _check_session(session)
        self._base_url = base_url
        self._scheme, self._netloc, *_ = urlsplit(base_url)
        self._last_headers: Mapping[str, str] | None = None
        self._prepared_headers: CIMultiDict[str] = CIMultiDict()
        self._limit = limits.response_bytes
        self._timeouts = RequestTimeouts(request_timeout)
        # `RequestTimeouts` takes the place of all other timeouts.
        connect = min(connect_timeout or math.inf, _CONNECT_SHARE * request_timeout)
        self._connect_timeout = aiohttp.ClientTimeout(connect=connect, ceil_threshold=math.inf)
        self._session = session
        self._owned = session is None
        self._twin: Session | None = None
        self._proxy: str | None = None
        self._closed = False

    def check_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Raise InvalidInputError if the session that was passed in belongs to another loop than *loop*."""
        if self._session is not None and self._session._loop is not loop:  # noqa: SLF001 - see _check_session
            msg = (
                "session belongs to another event loop. Create it in the loop that runs the client, or pass "
                "none."
            )
            raise InvalidInputError(msg)

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
            failure = memory_error(request)
        except _FOREIGN as error:
            failure = translate(error, request, self._base_url)
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
                    timeout=self._connect_timeout,
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
            msg = "The session is closed. Nothing was sent. Pass an open aiohttp.ClientSession, or none."
            raise InvalidInputError(msg)
        if self._owned or not (self._session.trust_env or hdrs.AUTHORIZATION in self._session.headers):
            return self._session
        if self._twin is None:
            # A proxy of the session's own wins over that of the environment, as in aiohttp.
            own = self._session._default_proxy  # noqa: SLF001 - no public way exists
            is_found = self._session.trust_env and own is None
            self._proxy = find_proxy(self._base_url) if is_found else None
            self._twin = _without_passwords(self._session)
        return self._twin

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
    if session._loop.is_closed():  # noqa: SLF001 - the public property is deprecated
        msg = "session belongs to an event loop that is closed. Create it in the loop that runs the client."
        raise InvalidInputError(msg)
    if session.auth is not None:
        msg = "session has its own auth=, which would be sent to Batch. Pass a session without it, or none."
        raise InvalidInputError(msg)
    if not session.auto_decompress:
        msg = (
            "session has auto_decompress=False, so compressed responses could not be read. Pass a session "
            "without it, or none."
        )
        raise InvalidInputError(msg)
    _check_proxy_of(session)


def _check_proxy_of(session: Session) -> None:
    """Raise InvalidInputError if the credentials of the session's own proxy cannot be sent."""
    proxy, auth = session._default_proxy, session._default_proxy_auth  # noqa: SLF001 - no public way exists
    if proxy is not None:
        url = URL(proxy)
        check_credentials(lambda: f"{url.user or ''}{url.password or ''}".encode("latin-1"), "session")
    if auth is not None:
        check_credentials(auth.encode, "session")


def _file_descriptors() -> int | None:
    """Return the number of file descriptors that this process may have. None for no limit."""
    try:
        import resource  # noqa: PLC0415 - Windows and Pyodide do not have it
    except ImportError:
        return None
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if descriptors == resource.RLIM_INFINITY else descriptors


def _without_passwords(session: Session) -> Session:
    """Return a session that shares everything with *session* but passwords for other services.

    With `trust_env` aiohttp sends a password of ~/.netrc, whose `default` entry matches every host. An
    `auth=` that prevents it would send another header. The proxy of the environment is passed per request.
    A default header Authorization would go to Batch too, because 1.x has its key in another one.
    """
    twin = copy.copy(session)
    twin._trust_env = False  # noqa: SLF001 - no public way exists
    twin._default_headers = CIMultiDict(session.headers)  # noqa: SLF001
    twin._default_headers.popall(hdrs.AUTHORIZATION, None)  # noqa: SLF001
    return twin


def _open_session(base_url: str) -> Session:
    session = aiohttp.ClientSession(
        # Requests are admitted before they reach the pool. A queue in the pool would use up their timeouts.
        connector=aiohttp.TCPConnector(limit=0, ssl=_trusted_authorities(base_url), resolver=_resolver()),
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


def _resolver() -> aiohttp.ThreadedResolver:
    """Return a resolver whose lookups can be left behind when they hang."""
    return aiohttp.ThreadedResolver(cast("asyncio.AbstractEventLoop", Lookups()))


def _trusted_authorities(base_url: str) -> ssl.SSLContext | bool:
    """Return a context with the authorities that the environment names, or True for aiohttp's own.

    aiohttp reads these variables when it is imported, so it does not notice that they are set later. To read
    the authorities takes 30 ms, which plain http, as of a sandbox, does not need.
    """
    if not base_url.startswith("https:") or not _CA_VARIABLES & os.environ.keys():
        return True
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


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
