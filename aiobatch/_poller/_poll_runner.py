"""The runner of polls: it sends the polls that are due and handles their answers."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable

from ..errors import AiobatchError
from ..events import Event, TokenPolled
from ..models import Audience, IndexingState, IndexingToken
from ._poll_queue import PollQueue
from ._poll_result import FailureLog, UnknownStateLog, interpret
from ._rescheduler import Rescheduler
from ._subscriptions import Subscriptions
from ._token_wait import TokenWait

_logger = logging.getLogger("aiobatch.poller")


class PollRunner:
    """Sends queued polls as fast as the limiter allows, and acts on each answer.

    Args:
        view: Fetches the state of a token once.
        subscriptions: The tokens that have waiters.
        queue: The tokens that are due.
        rescheduler: Runs after an answer taught something.
        emit: Takes events. None for no events.
    """

    def __init__(
        self,
        view: Callable[[IndexingToken], Awaitable[Audience]],
        subscriptions: Subscriptions,
        queue: PollQueue,
        rescheduler: Rescheduler,
        emit: Callable[[Event], None] | None,
    ) -> None:
        self.polls = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self._view = view
        self._subscriptions = subscriptions
        self._schedule = subscriptions.schedule
        self._timers = subscriptions.timers
        self._queue = queue
        self._rescheduler = rescheduler
        self._emit = emit
        self._unknown_states = UnknownStateLog()
        self._failures = FailureLog()
        self._next_start = -math.inf

    def enqueue(self, wait: TokenWait) -> None:
        """Queue *wait* unless it is queued or being polled."""
        if not wait.queued and wait.task is None:
            wait.timer = None
            self._queue.append(wait)

    def start(self) -> None:
        """Start as many queued polls as may leave now."""
        now, limiter = self._timers.now(), self._queue.limiter
        while (first := self._queue.first) is not None:
            delay = limiter.delay(now, len(self.tasks), urgent=first.is_at_deadline)
            if delay > 0:
                self._start_at(now + delay)
                return
            if limiter.limit is not None:
                self._queue.sort(now)
            wait = self._queue.pop()
            if not wait.is_awaited:
                # All its waiters have timed out. The tokens behind it must not wait until they unsubscribe.
                self._subscriptions.forget(wait)
            elif not self._schedule.is_due(wait, now):
                # While it was queued, other answers taught a later time.
                self._subscriptions.schedule_if_idle(wait)
            else:
                limiter.take(now)
                wait.task = self._timers.spawn(self._poll(wait))
                self.tasks.add(wait.task)

    def _start_at(self, when: float) -> None:
        """Wake at *when*, unless that is scheduled. At infinity the end of a poll starts the next one."""
        if when < math.inf and self._next_start <= self._timers.now():
            self._next_start = when
            self._timers.wake_at(when)

    def reset(self) -> None:
        """Empty the queue, and forget when polls may leave, because the timer queue was cleared."""
        self._queue.clear()
        self._next_start = -math.inf

    def remove_unstarted(self, task: asyncio.Task[None]) -> None:
        """Free the slot of a poll whose task was cancelled before its first step."""
        if task in self.tasks:
            self.tasks.discard(task)
            self.start()
            self._timers.arm()

    async def _poll(self, wait: TokenWait) -> None:
        """Poll *wait* once. Any exception ends its waits."""
        task = wait.task
        try:
            await self._request_state(wait)
        except Exception as error:
            # A bug must end the wait instead of letting it hang.
            if not self._subscriptions.finish(wait, error):
                fields = {"wait_id": wait.number, "polls": wait.polls}
                text = "poll failed after its wait ended: wait_id=%(wait_id)d polls=%(polls)d"
                _logger.exception(text, fields, extra=fields)
        finally:
            self.tasks.discard(task)
            wait.task, wait.urgent = None, False
            self._subscriptions.schedule_if_idle(wait)
            self.start()
            self._timers.arm()

    async def _request_state(self, wait: TokenWait) -> None:
        """Fetch the state and act on the answer, unless all waiters have left in the meantime."""
        started = self._timers.now()
        wait.polls += 1
        self.polls += 1
        try:
            audience = await self._view(wait.token)
        except AiobatchError as error:
            if wait.is_awaited:
                self._handle(wait, error)
        else:
            self._schedule.record_round_trip(self._timers.now() - started)
            if wait.is_awaited:
                self._handle(wait, audience)

    def _handle(self, wait: TokenWait, answer: Audience | AiobatchError) -> None:
        """Learn from an answer, then end the wait or note that it continues."""
        state = answer.indexing_state if isinstance(answer, Audience) else None
        if self._emit is not None:
            error = None if isinstance(answer, Audience) else type(answer).__name__
            self._emit(
                TokenPolled(
                    wait_id=wait.number,
                    audience=wait.token.audience,
                    state=state,
                    error=error,
                    polls=wait.polls,
                )
            )
        now = self._timers.now()
        if state is not None:
            self._subscriptions.being_created.discard(wait.token.audience)
            self._unknown_states.check(state)
            self._schedule.record_state(wait, now, applied=state is IndexingState.APPLIED)
            self._rescheduler.request(now)
        is_being_created = wait.token.audience in self._subscriptions.being_created
        result = interpret(wait.token, answer, is_being_created=is_being_created)
        lasting = answer if isinstance(answer, AiobatchError) and answer is result.final else None
        if (failure := result.failure or lasting) is not None:
            self._failures.record_failure(wait, failure)
        if result.failure is not None:
            self._schedule.record_failure(wait, now, result.failure)
            return
        if wait.failures:
            self._failures.record_recovery()
        if result.final is not None:
            if state is IndexingState.APPLIED:
                self._subscriptions.audiences[wait.token.audience].widen()
            self._subscriptions.finish(wait, result.final)
        else:
            self._record_pending(wait, result.pending_state or "", now)

    def _record_pending(self, wait: TokenWait, state: str, now: float) -> None:
        if wait.probably_done:
            # The list showed another update's state, so it no longer covers this token.
            wait.covered_by_list = False
        wait.last_state = state
        self._schedule.record_pending(wait, now)
        wait.viewed_age = wait.pending_age
        self._subscriptions.audiences[wait.token.audience].narrow()
