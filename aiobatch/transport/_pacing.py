"""Pacing: a transport around a transport that admits requests, no more and no faster than is good."""

from __future__ import annotations

import asyncio
import logging
import math
import random

from .._clock import Clock
from .._http import Request, Response, read_retry_after
from ..errors import MalformedResponseError, TransportError
from ..events import PauseEnded, PauseStarted, RequestFinished, RequestSent
from ..options import Limits
from ._base import Emit, Transport
from ._circuit_breaker import Brownout
from ._rate_limit import RateLimit, RateMeter

__all__ = ["PacingTransport"]

_logger = logging.getLogger("aiobatch.pacing")

_TOO_MANY_REQUESTS = 429
_REFUSALS = frozenset({_TOO_MANY_REQUESTS, 503})


class PacingTransport:
    """Admits requests in the order in which they came, then hands them on.

    It holds back for the requests in flight, for the rate, and for the brown-out: one 503 or 429 pauses
    everybody, then one probe goes ahead, and when it succeeds the window reopens gradually.

    Args:
        inner: What sends.
        limits: `rate`, `in_flight`, `pause_initial` and `pause_maximum` are read here.
        clock: The clock to sleep by.
        rng: The source of jitter.
        emit: Where events go; None for nowhere.
        in_flight: A further limit of requests at once, of the connection pool's; None for none.
    """

    def __init__(
        self,
        inner: Transport,
        *,
        limits: Limits,
        clock: Clock,
        rng: random.Random | None = None,
        emit: Emit | None = None,
        in_flight: int | None = None,
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._emit = emit
        self._limit = min(limits.in_flight, in_flight or limits.in_flight)
        self._in_flight = 0
        self._fresh = 0  # in flight and admitted since the last pause began
        self._requests = 0
        self._meter = RateMeter(clock.monotonic())
        self._rate = RateLimit(limits.rate)
        self._brownout = Brownout(limits, self._limit, rng or random.Random())
        # Only the head of the line holds the turnstile and looks at what there is to wait for.
        self._turnstile = asyncio.Lock()
        self._queued = 0
        self._changed = asyncio.Event()

    @property
    def requests(self) -> int:
        """Requests admitted so far."""
        return self._requests

    @property
    def rate(self) -> float:
        """Requests per second over the last seconds."""
        return self._meter.rate(self._clock.monotonic())

    @property
    def in_flight(self) -> int:
        """Requests that are under way."""
        return self._in_flight

    @property
    def queued(self) -> int:
        """Requests that wait for admission."""
        return self._queued

    @property
    def limit(self) -> float | None:
        """Requests per second that may go now: as configured, or fewer after a 429; None for no limit."""
        return self._rate.current

    @property
    def is_paused(self) -> bool:
        """Whether 503 or 429 stopped everybody."""
        return self._brownout.since is not None

    @property
    def pause_reason(self) -> int | None:
        """The status that stopped everybody, 503 or 429; None when nothing did."""
        return self._brownout.status if self.is_paused else None

    @property
    def paused_until(self) -> float | None:
        """When the next probe goes, by the clock's monotonic seconds; None when nothing is paused."""
        return self._brownout.until if self.is_paused else None

    @property
    def seconds_paused(self) -> float:
        """Seconds of all pauses, the current one included."""
        return self._brownout.seconds_paused(self._clock.monotonic())

    async def send(self, request: Request) -> Response:
        """Wait for admission, then send *request* and return the answer.

        Raises:
            TransportError: No readable answer came.
            MalformedResponseError: An answer came that cannot be read.
        """
        if self._is_free():
            self._enter()
        else:
            await self._queue()
        epoch = self._brownout.epoch
        started = self._clock.monotonic()
        self._meter.add(started)
        try:
            if self._emit is not None:
                self._emit(_describe_start(request))
            response = await self._inner.send(request)
        except BaseException as error:
            self._leave(epoch)
            self._learn_from_error(error, epoch)
            if self._emit is not None:
                self._emit(self._describe_end(request, None, error, started))
            raise
        self._leave(epoch)
        if response.status in _REFUSALS or self._is_hampered:
            self._learn(response, epoch)
        if self._emit is not None:
            self._emit(self._describe_end(request, response.status, None, started))
        return response

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()

    def _is_free(self) -> bool:
        """Tell whether a request may go without a look at the time: those in line have room beside it."""
        return (
            self._in_flight + self._queued < self._limit
            and self._fresh + self._queued < self._brownout.window
            and self._brownout.since is None
            and self._rate.current is None
        )

    async def _queue(self) -> None:
        """Stand in line; at its head wait until nothing is in the way, and enter."""
        if not self._queued:
            self._rate.skip(self._clock.monotonic())
        self._queued += 1
        try:
            async with self._turnstile:
                while (seconds := self._wait()) > 0:
                    await self._stand(seconds)
                self._enter()
        finally:
            self._queued -= 1

    async def _stand(self, seconds: float) -> None:
        """Stand at the head of the line; slots that pass for another reason than a late timer are lost."""
        is_paused = self.is_paused
        if seconds == math.inf:
            self._changed.clear()
            await self._changed.wait()
        else:
            await self._clock.sleep(seconds)
        if seconds == math.inf or is_paused:
            self._rate.skip(self._clock.monotonic())

    def _wait(self) -> float:
        """Return the seconds to sleep before the next look, infinity to wait for a change, 0 to enter."""
        now = self._clock.monotonic()
        brownout = self._brownout
        if brownout.since is not None:
            if brownout.until > now:
                return brownout.until - now
            if brownout.probing:
                return math.inf
        elif self._fresh >= brownout.window:
            return math.inf
        if self._in_flight >= self._limit:
            return math.inf
        return max(0.0, self._rate.delay(now))

    def _enter(self) -> None:
        """Count a request in; the first one of a pause is its probe."""
        self._requests += 1
        self._in_flight += 1
        self._fresh += 1
        if self._brownout.since is not None:
            self._brownout.probing = True
        if self._rate.current is not None:
            self._rate.take(self._clock.monotonic())

    def _leave(self, epoch: int) -> None:
        """Count a request out and let the head of the line look again."""
        self._in_flight -= 1
        if epoch == self._brownout.epoch:
            self._fresh -= 1
            self._brownout.probing = False
        if self._queued:
            self._changed.set()

    @property
    def _is_hampered(self) -> bool:
        """Whether a success is news: something was refused before."""
        brownout = self._brownout
        return brownout.since is not None or brownout.window < self._limit or self._rate.is_lowered

    def _learn(self, response: Response, epoch: int) -> None:
        """Pause after a refusal, resume after a success; what was sent before the pause says nothing."""
        if epoch != self._brownout.epoch:
            return
        if response.status in _REFUSALS:
            wish = read_retry_after(response, self._clock.time())
            self._refuse(response.status, wish)
        else:
            self._accept()

    def _learn_from_error(self, error: BaseException, epoch: int) -> None:
        """Pause longer when the probe met a broken connection; an unreadable answer is an answer."""
        if epoch != self._brownout.epoch or self._brownout.since is None:
            return
        if isinstance(error, TransportError):
            self._refuse(self._brownout.status, None)
        elif isinstance(error, MalformedResponseError):
            self._accept()

    def _refuse(self, status: int, retry_after: float | None) -> None:
        """Pause, or pause longer, and slow down after a 429."""
        now = self._clock.monotonic()
        brownout = self._brownout
        if brownout.since is None:
            self._fresh = 0
            if status == _TOO_MANY_REQUESTS:
                accepted = self._meter.rate(now, without=self._in_flight + 1)
                self._rate.refuse(now, sent=self._meter.rate(now), accepted=accepted)
        brownout.fail(now, status, retry_after)
        seconds = brownout.until - now
        _logger.warning(
            "paused for %.1f s after %d (failures in a row: %d)", seconds, status, brownout.failures
        )
        if self._emit is not None:
            self._emit(PauseStarted(status=status, seconds=seconds, failures=brownout.failures))

    def _accept(self) -> None:
        """Resume, or open up further."""
        now = self._clock.monotonic()
        self._rate.accept(now, self._meter.rate(now))
        lasted = self._brownout.succeed(now)
        if lasted is not None:
            _logger.info("resumed after %.1f s", lasted)
            if self._emit is not None:
                self._emit(PauseEnded(seconds=lasted))

    def _describe_end(
        self, request: Request, status: int | None, error: BaseException | None, started: float
    ) -> RequestFinished:
        """Describe a request that ended."""
        return RequestFinished(
            operation=request.operation,
            method=request.method,
            path=request.path,
            status=status,
            error=None if error is None else type(error).__name__,
            seconds=self._clock.monotonic() - started,
        )


def _describe_start(request: Request) -> RequestSent:
    """Describe a request that goes out."""
    return RequestSent(
        operation=request.operation,
        method=request.method,
        path=request.path,
        body_bytes=len(request.body),
    )
