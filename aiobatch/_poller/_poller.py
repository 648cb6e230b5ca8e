"""The poller: one scheduler for all tokens that a client waits for.

Waiters subscribe to a token and get a future. A token is polled once for all of its waiters. One timer queue
holds what is due when, and one task sleeps until its earliest entry. Without waiters no task runs.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from .._tasks import cancel_and_wait
from ..errors import AiobatchError, WaitInterruptedError
from ..events import Event
from ..interfaces import Clock
from ..models import Audience, IndexingState, IndexingToken
from ..options import PollingPolicy
from ._list_sweep import ListSweep, SweepScheduler
from ._poll_queue import UNLIMITED, PollLimiter, PollQueue, RequestQueue
from ._poll_result import interpret
from ._poll_runner import PollRunner
from ._rescheduler import Rescheduler
from ._schedule import PollSchedule
from ._subscriptions import Subscriptions
from ._timer_queue import TimerQueue
from ._token_wait import Issue, TokenWait, Waiter

_logger = logging.getLogger("aiobatch.poller")

# Seconds that the answer to the poll at the deadline may be late.
_GRACE = 0.03
# Seconds at least until a token that turned out not to be due is checked again.
_RECHECK_STEP = 0.05


class Poller:
    """Waits for tokens.

    Args:
        view: Fetches the state of a token once.
        sweep: Lists audiences with their states. None if the API's list has no states.
        policy: How often and how fast to poll.
        clock: The clock to sleep by.
        rng: The source of jitter.
        emit: Takes events. None for no events.
        request_queue: The queue that polls share with all other requests of the client.
    """

    def __init__(  # noqa: PLR0913 - each one is a part of it
        self,
        *,
        view: Callable[[IndexingToken], Awaitable[Audience]],
        sweep: ListSweep | None,
        policy: PollingPolicy,
        clock: Clock,
        rng: random.Random,
        emit: Callable[[Event], None] | None = None,
        request_queue: RequestQueue = UNLIMITED,
    ) -> None:
        self.now = clock.monotonic
        self._context = contextvars.copy_context()
        self._view = view
        self._is_draining = False
        self._schedule = PollSchedule(policy, rng)
        self._timers = TimerQueue(clock, self._on_due, self._spawn)
        self._subscriptions = Subscriptions(self._schedule, self._timers, emit)
        self._queue = PollQueue(self._schedule.priority, PollLimiter(policy, request_queue))
        self._rescheduler = Rescheduler(self._subscriptions)
        self._runner = PollRunner(view, self._subscriptions, self._queue, self._rescheduler, emit)
        self._sweeps: SweepScheduler | None = None
        if sweep is not None:
            self._sweeps = SweepScheduler(sweep, self._subscriptions, self._queue, self._runner)

    @property
    def polls(self) -> int:
        """Polls sent so far."""
        return self._runner.polls

    @property
    def tokens(self) -> int:
        """Tokens that had a waiter so far."""
        return self._subscriptions.tokens

    def bind_context(self) -> None:
        """Run all tasks in a copy of the current context from now on."""
        self._context = contextvars.copy_context()

    def record_issued(
        self, token: IndexingToken, issued_at: float | None = None, *, request_id: int | None = None
    ) -> None:
        """Record when *token* was issued: now, or at *issued_at* on the clock.

        Args:
            token: The token.
            issued_at: The time. None for now.
            request_id: The number of the write that it was issued for, for events.
        """
        issue = Issue(self.now() if issued_at is None else issued_at, request_id)
        self._subscriptions.issue_times.record(token, issue)
        self._subscriptions.being_created.record(token)

    def subscribe(self, token: IndexingToken, timeout: float | None) -> asyncio.Future[Audience]:
        """Start to wait for *token*. The caller must call `unsubscribe` in the end.

        Args:
            token: The token to wait for.
            timeout: Seconds. None means no limit.

        Returns:
            A future with the result or the error of `await_applied`.
        """
        if self._is_draining:
            rejected: asyncio.Future[Audience] = asyncio.get_running_loop().create_future()
            rejected.set_exception(_interrupted(token, None))
            return rejected
        future = self._subscriptions.add(token, timeout)
        self._timers.arm()
        return future

    async def unsubscribe(self, *subscriptions: tuple[IndexingToken, asyncio.Future[Audience]]) -> None:
        """End subscriptions. Polling of a token ends with its last one."""
        orphans = [
            task
            for token, future in subscriptions
            if (task := self._subscriptions.discard(token, future)) is not None
        ]
        if self._subscriptions.audiences:
            self._timers.arm()
        else:
            orphans += self._stop()
        await cancel_and_wait(orphans)

    async def check(self, token: IndexingToken) -> IndexingState:
        """Ask for the state of *token* once, and return it.

        Raises:
            AiobatchError: The answer has no state.
        """
        answer: Audience | AiobatchError
        try:
            answer = await self._view(token)
        except AiobatchError as error:
            answer = error
        is_being_created = token.audience in self._subscriptions.being_created
        result = interpret(token, answer, is_being_created=is_being_created)
        if isinstance(answer, Audience) and answer.indexing_state is not None:
            return answer.indexing_state
        if result.pending_state is not None:
            return IndexingState.IN_PROGRESS
        if isinstance(result.final, Audience):  # 404 for the token of a delete
            return IndexingState.APPLIED
        try:
            raise (result.final or result.failure)  # type: ignore[misc]  # the other results were returned
        finally:
            del answer, result  # the traceback holds this frame

    async def aclose(self) -> None:
        """End all waits."""
        await self.drain(0)

    async def drain(self, timeout: float | None) -> None:
        """End all waits: those that are open after *timeout* seconds, and new ones at once."""
        self._is_draining = True
        waits = self._subscriptions.all_waits()
        futures = [future for wait in waits for future in wait.waiters if not future.done()]
        if futures and timeout != 0:
            tasks: list[asyncio.Task[Any]] = [asyncio.create_task(asyncio.wait(futures))]
            if timeout is not None:
                tasks.append(asyncio.create_task(self._timers.sleep(timeout)))
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await cancel_and_wait(tasks)
        for wait in self._subscriptions.all_waits():
            self._subscriptions.finish(wait, _interrupted(wait.token, wait.last_state))
        await cancel_and_wait([*self._runner.tasks, *self._stop()])

    # -- tasks ----------------------------------------------------------------------------------------

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task that ends all waits if it fails.

        It runs in the context that opened the client, because it serves all waiters. The context of the one
        that happens to start it would put that waiter's span and request ID on the polls of others, and keep
        its objects alive. It is created without the loop's factory, because an eager task would poll before
        its token knows of it.
        """
        loop = asyncio.get_running_loop()
        task: asyncio.Task[None] = asyncio.Task(coroutine, loop=loop, context=self._context.copy())
        task.add_done_callback(self._on_task_end, context=self._context)
        return task

    def _on_task_end(self, task: asyncio.Task[None]) -> None:
        """End all waits if a step of the poller itself failed: an error is better than a hanging wait."""
        try:
            self._runner.remove_unstarted(task)
            if not task.cancelled():
                task.result()
        except Exception as error:
            tokens = len(self._subscriptions.all_waits())
            text = "internal error in the poller ended all waits: tokens=%d"
            _logger.exception(text, tokens, extra={"tokens": tokens})
            self._subscriptions.abort(error)
            for left in [*self._runner.tasks, *self._stop()]:
                left.cancel()

    def _stop(self) -> list[asyncio.Task[None]]:
        """Clear everything that is scheduled. Return the tasks of the timer and of the sweep."""
        self._runner.reset()
        self._rescheduler.reset()
        return self._timers.clear() + (self._sweeps.stop() if self._sweeps else [])

    # -- what is due ----------------------------------------------------------------------------------

    def _on_due(self) -> None:
        """Handle the entries of the timer queue that are due."""
        now = self.now()
        for wait, waiter in self._timers.pop_due(now):
            if waiter is not None:
                self._on_deadline(wait, waiter)
            else:
                self._enqueue_if_due(wait, now)
        self._rescheduler.run_if_due(now)
        self._runner.start()
        if self._sweeps is not None:
            self._sweeps.start_if_due(now)
        self._timers.arm()

    def _enqueue_if_due(self, wait: TokenWait, now: float) -> None:
        """Queue a poll of *wait* if it is still due after what was learned since it was scheduled."""
        if not self._subscriptions.is_active(wait):
            return  # its audience was narrowed, and activating it again schedules it
        if self._sweeps is not None and self._sweeps.cover_by_sweep(wait, now):
            return
        if self._schedule.is_due(wait, now):
            self._runner.enqueue(wait)
        else:
            self._timers.schedule(max(now + _RECHECK_STEP, self._schedule.due(wait)), wait)

    def _on_deadline(self, wait: TokenWait, waiter: Waiter) -> None:
        """Send one last poll ahead of all others. End the wait if that has brought no final state."""
        if waiter.final_poll_requested:
            self._subscriptions.time_out(wait, waiter)
            return
        assert waiter.deadline is not None  # noqa: S101 - only such waiters have a deadline in the queue
        # The last poll leaves one round trip early, so that its answer arrives at the deadline.
        is_limited = self._queue.limiter.limit is not None
        leaves_at = waiter.deadline - self._schedule.deadline_lead(is_limited=is_limited)
        if leaves_at > self.now():
            self._timers.schedule_deadline(leaves_at, wait, waiter)
            return
        waiter.final_poll_requested = True
        self._timers.schedule_deadline(waiter.deadline + _GRACE, wait, waiter)
        if wait.task is None:
            wait.urgent = True
            self._queue.prepend(wait)


def _interrupted(token: IndexingToken, last_state: str | None) -> WaitInterruptedError:
    return WaitInterruptedError(token=str(token), audience=token.audience, last_state=last_state)
