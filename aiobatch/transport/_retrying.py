"""Retrying: a transport around a transport that sends again what failed for a passing reason."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from contextvars import ContextVar

import attrs

from .._backoff import jittered_delays
from .._clock import Clock
from .._http import Request, Response, read_retry_after
from ..errors import ConnectError, MalformedResponseError, TransportError
from ..events import RetryScheduled
from ..options import RetryPolicy
from ._base import Emit, Transport

__all__ = ["RetryingTransport", "on_retry"]

_logger = logging.getLogger("aiobatch.retrying")

_PASSING = frozenset({408, 429, 500, 502, 503, 504})
# Answers that say that the request was not looked at.
_WITHOUT_EFFECT = frozenset({429, 503})

_Failure = TransportError | MalformedResponseError

# Called for each retry of what is asked in this context: a client may be shared by many who count their own.
on_retry: ContextVar[Callable[[], None] | None] = ContextVar("on_retry", default=None)


class RetryingTransport:
    """Sends again what failed for a passing reason, within the bounds of a policy.

    A request that is not idempotent is repeated only when it surely had no effect.

    Args:
        inner: What sends, once for each attempt.
        policy: How often, how long and how soon.
        clock: The clock to sleep by.
        rng: The source of jitter.
        emit: Where events go; None for nowhere.
    """

    def __init__(
        self,
        inner: Transport,
        *,
        policy: RetryPolicy,
        clock: Clock,
        rng: random.Random,
        emit: Emit | None = None,
    ) -> None:
        self._inner = inner
        self._policy = policy
        self._clock = clock
        self._rng = rng
        self._emit = emit
        self._budget = policy.budget
        self._retries = 0

    @property
    def retries(self) -> int:
        """Requests that repeated a failed one."""
        return self._retries

    @property
    def budget(self) -> int:
        """Retries that are left to all requests together."""
        return self._budget

    async def send(self, request: Request) -> Response:
        """Send *request*, again if need be, and return the last answer.

        Raises:
            TransportError: The last attempt brought no readable answer; `attempts` counts them.
            MalformedResponseError: The last attempt brought an answer that cannot be read.
        """
        outcome = await self._attempt(request)
        if isinstance(outcome, Response) and _is_sound(outcome):
            self._refill()
            return outcome
        return await self._repeat(request, outcome)

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()

    async def _attempt(self, request: Request) -> Response | _Failure:
        """Send once; a failure is returned, so that it can be weighed like an answer."""
        try:
            return await self._inner.send(request)
        except (TransportError, MalformedResponseError) as error:
            return error

    async def _repeat(self, request: Request, outcome: Response | _Failure) -> Response:
        """Send again until the outcome stands or a bound is reached."""
        policy = self._policy
        attempts = 1
        last_start = self._clock.monotonic() + policy.timeout
        delays = jittered_delays(policy.initial, policy.maximum, self._rng)
        try:
            while _may_repeat(request, outcome) and attempts < policy.attempts and self._budget > 0:
                delay = self._stretch(next(delays), outcome)
                if self._clock.monotonic() + delay > last_start:
                    break
                await self._rest(request, delay, attempts, outcome)
                attempts += 1
                outcome = await self._attempt(request)
            return self._conclude(outcome, attempts)
        finally:
            del outcome  # an error whose traceback holds this frame would live until the collector comes

    def _stretch(self, delay: float, outcome: Response | _Failure) -> float:
        """Return *delay*, or `Retry-After` where that is longer; infinity where it is too long to wait."""
        if not isinstance(outcome, Response):
            return delay
        wish = read_retry_after(outcome, self._clock.time())
        if wish is None:
            return delay
        return max(delay, wish) if wish <= self._policy.retry_after_max else math.inf

    async def _rest(
        self, request: Request, delay: float, attempts: int, outcome: Response | _Failure
    ) -> None:
        """Take a retry from the budget and sleep; whoever is cancelled meanwhile gives it back."""
        reason = str(outcome.status) if isinstance(outcome, Response) else type(outcome).__name__
        _logger.info("%s: attempt %d: %s; again in %.2f s", request.label, attempts, reason, delay)
        if self._emit is not None:
            self._emit(
                RetryScheduled(
                    operation=request.operation,
                    path=request.path,
                    attempt=attempts,
                    delay=delay,
                    reason=reason,
                )
            )
        self._budget -= 1
        try:
            await self._clock.sleep(delay)
        except BaseException:
            self._budget += 1
            raise
        self._retries += 1
        if (count := on_retry.get()) is not None:
            count()

    def _conclude(self, outcome: Response | _Failure, attempts: int) -> Response:
        """Return or raise the last outcome with the number of attempts."""
        if not isinstance(outcome, Response):
            outcome.attempts = attempts
            raise outcome
        if _is_sound(outcome):
            self._refill()
        return attrs.evolve(outcome, attempts=attempts) if attempts > 1 else outcome

    def _refill(self) -> None:
        """Give one retry back for a success."""
        if self._budget < self._policy.budget:
            self._budget += 1


def _is_sound(response: Response) -> bool:
    """Tell whether an answer may stand: no passing failure, and no success with a broken body."""
    status = response.status
    if not 200 <= status < 300:  # noqa: PLR2004 - HTTP's own numbers
        return status not in _PASSING
    # Every success of Batch's is a JSON object (BATCH_API, "Bodies"); a proxy's page, half an answer is none.
    body = response.body if response.body[-1:] == b"}" else response.body.strip()
    return body[:1] == b"{" and body[-1:] == b"}"


def _may_repeat(request: Request, outcome: Response | _Failure) -> bool:
    """Tell whether sending again may help and does no harm."""
    if isinstance(outcome, ConnectError):
        return not outcome.lasting
    if request.idempotent:
        return not (isinstance(outcome, Response) and _is_sound(outcome))
    return isinstance(outcome, Response) and outcome.status in _WITHOUT_EFFECT
