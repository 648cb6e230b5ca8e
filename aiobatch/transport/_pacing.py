"""Pacing: a transport that wraps another one and admits requests no faster than Batch accepts them."""

from __future__ import annotations

import logging
import math
import random
from typing import Any

from .._backoff import read_retry_after
from ..errors import (
    AiobatchError,
    ConnectError,
    MaintenanceError,
    MalformedResponseError,
    RateLimitedError,
    TransportError,
)
from ..events import EventHook, PauseEnded, PauseStarted, RequestFinished, RequestSent
from ..interfaces import Clock, Request, Response, Transport
from ..options import Limits
from ._admission import Admission

__all__ = ["NotAdmitted", "PacingTransport"]

_logger = logging.getLogger("aiobatch.pacing")

_TOO_MANY_REQUESTS = 429
_REFUSALS = frozenset({_TOO_MANY_REQUESTS, 503})


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

    Attributes:
        admission: The limits, the counters and the queue.
    """

    def __init__(
        self,
        inner: Transport,
        *,
        limits: Limits,
        clock: Clock,
        rng: random.Random | None = None,
        emit: EventHook | None = None,
        in_flight: int | None = None,
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._emit = emit
        max_in_flight = min(limits.in_flight, in_flight or limits.in_flight)
        self.admission = Admission(limits, max_in_flight, clock, rng or random.Random())

    async def send(self, request: Request) -> Response:
        """Wait for admission, then send *request* and return the response.

        Raises:
            TransportError: No readable response was received.
            MalformedResponseError: A response was received that cannot be read.
        """
        return await self.send_by(request, math.inf)

    async def send_by(
        self, request: Request, start_by: float, *, timeout: float = math.inf, fail_when_paused: bool = False
    ) -> Response:
        """Send as `send` does, if *request* is admitted in time.

        Args:
            request: The request.
            start_by: The time, on the clock, by which it must be admitted.
            timeout: The seconds that led to *start_by*, for the error.
            fail_when_paused: Whether to raise at once during a pause.

        Raises:
            NotAdmitted: It was not admitted in time, so nothing was sent.
            TransportError: No readable response was received.
            MalformedResponseError: A response was received that cannot be read.
        """
        admission = self.admission
        if admission.is_free():
            admission.enter()
        else:
            if fail_when_paused and admission.is_paused and not admission.can_probe:
                raise NotAdmitted(self._describe_refusal(request, 0.0))
            try:
                await admission.wait(start_by)
            except TimeoutError:
                raise NotAdmitted(self._describe_refusal(request, timeout)) from None
        generation = admission.breaker.generation
        started = self._clock.monotonic()
        admission.meter.add(started)
        try:
            if self._emit is not None:
                self._emit(_describe_start(request))
            response = await self._inner.send(request)
        except BaseException as error:
            admission.leave(generation)
            self._learn_from_error(error, generation)
            if self._emit is not None:
                self._emit(self._describe_end(request, None, error, started))
            raise
        admission.leave(generation)
        # A success that nothing waits for teaches nothing, and most requests end here.
        if response.status in _REFUSALS or admission.is_throttled:
            self._learn(response, generation)
        if self._emit is not None:
            self._emit(self._describe_end(request, response.status, None, started))
        return response

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()

    def _describe_refusal(self, request: Request, timeout: float) -> AiobatchError:
        """Return the error for a request that was not admitted within *timeout* seconds."""
        admission = self.admission
        waited = f" for {timeout:g} s" if timeout else ""
        if not admission.is_paused:
            return ConnectError(
                f"{request.subject} failed: it waited{waited} behind other requests. Nothing was sent. Send "
                "fewer at once, raise Limits, or raise RetryPolicy.timeout."
            )
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
        failures = self.admission.breaker.failures
        _logger.warning("requests paused: seconds=%.1f status=%d failures=%d", seconds, status, failures)
        if self._emit is not None:
            self._emit(PauseStarted(status=status, seconds=seconds, failures=failures))

    def _resume(self) -> None:
        """End a pause, or widen the window further."""
        lasted = self.admission.on_success()
        if lasted is not None:
            _logger.info("requests resumed: paused_seconds=%.1f", lasted)
            if self._emit is not None:
                self._emit(PauseEnded(seconds=lasted))

    def _describe_end(
        self, request: Request, status: int | None, error: BaseException | None, started: float
    ) -> RequestFinished:
        return RequestFinished(
            operation=request.operation,
            method=request.method,
            path=request.path,
            status=status,
            error=None if error is None else type(error).__name__,
            seconds=self._clock.monotonic() - started,
        )


def _describe_start(request: Request) -> RequestSent:
    return RequestSent(
        operation=request.operation,
        method=request.method,
        path=request.path,
        body_bytes=len(request.body),
    )
