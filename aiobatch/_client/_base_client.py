"""What a client is made of, and its life from opening to closing."""

from __future__ import annotations

import asyncio
import logging
import random
from types import TracebackType
from typing import NoReturn, Self

import attrs

from .._clock import Clock, SystemClock
from .._http import Request
from .._poller import ListSweep, Poller
from .._validation import check_name
from ..dialects import StatesPage, dialect_for
from ..errors import InvalidInputError
from ..events import Event, EventHook, Stats
from ..models import Audience, IdType, IndexingToken, Operation
from ..options import (
    App,
    Limits,
    PollingPolicy,
    Project,
    RetryPolicy,
    check_base_url,
    check_callback,
    check_instance,
    check_methods,
)
from ..transport import AiohttpTransport, PacingTransport, RetryingTransport, Session, Transport
from ._closable_clock import ClosableClock

_logger = logging.getLogger("aiobatch.client")

_RETRY = RetryPolicy()
_POLLING = PollingPolicy()
_LIMITS = Limits()
_FOREIGN_LOOP = "the client belongs to another event loop; make one AudienceClient for each loop"
_WRITES_OF_MEMBERS = frozenset({Operation.UPDATE, Operation.REPLACE})


class BaseClient:
    """Puts dialect, transports and poller together; `AudienceClient` says what to do with them."""

    def __init__(  # noqa: PLR0913 - the contract's three policies, and seams that stand apart
        self,
        target: App | Project,
        *,
        base_url: str | None = None,
        retry: RetryPolicy = _RETRY,
        polling: PollingPolicy = _POLLING,
        limits: Limits = _LIMITS,
        session: Session | None = None,
        on_event: EventHook | None = None,
        transport: Transport | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        _check_arguments(target, retry, polling, limits)
        clock, rng = _check_injected(transport, clock, rng)
        self._target = target
        self._dialect = dialect_for(target)
        self._retry = retry
        self._polling = polling
        self._limits = limits
        self._clock = ClosableClock(clock)
        self._rng = rng
        self._emit = None if on_event is None else _SafeHook(on_event)
        edge = transport or AiohttpTransport(
            check_base_url(base_url), limits=limits, request_timeout=retry.request_timeout, session=session
        )
        self._paced = self._make_paced(edge)
        self._transport = RetryingTransport(
            self._paced, policy=retry, clock=self._clock, rng=self._rng, emit=self._emit
        )
        self._poller = self._make_poller(clock)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def _make_paced(self, edge: Transport) -> PacingTransport:
        """Put pacing around the edge: what retries and what polls share it."""
        return PacingTransport(
            edge,
            limits=self._limits,
            clock=self._clock,
            rng=self._rng,
            emit=self._emit,
            in_flight=edge.in_flight_limit if isinstance(edge, AiohttpTransport) else None,
        )

    def _make_poller(self, clock: Clock) -> Poller:
        """Make the scheduler of all waits; it sleeps by the bare clock, since it is closed by itself."""
        return Poller(
            view=self._poll,
            sweep=ListSweep(fetch=self._fetch_states) if self._dialect.lists_states else None,
            policy=self._polling,
            clock=clock,
            rng=self._rng,
            emit=self._emit,
            request_queue=self._paced.admission,
        )

    def __repr__(self) -> str:
        """Show the API's version and no key."""
        return f"<AudienceClient of API {self._dialect.version}{', closed' if self._closed else ''}>"

    def __reduce__(self) -> NoReturn:
        """Refuse: a copy would share its tasks and connections, and not know when it is closed."""
        msg = "a client cannot be copied or pickled; make one AudienceClient for each process and event loop"
        raise TypeError(msg)

    async def __aenter__(self) -> Self:
        """Bind the client to the running event loop."""
        if self._loop is not None or self._closed:
            msg = "this client was opened before; make a new AudienceClient"
            raise InvalidInputError(msg)
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the client."""
        await self.aclose()

    async def aclose(self) -> None:
        """End all waits and close what the client opened; a second time does nothing."""
        if not self._closed:
            if self._loop is not None and self._loop is not asyncio.get_running_loop():
                # From here its waiters could not be woken, nor its connections be closed.
                msg = f"{_FOREIGN_LOOP}, and close it in its own: async with does"
                raise InvalidInputError(msg)
            self._closed = True
            try:
                await self._poller.aclose()
            finally:
                self._clock.close()
                await self._transport.aclose()

    @property
    def target(self) -> App | Project:
        """Whose audiences these are."""
        return self._target

    @property
    def limits(self) -> Limits:
        """How much of the target is used."""
        return self._limits

    @property
    def rate_limit(self) -> float | None:
        """Requests per second that may go now: as configured, or fewer after a 429; None for no limit."""
        return self._paced.admission.limit

    @property
    def default_id_type(self) -> IdType:
        """What ids are where no type is given: the version's default."""
        return self._dialect.id_type(None)

    @property
    def stats(self) -> Stats:
        """Counters since the client was made."""
        return Stats(
            requests=self._paced.admission.requests,
            retries=self._transport.retries,
            polls=self._poller.polls,
            tokens=self._poller.tokens,
            rate=self._paced.admission.rate,
            seconds_paused=self._paced.admission.seconds_paused,
        )

    def _check_usable(self) -> None:
        """Refuse use before opening, after closing, and from another event loop."""
        if self._closed:
            msg = "the client is closed; make a new AudienceClient"
        elif self._loop is None:
            msg = "open the client first: async with AudienceClient(…) as client"
        elif asyncio.get_running_loop() is not self._loop:
            msg = _FOREIGN_LOOP
        else:
            return
        raise InvalidInputError(msg)

    async def send_built(self, request: Request, name: str) -> IndexingToken:
        """Send an update or replace that was built before, with `dialect_for(client.target)`.

        To build one of thousands of members with attributes takes tens of milliseconds, which a program that
        has a thread anyway, such as the sync engine, spares its event loop.

        Args:
            request: What the dialect built.
            name: The audience's name.

        Returns:
            The token, as of `update` and `replace`, which raise the same.
        """
        self._check_usable()
        if not isinstance(request, Request) or request.operation not in _WRITES_OF_MEMBERS:
            msg = "request must be an update or replace, as dialect_for(client.target) builds them"
            raise InvalidInputError(msg)
        operation = Operation(request.operation)
        return await self._write_for_token(request, check_name(name), operation)

    async def _write_for_token(self, request: Request, name: str, operation: Operation) -> IndexingToken:
        """Send a write that every version answers with a token."""
        token = await self._write(request, name, operation)
        assert token is not None  # noqa: S101 - read_token raises in its place
        return token

    async def _write(self, request: Request, name: str, operation: Operation) -> IndexingToken | None:
        """Send a write; return its token, where the version answers one."""
        response = await self._transport.send(request)
        value = self._dialect.read_token(request, response)
        if value is None:
            return None
        token = IndexingToken(name, value, operation)
        self._poller.record_issued(token)
        return token

    async def _poll(self, token: IndexingToken) -> Audience:
        """Ask once about a token: paced, but not retried, since the poller has its own patience."""
        request = self._dialect.build_view(token.audience, token.value)
        return self._dialect.read_view(request, await self._paced.send(request))

    async def _fetch_states(self, cursor: str | None) -> StatesPage:
        """Fetch one page of the list for the poller."""
        request = self._dialect.build_list(cursor)
        return self._dialect.read_states(request, await self._paced.send(request))


def _check_arguments(
    target: App | Project, retry: RetryPolicy, polling: PollingPolicy, limits: Limits
) -> None:
    """Check what a client is told: whose audiences, and its three policies."""
    if not isinstance(target, App | Project):
        msg = f"target must be an App or a Project, not {type(target).__name__}; App.from_env() reads one"
        raise InvalidInputError(msg)
    check_instance(retry, RetryPolicy, "retry")
    check_instance(polling, PollingPolicy, "polling")
    check_instance(limits, Limits, "limits")


def _check_injected(
    transport: Transport | None, clock: Clock | None, rng: random.Random | None
) -> tuple[Clock, random.Random]:
    """Check what stands in for the real thing, in tests; return the clock and randomness to go by."""
    if transport is not None:
        check_methods(transport, ("send", "aclose"), "transport")
    if clock is not None:
        check_methods(clock, ("monotonic", "time", "sleep"), "clock")
    if rng is not None:
        check_instance(rng, random.Random, "rng")
    return clock or SystemClock(), rng or random.Random()


@attrs.frozen
class _SafeHook:
    """The user's hook; what it raises harms nobody."""

    on_event: EventHook = attrs.field(
        validator=lambda _self, _field, value: check_callback(value, "on_event")
    )

    def __call__(self, event: Event) -> None:
        """Pass *event* on."""
        try:
            self.on_event(event)
        except Exception:
            _logger.exception("the hook on_event raised on %s; the client goes on", type(event).__name__)
