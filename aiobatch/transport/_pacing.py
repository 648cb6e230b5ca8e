"""Pacing: a transport that wraps another one and admits requests no faster than Batch accepts them."""

from __future__ import annotations

import itertools
import logging
import math
import random
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

import attrs

from .._backoff import read_retry_after
from .._logs import log
from ..errors import (
    AiobatchError,
    ConnectError,
    MaintenanceError,
    MalformedResponseError,
    RateLimitedError,
    TransportError,
)
from ..events import Event, EventHook, PauseEnded, PauseStarted, RequestFinished, RequestSent
from ..interfaces import Clock, Request, Response, Transport
from ..options import Limits, RetryPolicy
from ._admission import Admission

__all__ = ["NotAdmitted", "PacingTransport", "before_send"]

_logger = logging.getLogger("aiobatch.pacing")

_TOO_MANY_REQUESTS = 429
_REFUSALS = frozenset({_TOO_MANY_REQUESTS, 503})

# Called in this context right before a request leaves, also before each retry. What it raises ends the call.
before_send: ContextVar[Callable[[], None] | None] = ContextVar("before_send", default=None)


class NotAdmitted(Exception):  # noqa: N818 - not an error but the reason of one
    """A request was not admitted in time.

    Attributes:
        reason: The error for the caller, unless an earlier attempt has failed.
    """

    def __init__(self, reason: AiobatchError) -> None:
        super().__init__(reason)
        self.reason = reason


class PacingTransport:
    """Admits requests in their order of arrival, then passes them on.

    Three limits hold a request back: requests in flight, the rate, and the circuit breaker. One 503 or 429
    pauses all requests. Then one probe goes ahead, and after its success the window reopens gradually.

    Args:
        inner: The transport that sends.
        limits: `rate`, `in_flight` and what is about pauses are read here.
        clock: The clock to sleep by.
        rng: The source of jitter.
        emit: Takes events. None for no events.
        in_flight: The connection pool's limit of requests in flight. None for no further limit.
        host: The host that the inner transport sends to, for events.

    Attributes:
        admission: The limits, the counters and the queue.
    """

    def __init__(  # noqa: PLR0913 - its parts, by keyword
        self,
        inner: Transport,
        *,
        limits: Limits,
        clock: Clock,
        rng: random.Random | None = None,
        emit: EventHook | None = None,
        in_flight: int | None = None,
        host: str = "",
    ) -> None:
        self._inner = inner
        self._host = host
        self._request_ids = itertools.count(1)
        self._clock = clock
        self._emit = emit
        max_in_flight = min(limits.in_flight, in_flight or limits.in_flight)
        self.admission = Admission(limits, max_in_flight, clock, rng or random.Random())
        self.admission.on_follow = self._report_change

    async def send(self, request: Request) -> Response:
        """Wait for admission, then send *request* and return the response.

        Raises:
            TransportError: No readable response was received.
            MalformedResponseError: A response was received that cannot be read.
        """
        return await self.send_by(request, math.inf)

    async def send_poll(self, request: Request) -> Response:
        """Send as `send` does. During a pause after a 503, a poll may probe earlier than other requests."""
        if self.admission.is_paused:
            await self.admission.wait_to_probe()
        return await self.send_by(request, math.inf, is_poll=True)

    def next_request_id(self) -> int:
        """Return the number of the next request, for events."""
        return next(self._request_ids)

    async def send_by(
        self,
        request: Request,
        start_by: float,
        *,
        policy: RetryPolicy | None = None,
        request_id: int | None = None,
        attempt: int = 1,
        is_poll: bool = False,
    ) -> Response:
        """Send as `send` does, if *request* is admitted in time.

        Args:
            request: The request.
            start_by: The time, on the clock, by which it must be admitted.
            policy: The policy whose timeout led to *start_by*, and whether a pause is to fail. None: neither.
            request_id: The number of the request, for events. None for the next one.
            attempt: The number of the attempt, for events.
            is_poll: Whether it may probe early.

        Raises:
            NotAdmitted: It was not admitted in time, so nothing was sent.
            TransportError: No readable response was received.
            MalformedResponseError: A response was received that cannot be read.
        """
        admission = self.admission
        if admission.is_free() or (is_poll and admission.can_probe_ahead()):
            admission.enter()
        else:
            await self._wait_for_admission(request, start_by, policy)
        return await self._send_admitted(request, request_id, attempt)

    async def _send_admitted(self, request: Request, request_id: int | None, attempt: int) -> Response:
        """Send a request that has entered, and learn from its end."""
        admission = self.admission
        generation = admission.breaker.generation
        started = self._clock.monotonic()
        admission.meter.add(started)
        fields: dict[str, Any] = {}
        try:
            if (check := before_send.get()) is not None:
                check()
            if self._emit is not None:
                fields = self._describe(request, request_id, attempt)
                self._emit(RequestSent(**fields))
            response = await self._inner.send(request)
        except BaseException as error:
            admission.leave(generation)
            self._learn_from_error(error, generation)
            if isinstance(error, AiobatchError):
                await admission.publish()
            self._report_failure(fields, error, started)
            raise
        admission.leave(generation)
        # A success that nothing waits for teaches nothing, and most requests end here.
        if response.status in _REFUSALS or admission.is_throttled:
            self._learn(response, generation)
            await admission.publish()
        if self._emit is not None:
            self._emit(self._describe_end(fields, response.status, None, started))
        return response

    def _report_failure(self, fields: Mapping[str, Any], error: BaseException, started: float) -> None:
        """Emit that an attempt failed, if its start was emitted."""
        if self._emit is not None and fields:
            self._emit(self._describe_end(fields, None, error, started))

    async def _wait_for_admission(
        self, request: Request, start_by: float, policy: RetryPolicy | None
    ) -> None:
        """Wait until *request* may go. Raise NotAdmitted if that takes too long."""
        admission = self.admission
        fails_now = policy is not None and policy.fail_when_paused
        if fails_now and admission.is_paused and not admission.can_probe:
            raise NotAdmitted(self._describe_refusal(request, 0.0))
        try:
            await admission.wait(start_by, fail_when_paused=fails_now)
        except TimeoutError:
            failed_now = policy is None or (fails_now and admission.is_paused)
            waited = 0.0 if failed_now or policy is None else policy.timeout
            raise NotAdmitted(self._describe_refusal(request, waited)) from None

    async def aclose(self) -> None:
        """Close the inner transport, and share the limit no longer."""
        try:
            await self.admission.leave_group()
        finally:
            await self._inner.aclose()

    def _describe_refusal(self, request: Request, timeout: float) -> AiobatchError:
        """Return the error for a request that was not admitted within *timeout* seconds."""
        admission = self.admission
        waited = f" for {timeout:g} s" if timeout else ""
        if not admission.is_paused:
            return ConnectError(f"{request.subject} failed: it waited{waited} {self._describe_queue()}")
        status, seconds = admission.breaker.status, admission.seconds_to_probe()
        fields: dict[str, Any] = {
            "advice": f"Try again in {math.ceil(seconds)} s, when one request probes whether it is over.",
            "status": status,
            "method": request.method,
            "path": request.path,
            "retry_after": seconds,
        }
        problem = f"{request.subject} failed: a {status} paused the client{waited}. Nothing was sent."
        return (RateLimitedError if status == _TOO_MANY_REQUESTS else MaintenanceError)(problem, **fields)

    def _describe_queue(self) -> str:
        """Return what requests wait for, apart from a pause, and what to do."""
        admission = self.admission
        if admission.limit is None:
            reason = f"behind {admission.in_flight:,} requests in flight"
            remedy = "Send fewer at once, or raise Limits.in_flight or RetryPolicy.timeout."
        else:
            reason = f"for its turn at the rate limit of {admission.limit:.3g} requests/s"
            remedy = (
                "Call view_many or upload, which send as fast as the limit allows, send fewer at once, or "
                "raise RetryPolicy.timeout."
            )
        return f"{reason}. Nothing was sent. {remedy}"

    def _learn(self, response: Response, generation: int) -> None:
        """Pause after a refusal, resume after a success. Requests from before the pause teach nothing."""
        if generation != self.admission.breaker.generation:
            return
        if response.status in _REFUSALS:
            self._pause(response.status, read_retry_after(response, self._clock.time()))
        else:
            self._resume()

    def _learn_from_error(self, error: BaseException, generation: int) -> None:
        """Pause longer after a probe without a response. An unreadable response is a response."""
        breaker = self.admission.breaker
        if generation != breaker.generation or breaker.paused_since is None:
            return
        if isinstance(error, TransportError):
            self._pause(breaker.status, None)
        elif isinstance(error, MalformedResponseError):
            self._resume()

    def _pause(self, status: int, retry_after: float | None) -> None:
        seconds = self.admission.on_refusal(status, retry_after)
        if seconds is not None:
            self._report_change(seconds, 0.0)

    def _resume(self) -> None:
        """End a pause, or widen the window further."""
        lasted = self.admission.on_success()
        if lasted is not None:
            self._report_change(None, lasted)

    def _report_change(self, seconds: float | None, lasted: float) -> None:
        """Report that requests pause for *seconds*, or with None that a pause of *lasted* seconds ended."""
        breaker = self.admission.breaker
        if seconds is None:
            log(_logger, logging.INFO, "requests resumed", seconds=lasted)
            event: Event = PauseEnded(seconds=lasted)
        else:
            event = PauseStarted(status=breaker.status, seconds=seconds, failures=breaker.failures)
            log(
                _logger,
                logging.WARNING,
                "requests paused",
                **attrs.asdict(event),
            )
        if self._emit is not None:
            self._emit(event)

    def _describe_end(
        self, fields: Mapping[str, Any], status: int | None, error: BaseException | None, started: float
    ) -> RequestFinished:
        name = None if error is None else type(error).__name__
        seconds = self._clock.monotonic() - started
        return RequestFinished(**fields, status=status, error=name, seconds=seconds)

    def _describe(self, request: Request, request_id: int | None, attempt: int) -> dict[str, Any]:
        """Return the fields that the events of one attempt share."""
        return {
            "operation": request.operation,
            "method": request.method,
            "host": self._host,
            "path": request.path,
            "audience": request.audience or None,
            "body_bytes": len(request.body),
            "request_id": self.next_request_id() if request_id is None else request_id,
            "attempt": attempt,
        }
