"""Retrying: a transport that wraps another one and sends a request again after a temporary failure."""

from __future__ import annotations

import codecs
import logging
import math
import random
from collections.abc import Callable
from contextvars import ContextVar

import attrs

from .._backoff import is_foreign, jittered_delays, read_retry_after
from .._logs import log
from ..errors import ConnectError, InvalidInputError, MalformedResponseError, TransportError
from ..errors._requests import after_earlier_attempts
from ..events import EventHook, RetryScheduled
from ..interfaces import Clock, Request, Response, Transport
from ..options import RetryPolicy
from ._pacing import NotAdmitted, PacingTransport

__all__ = ["RetryingTransport", "on_retry"]

_logger = logging.getLogger("aiobatch.retrying")

# A timeout, a replay that came too early, a rate limit, and every failure of a server or of a proxy.
_TEMPORARY = frozenset({408, 425, 429, *range(500, 600)})
# Statuses after which a request certainly had no effect.
_WITHOUT_EFFECT = frozenset({429, 503})
_TOO_LARGE = 413
# Attempts while a proxy answers 4xx in Batch's place, whatever the policy: base_url may be wrong.
_PROXY_ATTEMPTS = 6

_Failure = TransportError | MalformedResponseError

# Called for each retry in this context. Several users of one client can count their own retries.
on_retry: ContextVar[Callable[[], None] | None] = ContextVar("on_retry", default=None)


class RetryingTransport:
    """Sends a request again after a temporary failure, within the bounds of a policy.

    A request that is not idempotent is repeated only if it certainly had no effect.

    Args:
        inner: The transport that sends, once for each attempt. A pacing one observes the policy's timeout.
        policy: Bounds of attempts, of time and of the delays between.
        clock: The clock to sleep by.
        rng: The source of jitter.
        emit: Takes events. None for no events.

    Attributes:
        retries: Requests that repeated a failed one.
        budget: Retries left, for all requests together.
    """

    def __init__(
        self,
        inner: Transport,
        *,
        policy: RetryPolicy,
        clock: Clock,
        rng: random.Random,
        emit: EventHook | None = None,
    ) -> None:
        self._inner = inner
        self._pacing = inner if isinstance(inner, PacingTransport) else None
        self._policy = policy
        self._clock = clock
        self._rng = rng
        self._emit = emit
        self.budget = policy.budget
        self.retries = 0

    async def send(self, request: Request, request_id: int | None = None) -> Response:
        """Send *request*, again if necessary, and return the last response.

        Args:
            request: The request.
            request_id: Its number, for events. None for the next one.

        Raises:
            TransportError: The last attempt received no readable response. `attempts` counts them.
            MalformedResponseError: The last attempt received a response that cannot be read.
            MaintenanceError: A pause after a 503 lasted too long, so nothing was sent.
            RateLimitedError: The same after a 429.
        """
        last_start = self._clock.monotonic() + self._policy.timeout
        if request_id is None and self._emit is not None:
            request_id = self._next_request_id()
        try:
            outcome = await self._attempt(request, last_start, request_id)
        except NotAdmitted as refusal:
            reason = refusal.reason
        else:
            if isinstance(outcome, Response) and _is_final(request, outcome):
                self._refill()
                return outcome
            if request_id is None:
                request_id = self._next_request_id()
            return await self._repeat(request, outcome, last_start, request_id)
        try:
            raise reason
        finally:
            del reason  # its traceback holds this frame

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()

    def _next_request_id(self) -> int:
        return 0 if self._pacing is None else self._pacing.next_request_id()

    async def _attempt(
        self, request: Request, last_start: float, request_id: int | None, attempt: int = 1
    ) -> Response | _Failure:
        """Send once. Return a failure, so that it can be examined like a response."""
        try:
            if self._pacing is None:
                return await self._inner.send(request)
            return await self._pacing.send_by(
                request, last_start, policy=self._policy, request_id=request_id, attempt=attempt
            )
        except (TransportError, MalformedResponseError) as error:
            return error

    async def _repeat(
        self, request: Request, outcome: Response | _Failure, last_start: float, request_id: int
    ) -> Response:
        """Send again until the outcome is final or a bound is reached."""
        policy = self._policy
        attempts = 1
        delays = jittered_delays(policy.initial, policy.maximum, self._rng)
        was_sent = _may_have_effect(outcome)
        try:
            while (
                _may_repeat(request, outcome)
                and attempts < _most_attempts(policy, outcome)
                and self.budget > 0
            ):
                delay = self._apply_retry_after(next(delays), outcome)
                if self._clock.monotonic() + delay > last_start or self._fails_now:
                    break
                self._announce(request, request_id, attempts, delay, outcome)
                await self._sleep_before_retry(delay)
                try:
                    outcome = await self._attempt(request, last_start, request_id, attempts + 1)
                except NotAdmitted:
                    # Nothing was sent, so the last attempt decides.
                    self.retries -= 1
                    self.budget += 1
                    break
                except InvalidInputError as error:
                    raise (after_earlier_attempts(error) if was_sent else error) from None
                attempts += 1
                was_sent = was_sent or _may_have_effect(outcome)
            if isinstance(outcome, ConnectError) and was_sent:
                outcome.attempts = attempts
                raise after_earlier_attempts(outcome)
            return self._finish(request, outcome, attempts)
        finally:
            # An error keeps its traceback, which keeps this frame, which would keep the error until the
            # collector runs.
            del outcome

    @property
    def _fails_now(self) -> bool:
        """Whether the client is paused, and its callers do not want to wait for that."""
        pacing = self._pacing
        return self._policy.fail_when_paused and pacing is not None and pacing.admission.is_paused

    def _apply_retry_after(self, delay: float, outcome: Response | _Failure) -> float:
        """Return the longer of *delay* and `Retry-After`, or infinity above the policy's maximum."""
        if not isinstance(outcome, Response):
            return delay
        requested = read_retry_after(outcome, self._clock.time())
        if requested is None:
            return delay
        return max(delay, requested) if requested <= self._policy.retry_after_max else math.inf

    def _announce(
        self,
        request: Request,
        request_id: int,
        attempt: int,
        delay: float,
        outcome: Response | _Failure,
    ) -> None:
        """Log and emit that a retry is scheduled."""
        scheduled = RetryScheduled(
            operation=request.operation,
            path=request.path,
            audience=request.audience or None,
            request_id=request_id,
            attempt=attempt,
            delay=delay,
            reason=str(outcome.status) if isinstance(outcome, Response) else type(outcome).__name__,
        )
        log(
            _logger,
            logging.INFO,
            "retry scheduled",
            **attrs.asdict(scheduled),
        )
        if self._emit is not None:
            self._emit(scheduled)

    async def _sleep_before_retry(self, delay: float) -> None:
        """Take a retry from the budget and sleep. A cancellation gives it back, because nothing was sent."""
        self.budget -= 1
        try:
            await self._clock.sleep(delay)
        except BaseException:
            self.budget += 1
            raise
        self.retries += 1
        if (count := on_retry.get()) is not None:
            count()

    def _finish(self, request: Request, outcome: Response | _Failure, attempts: int) -> Response:
        """Return or raise the last outcome with the number of attempts."""
        if not isinstance(outcome, Response):
            outcome.attempts = attempts
            raise outcome
        if _is_final(request, outcome):
            self._refill()
        return attrs.evolve(outcome, attempts=attempts) if attempts > 1 else outcome

    def _refill(self) -> None:
        """Return one retry to the budget after a success."""
        if self.budget < self._policy.budget:
            self.budget += 1


def _is_final(request: Request, response: Response) -> bool:
    """Return whether to accept a response: no temporary failure, and no success with a broken body."""
    status = response.status
    if not 200 <= status < 300:  # noqa: PLR2004 - HTTP's own numbers
        return status not in _TEMPORARY and not _is_from_proxy(response)
    # Each success of Batch's has a JSON object as its body (BATCH_API.md, "Bodies"). A proxy's page or half a
    # response has not.
    body = response.body if response.body[-1:] == b"}" else response.body.strip()
    body = body.removeprefix(codecs.BOM_UTF8) if body[:1] != b"{" else body
    return (body[:1] == b"{" and body[-1:] == b"}") or (request.allows_empty and not body)


def _most_attempts(policy: RetryPolicy, outcome: Response | _Failure) -> int:
    """Return the number of attempts at most, given the last outcome."""
    if isinstance(outcome, Response) and _is_from_proxy(outcome):
        return min(policy.attempts, _PROXY_ATTEMPTS)
    return policy.attempts


def _is_from_proxy(response: Response) -> bool:
    """Return whether a 4xx is not Batch's, as while an ingress does not know its routes.

    A proxy that accepts no body of this size will not accept it later either.
    """
    return 400 <= response.status < 500 and response.status != _TOO_LARGE and is_foreign(response)  # noqa: PLR2004 - HTTP's own numbers


def _may_have_effect(outcome: Response | _Failure) -> bool:
    """Return whether the request of an attempt may have taken effect."""
    if isinstance(outcome, Response):
        return outcome.status not in _WITHOUT_EFFECT
    return not isinstance(outcome, ConnectError)


def _may_repeat(request: Request, outcome: Response | _Failure) -> bool:
    """Return whether sending again can help and does no harm."""
    if isinstance(outcome, ConnectError):
        return not outcome.lasting
    if request.idempotent:
        return not (isinstance(outcome, Response) and _is_final(request, outcome))
    return isinstance(outcome, Response) and outcome.status in _WITHOUT_EFFECT
