"""The wiring of a client, and its lifetime from opening to closing."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable
from types import TracebackType
from typing import NoReturn, Self
from urllib.parse import urlsplit

from .._clock import SystemClock
from .._logs import log
from .._poller import ListSweep, Poller
from .._tasks import running_loop
from ..dialects import StatesPage, dialect_for
from ..errors import InvalidInputError, InvalidRequestError, MalformedResponseError
from ..events import EventHook, Stats
from ..interfaces import Clock, Request, Transport
from ..models import Audience, IdType, IndexingToken, Operation
from ..options import (
    App,
    Limits,
    PollingPolicy,
    Project,
    RetryPolicy,
    check_instance,
    check_methods,
)
from ..transport import (
    AiohttpTransport,
    PacingTransport,
    RetryingTransport,
    Session,
    SharingScope,
    check_base_url,
    is_unencrypted,
)
from ._closable_clock import ClosableClock
from ._hooks import to_emit
from ._sandbox_polling import DEFAULT_POLLING, choose_polling
from ._seen_tokens import SeenTokens

_logger = logging.getLogger("aiobatch.client")

_RETRY = RetryPolicy()
_LIMITS = Limits()
# Requests of one write whose responses all have a token of another write.
_TOKEN_ATTEMPTS = 2
_FOREIGN_LOOP = "The client belongs to another event loop. Create one AudienceClient for each loop."


class BaseClient:
    """The part of a client that connects dialect, transports and poller, and opens and closes them."""

    def __init__(  # noqa: PLR0913 - three policies, and replacements for tests
        self,
        target: App | Project,
        *,
        base_url: str | None = None,
        allow_http: bool | None = None,
        retry: RetryPolicy = _RETRY,
        polling: PollingPolicy = DEFAULT_POLLING,
        limits: Limits = _LIMITS,
        session: Session | None = None,
        on_event: EventHook | Iterable[EventHook] | None = None,
        transport: Transport | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        _check_arguments(target, retry, polling, limits)
        self._owns_rng = rng is None
        clock, rng = _check_injected(transport, clock, rng)
        self._target = target
        self._dialect = dialect_for(target, _log_notice)
        self._retry = retry
        self._limits = limits
        self._clock = ClosableClock(clock)
        self._tokens = SeenTokens()
        self._rng = rng
        self._emit = to_emit(on_event)
        base_url = check_base_url(base_url, allow_http=allow_http)
        self._base_url = base_url if transport is None else ""
        host = urlsplit(base_url).netloc
        if transport is None and is_unencrypted(base_url):
            log(_logger, logging.WARNING, "keys are sent without encryption", host=host)
        self._polling = choose_polling(polling, base_url)
        edge = transport or AiohttpTransport(
            base_url,
            limits=limits,
            request_timeout=retry.request_timeout,
            connect_timeout=retry.connect_timeout,
            session=session,
        )
        self._edge = edge
        self._connect(edge, clock, host)
        # Requests to another transport go elsewhere, wherever that is.
        self._scope = SharingScope(
            target=target,
            origin="" if transport is not None and limits.shared is False else base_url,
            transport=transport,
            limits=limits,
            clock=clock,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def _connect(self, edge: Transport, clock: Clock, host: str) -> None:
        """Put pacing, retries and the poller above the edge."""
        # The pacing surrounds the edge, so that retries and polls share it.
        self._paced = PacingTransport(
            edge,
            limits=self._limits,
            clock=self._clock,
            rng=self._rng,
            emit=self._emit,
            in_flight=edge.in_flight_limit if isinstance(edge, AiohttpTransport) else None,
            host=host,
        )
        self._transport = RetryingTransport(
            self._paced, policy=self._retry, clock=self._clock, rng=self._rng, emit=self._emit
        )
        self._poller = Poller(
            view=self._poll,
            sweep=ListSweep(fetch=self._fetch_states) if self._dialect.lists_states else None,
            policy=self._polling,
            clock=clock,  # the poller ends its own sleeps when it is closed
            rng=self._rng,
            emit=self._emit,
            request_queue=self._paced.admission,
        )

    def __repr__(self) -> str:
        """Return the API's version, without keys."""
        return f"<AudienceClient of API {self._dialect.version}{', closed' if self._closed else ''}>"

    def __reduce__(self) -> NoReturn:
        """Raise TypeError, because a copy would share tasks and connections."""
        msg = (
            "A client cannot be copied or pickled. Create one AudienceClient for each process and event loop."
        )
        raise TypeError(msg)

    async def open(self) -> Self:
        """Bind the client to the running event loop, as ``async with`` does. Close it with `aclose`.

        Returns:
            The client itself.

        Raises:
            InvalidInputError: The client was opened before, asyncio runs no event loop, the session that was
                passed in belongs to another one, or `Limits.shared` cannot be used here.
        """
        if self._loop is not None or self._closed:
            msg = "The client was opened before. Create a new AudienceClient."
            raise InvalidInputError(msg)
        loop = running_loop()
        if isinstance(self._edge, AiohttpTransport):
            self._edge.check_loop(loop)
        self._loop = loop
        try:
            await self._paced.admission.join(self._scope.find_group())
        except BaseException:
            self._loop = None
            raise
        self._poller.bind_context()
        if self._owns_rng:
            # A web server creates the client and then forks. With one state, all workers draw one jitter.
            self._rng.seed()
        return self

    async def __aenter__(self) -> Self:
        """Open the client."""
        return await self.open()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the client."""
        await self.aclose()

    async def aclose(self) -> None:
        """End all waits with a WaitInterruptedError, and close what the client opened.

        Closing again does nothing.
        """
        if not self._closed:
            if self._loop is not None and self._loop is not running_loop():
                # This loop can neither wake the client's waiters nor close its connections.
                msg = f"{_FOREIGN_LOOP} Close it in its own loop, as async with does."
                raise InvalidInputError(msg)
            self._closed = True
            # Waits end first, because their polls use the transport. The transport is closed in any case.
            try:
                await self._poller.aclose()
            finally:
                self._clock.close()
                await self._transport.aclose()

    @property
    def base_url(self) -> str:
        """The origin that requests go to. Empty if a transport was passed in, which may go elsewhere."""
        return self._base_url

    @property
    def target(self) -> App | Project:
        """The owner of the audiences."""
        return self._target

    @property
    def request_timeout(self) -> float:
        """Seconds that one request may take."""
        return self._retry.request_timeout

    @property
    def limits(self) -> Limits:
        """The limits of the client."""
        return self._limits

    @property
    def rate_limit(self) -> float | None:
        """The current limit in requests per second, lower after a 429. None for no limit."""
        return self._paced.admission.limit

    @property
    def default_id_type(self) -> IdType:
        """The version's default type of IDs."""
        return self._dialect.id_type(None)

    @property
    def stats(self) -> Stats:
        """Counters since the client was created."""
        return Stats(
            requests=self._paced.admission.requests,
            retries=self._transport.retries,
            polls=self._poller.polls,
            tokens=self._poller.tokens,
            rate=self._paced.admission.rate,
            seconds_paused=self._paced.admission.seconds_paused,
        )

    def _check_usable(self) -> None:
        """Raise InvalidInputError if the client is not open, or belongs to another event loop."""
        if self._closed:
            msg = "The client is closed. Create a new AudienceClient."
        elif self._loop is None:
            msg = "The client is not open. Open it with: async with AudienceClient(…) as client."
        elif running_loop() is not self._loop:
            msg = _FOREIGN_LOOP
        else:
            return
        raise InvalidInputError(msg)

    async def _write_members(self, request: Request) -> IndexingToken:
        """Send an update or replace, which every version answers with a token."""
        token = await self._write(request)
        assert token is not None  # noqa: S101 - read_token raises instead
        return token

    async def _write(self, request: Request) -> IndexingToken | None:
        """Send a write and return its token, or None if the version has none.

        Raises:
            MalformedResponseError: The token belongs to another write, so that its state proves nothing.
        """
        attempts = 0
        while attempts < (_TOKEN_ATTEMPTS if request.idempotent else 1):
            attempts += 1
            request_id = self._paced.next_request_id()
            response = await self._transport.send(request, request_id)
            value = self._dialect.read_token(request, response)
            if value is None:
                return None
            if self._tokens.add(value):
                # The poller learns the token's age from here, also if the wait starts later.
                token = IndexingToken(request.audience, value, Operation(request.operation))
                self._poller.record_issued(token, request_id=request_id)
                return token
        msg = (
            f"{request.subject} failed: the response has the indexing token of another write, whose state "
            "proves nothing about this one. Check base_url and any proxy between this machine and Batch."
        )
        raise MalformedResponseError(msg, method=request.method, path=request.path, attempts=attempts)

    async def _poll(self, token: IndexingToken) -> Audience:
        """Poll a token once. The request is paced but not retried, because the poller polls again."""
        try:
            return await self._view_once(token.audience, token.value)
        except InvalidRequestError as error:
            # BATCH_API.md, "Routes": 400 is about the token, or about an audience that does not exist.
            refusal = error
        try:
            await self._view_once(token.audience)
            raise refusal
        finally:
            del refusal  # its traceback holds this frame

    async def _view_once(self, name: str, token: str | None = None) -> Audience:
        """View an audience, paced and without retrying."""
        request = self._dialect.build_view(name, token)
        return self._dialect.read_view(request, await self._paced.send_poll(request))

    async def _fetch_states(self, cursor: str | None) -> StatesPage:
        """Fetch one page of the list for the poller."""
        request = self._dialect.build_list(cursor)
        return self._dialect.read_states(request, await self._paced.send_poll(request))


def id_type_of(client: BaseClient, wanted: IdType | None) -> IdType:
    """Return *wanted*, or the version's default for None, as every write of *client* checks it."""
    return client._dialect.id_type(wanted)  # noqa: SLF001 - kept out of the public API


def hook_of(client: BaseClient) -> EventHook | None:
    """Return a function that takes the events of *client*. None if it has no hook."""
    return client._emit  # noqa: SLF001 - kept out of the public API


async def send_built(client: BaseClient, request: Request) -> IndexingToken:
    """Send an update or replace that `dialect_for(client.target)` has built.

    Building a request of thousands of members with attributes takes tens of milliseconds. The sync engine
    builds it in its thread, so that the event loop is not blocked.

    Returns:
        The token. Raises the same errors as `update` and `replace`.
    """
    client._check_usable()  # noqa: SLF001 - kept out of the public API
    await client._paced.admission.wait_for_room()  # noqa: SLF001 - one of many chunks
    return await client._write_members(request)  # noqa: SLF001


def _log_notice(notice: str, field: str, details: str) -> None:
    log(_logger, logging.WARNING, notice, field=field, details=details)


def _check_arguments(
    target: App | Project, retry: RetryPolicy, polling: PollingPolicy, limits: Limits
) -> None:
    if not isinstance(target, App | Project):
        msg = f"target must be an App or a Project, not {type(target).__name__}. App.from_env() creates one."
        raise InvalidInputError(msg)
    check_instance(retry, RetryPolicy, "retry")
    check_instance(polling, PollingPolicy, "polling")
    check_instance(limits, Limits, "limits")


def _check_injected(
    transport: Transport | None, clock: Clock | None, rng: random.Random | None
) -> tuple[Clock, random.Random]:
    """Check the replacements that tests pass in. Return the clock and the randomness to use."""
    if transport is not None:
        check_methods(transport, ("send", "aclose"), "transport")
    if clock is not None:
        check_methods(clock, ("monotonic", "time", "sleep"), "clock")
    if rng is not None:
        check_instance(rng, random.Random, "rng")
    return clock or SystemClock(), rng or random.Random()
