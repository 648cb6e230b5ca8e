"""The registry of subscriptions: which tokens have waiters, and how their waits end."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import itertools
from collections.abc import Callable

from ..errors import IndexingTimeoutError
from ..events import Event, TokenSettled
from ..models import Audience, IndexingToken, Operation, Outcome
from ._poll_result import name_of, outcome_of
from ._schedule import MAX_DEADLINE_LEAD, PollSchedule
from ._timer_queue import TimerQueue
from ._token_wait import AudienceTokens, BeingCreated, Issue, IssueTimes, TokenWait, Waiter


class Subscriptions:
    """The tokens that have waiters, by audience. Each active one is scheduled, queued or in flight.

    Args:
        schedule: Decides when to poll a token.
        timers: Where polls and deadlines are scheduled.
        emit: Takes events. None for no events.
    """

    def __init__(
        self, schedule: PollSchedule, timers: TimerQueue, emit: Callable[[Event], None] | None
    ) -> None:
        self.schedule = schedule
        self.timers = timers
        self.audiences: dict[str, AudienceTokens] = {}
        self.issue_times = IssueTimes()
        self.being_created = BeingCreated()
        self.tokens = 0
        self._emit = emit
        self._numbers = itertools.count(1)

    def add(self, token: IndexingToken, timeout: float | None) -> asyncio.Future[Audience]:
        """Add a waiter for *token* and return its future."""
        now = self.timers.now()
        wait = self._find_or_add(token, now)
        deadline = None if timeout is None else now + timeout
        waiter = Waiter(asyncio.get_running_loop().create_future(), now, deadline, wait.polls)
        wait.waiters[waiter.future] = waiter
        self.schedule_if_idle(wait)
        if deadline is not None:
            self.timers.schedule_deadline(max(now, deadline - MAX_DEADLINE_LEAD), wait, waiter)
        return waiter.future

    def _find_or_add(self, token: IndexingToken, now: float) -> TokenWait:
        tokens = self.audiences.setdefault(token.audience, AudienceTokens())
        wait = tokens.waits.get(token)
        if wait is None:
            issue = self.issue_times.pop(token)
            if token.operation is Operation.CREATE:
                self.being_created.record(token)
            wait = TokenWait(
                token=token,
                number=next(self._numbers),
                issued_at=now if issue is None else issue.at,
                is_age_known=issue is not None,
                jitter_factor=self.schedule.draw_jitter_factor(),
                request_id=None if issue is None else issue.request_id,
            )
            tokens.add(wait)
            tokens.activate()
            self.tokens += 1
        return wait

    def discard(self, token: IndexingToken, future: asyncio.Future[Audience]) -> asyncio.Task[None] | None:
        """Remove one waiter. Return the poll in flight if no waiter of *token* is left."""
        if not future.cancel() and not future.cancelled():
            future.exception()  # marks it as retrieved, whether or not the caller looked at it
        tokens = self.audiences.get(token.audience)
        wait = tokens.waits.get(token) if tokens else None
        waiter = None if wait is None else wait.waiters.pop(future, None)
        if wait is None or waiter is None:
            return None
        waiter.release()
        if wait.waiters:
            return None
        self.forget(wait)
        return wait.task

    def forget(self, wait: TokenWait) -> None:
        """Remove *wait* but keep its issue time, because the caller may resume it."""
        if wait.is_age_known:
            self.issue_times.record(wait.token, Issue(wait.issued_at, wait.request_id))
        self._remove(wait)

    def _remove(self, wait: TokenWait) -> None:
        wait.timer, wait.queued = None, False
        tokens = self.audiences[wait.token.audience]
        tokens.remove(wait)
        for activated in tokens.activate():
            self.schedule_if_idle(activated)
        if not tokens.waits:
            del self.audiences[wait.token.audience]

    def is_active(self, wait: TokenWait) -> bool:
        """Return whether *wait* may be polled: it is registered, and its turn in its audience has come."""
        tokens = self.audiences.get(wait.token.audience)
        return tokens is not None and tokens.active.get(wait.number) is wait

    def schedule_if_idle(self, wait: TokenWait) -> None:
        """Schedule a poll of *wait* if it may be polled and none is scheduled, queued or in flight."""
        if wait.is_idle and self.is_active(wait):
            self.timers.schedule(self.schedule.due(wait), wait)

    def finish(self, wait: TokenWait, result: Audience | Exception) -> bool:
        """End all waits for the token with *result*. Return whether there was any."""
        contexts = [waiter.context for waiter in wait.waiters.values() if not waiter.is_done]
        if not wait.resolve(result):
            return False
        self._remove(wait)
        self._emit_settled(wait, outcome_of(result), *contexts)
        return True

    def time_out(self, wait: TokenWait, waiter: Waiter) -> None:
        """End a wait whose deadline has passed."""
        failure = wait.last_failure if wait.failures else None
        error = IndexingTimeoutError(
            token=str(wait.token),
            audience=wait.token.audience,
            last_state=wait.last_state or (None if failure is None else name_of(failure)),
            last_failure=None if failure is None else str(failure),
            polls=wait.polls - waiter.polls_before,
            waited=self.timers.now() - waiter.started,
        )
        error.__cause__ = copy.copy(failure)  # raising it adds a traceback
        waiter.future.set_exception(error)
        self._emit_settled(wait, Outcome.TIMED_OUT, waiter.context)

    def all_waits(self) -> list[TokenWait]:
        """Return all tokens that have waiters."""
        return [wait for tokens in self.audiences.values() for wait in tokens.waits.values()]

    def abort(self, error: Exception) -> None:
        """End all waits with *error*, without events: the hook that takes them may be what failed."""
        for wait in self.all_waits():
            wait.resolve(error)
        self.audiences.clear()

    def _emit_settled(self, wait: TokenWait, outcome: Outcome, *contexts: contextvars.Context) -> None:
        """Emit the event once for each waiter, in the context of that waiter."""
        if self._emit is None:
            return
        settled = TokenSettled(
            wait_id=wait.number,
            audience=wait.token.audience,
            outcome=outcome,
            polls=wait.polls,
            seconds=self.timers.now() - wait.issued_at,
            request_id=wait.request_id,
        )
        for context in contexts:
            context.run(self._emit, settled)
