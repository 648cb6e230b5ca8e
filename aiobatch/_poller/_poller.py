"""One scheduler for all tokens that a client waits for.

Waiters subscribe to a token and get a future; however many they are, the token is asked about once. What is
due when stands in one agenda, and one sleeper wakes for the earliest of it. Nothing runs while nobody waits.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from .._clock import Clock
from .._tasks import cancel_and_wait
from ..errors import AiobatchError, IndexingTimeoutError
from ..events import Event, TokenPolled, TokenSettled
from ..models import Audience, IndexingState, IndexingToken, Outcome
from ..options import PollingPolicy
from ._list_sweep import ListSweep
from ._poll_queue import UNPACED, Gate, Line, Pace
from ._poll_result import OddStates, judge, outcome_of
from ._rescheduler import Review
from ._schedule import LEAD, Timing
from ._sweep_scheduler import Sweeper
from ._timer_queue import Agenda
from ._token_wait import Births, Group, Pending, Waiter

_logger = logging.getLogger("aiobatch.poller")

# Seconds that the answer to the poll at the deadline may still take.
_GRACE = 0.03
# Seconds after which a token that turned out not to be due is looked at again at the soonest.
_RECHECK_STEP = 0.05


class Poller:
    """Waits for tokens.

    Args:
        view: Asks once about a token.
        sweep: Lists audiences with their states; None where the list has no states.
        policy: How often, how long.
        clock: Tells the time and sleeps.
        rng: The source of jitter.
        emit: Takes events; None when nobody listens.
        pace: The line in which polls stand with all other requests.
    """

    def __init__(  # noqa: PLR0913 - what it is made of, one by one
        self,
        *,
        view: Callable[[IndexingToken], Awaitable[Audience]],
        sweep: ListSweep | None,
        policy: PollingPolicy,
        clock: Clock,
        rng: random.Random,
        emit: Callable[[Event], None] | None = None,
        pace: Pace = UNPACED,
    ) -> None:
        self._view = view
        self._policy = policy
        self.now = clock.monotonic
        self._emit = emit
        self._timing = Timing(policy, rng)
        self._agenda = Agenda(clock, self._on_wake, self._spawn)
        self._births = Births()
        self._groups: dict[str, Group] = {}
        self._numbers = itertools.count()
        self._line = Line(self._timing.gain, Gate(policy, pace))
        self._polling: set[asyncio.Task[None]] = set()
        self._launch_due = -math.inf
        self._review = Review(self._timing, self._agenda, self._groups)
        self._sweeper: Sweeper | None = None
        if sweep is not None:
            self._sweeper = Sweeper(
                sweep, self._groups, self._timing, self._agenda, self._line, ask=self._ask_soon
            )
        self._odd_states = OddStates()
        self.polls = 0
        self.tokens = 0

    def note(self, token: IndexingToken, born: float | None = None) -> None:
        """Remember how old *token* is: issued just now, or at *born* on the clock."""
        self._births.note(token, self.now() if born is None else born)

    def subscribe(self, token: IndexingToken, timeout: float | None) -> asyncio.Future[Audience]:
        """Begin to wait for *token*; `leave` must follow.

        Args:
            token: What to wait for.
            timeout: Seconds; None for ever.

        Returns:
            A future that ends as `await_applied` says.
        """
        now = self.now()
        pending = self._find(token, now)
        deadline = None if timeout is None else now + timeout
        waiter = Waiter(asyncio.get_running_loop().create_future(), now, deadline, pending.polls)
        pending.waiters[waiter.future] = waiter
        self._plan_if_idle(pending)
        if deadline is not None:
            self._agenda.end_at(max(now, deadline - LEAD), pending, waiter)
        self._agenda.arm()
        return waiter.future

    async def leave(self, *subscriptions: tuple[IndexingToken, asyncio.Future[Audience]]) -> None:
        """End subscriptions; the last waiter of a token takes its polling along."""
        orphans = [task for token, future in subscriptions if (task := self._drop(token, future)) is not None]
        if self._groups:
            self._agenda.arm()
        else:
            orphans += self._stop()
        await cancel_and_wait(orphans)

    async def aclose(self) -> None:
        """End all waits."""
        msg = "the client was closed during the wait; the update goes on at Batch, wait again with the token"
        for pending in self._all_pending():
            self._finish(pending, AiobatchError(msg))
        await cancel_and_wait([*self._polling, *self._stop()])

    # -- tasks ----------------------------------------------------------------------------------------

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task whose failure is no secret."""
        task = asyncio.create_task(coroutine)
        task.add_done_callback(self._on_task_end)
        return task

    def _on_task_end(self, task: asyncio.Task[None]) -> None:
        """End every wait when one of our own steps failed: an error is better than a wait that hangs."""
        try:
            if task in self._polling:
                self._polling.discard(task)  # it was cancelled before it began
                self._launch()
                self._agenda.arm()
            if not task.cancelled():
                task.result()
        except Exception as error:
            _logger.exception("a defect in the poller ended all waits")
            for pending in self._all_pending():
                pending.end(error)
            self._groups.clear()
            for left in [*self._polling, *self._stop()]:
                left.cancel()

    def _stop(self) -> list[asyncio.Task[None]]:
        """Forget what was planned; return the tasks of the sleeper and the sweep."""
        self._line.clear()
        self._launch_due = -math.inf
        self._review.stop()
        return self._agenda.clear() + (self._sweeper.stop() if self._sweeper else [])

    def _all_pending(self) -> list[Pending]:
        """Return all tokens that somebody waits for."""
        return [pending for group in self._groups.values() for pending in group.members.values()]

    # -- subscriptions --------------------------------------------------------------------------------

    def _find(self, token: IndexingToken, now: float) -> Pending:
        """Return what is known about *token*, newly made if nothing is."""
        group = self._groups.setdefault(token.audience, Group())
        pending = group.members.get(token)
        if pending is None:
            born = self._births.take(token)
            pending = Pending(
                token=token,
                number=next(self._numbers),
                born=now if born is None else born,
                known_age=born is not None,
                wobble=self._timing.wobble(),
            )
            group.add(pending)
            group.advance()
            self.tokens += 1
        return pending

    def _drop(self, token: IndexingToken, future: asyncio.Future[Audience]) -> asyncio.Task[None] | None:
        """Forget one waiter; return the poll that nobody needs any more."""
        if not future.cancel() and not future.cancelled():
            future.exception()  # marks it as seen, whether or not somebody looked
        group = self._groups.get(token.audience)
        pending = group.members.get(token) if group else None
        if pending is None or pending.waiters.pop(future, None) is None or pending.waiters:
            return None
        self._forget(pending)
        return pending.task

    def _forget(self, pending: Pending) -> None:
        """Take *pending* out, but for its age: somebody may resume the wait."""
        if pending.known_age:
            self.note(pending.token, pending.born)
        self._remove(pending)

    def _remove(self, pending: Pending) -> None:
        """Take *pending* out and let the next of its audience be asked about."""
        pending.check, pending.queued = None, False
        group = self._groups[pending.token.audience]
        group.remove(pending)
        for other in group.advance():
            self._plan_if_idle(other)
        if not group.members:
            del self._groups[pending.token.audience]

    def _is_active(self, pending: Pending) -> bool:
        """Tell whether *pending* is one of its audience's that may be asked about."""
        group = self._groups.get(pending.token.audience)
        return group is not None and group.active.get(pending.number) is pending

    # -- when to ask ----------------------------------------------------------------------------------

    def _on_wake(self) -> None:
        """Handle what is due."""
        now = self.now()
        for pending, waiter in self._agenda.due(now):
            if waiter is not None:
                self._on_deadline(pending, waiter)
            else:
                self._consider(pending, now)
        self._review.make_if_due(now)
        self._launch()
        if self._sweeper is not None:
            self._sweeper.start_if_due(now)
        self._agenda.arm()

    def _plan_if_idle(self, pending: Pending) -> None:
        """Plan when to look at *pending* if it may be asked about and nothing is planned or under way."""
        if pending.is_idle and self._is_active(pending):
            self._agenda.look_at(self._timing.due(pending), pending)

    def _consider(self, pending: Pending, now: float) -> None:
        """Ask about *pending* if it is due by what has been learned since it was planned."""
        if not self._is_active(pending):
            return  # it was sent back into its audience's line, and is planned when its turn comes
        if self._sweeper is not None and self._sweeper.take_over(pending, now):
            return
        if self._timing.is_due(pending, now):
            self._enqueue(pending)
        else:
            self._agenda.look_at(max(now + _RECHECK_STEP, self._timing.due(pending)), pending)

    def _enqueue(self, pending: Pending) -> None:
        """Let *pending* be asked about as soon as a poll may leave, unless one is under way."""
        if not pending.queued and pending.task is None:
            pending.check = None
            self._line.put(pending)

    def _ask_soon(self, hinted: list[Pending]) -> None:
        """Let those be asked about to whom something has happened, by the list."""
        for pending in hinted:
            self._enqueue(pending)
        self._launch()

    def _on_deadline(self, pending: Pending, waiter: Waiter) -> None:
        """Ask once more at the deadline, ahead of all others; end the wait when that brought nothing."""
        if waiter.last_asked:
            self._expire(pending, waiter)
            return
        assert waiter.deadline is not None  # noqa: S101 - only such waiters enter the agenda
        leaves = waiter.deadline - self._timing.lead(limited=self._line.gate.limit is not None)
        if leaves > self.now():
            self._agenda.end_at(leaves, pending, waiter)
            return
        waiter.last_asked = True
        self._agenda.end_at(waiter.deadline + _GRACE, pending, waiter)
        if pending.task is None:
            pending.urgent = True
            self._line.put_first(pending)

    def _expire(self, pending: Pending, waiter: Waiter) -> None:
        """End a wait whose deadline has passed."""
        waiter.future.set_exception(
            IndexingTimeoutError(
                token=str(pending.token),
                audience=pending.token.audience,
                last_state=pending.last_state or pending.last_failure,
                polls=pending.polls - waiter.polls_before,
                waited=self.now() - waiter.started,
            )
        )
        self._tell_settled(pending, Outcome.TIMED_OUT)

    # -- asking ---------------------------------------------------------------------------------------

    def _launch(self) -> None:
        """Send polls, as many as may leave now."""
        now, gate = self.now(), self._line.gate
        while (first := self._line.first) is not None:
            delay = gate.delay(now, len(self._polling), urgent=first.is_ending)
            if delay > 0:
                self._launch_at(now + delay)
                return
            if gate.limit is not None:
                self._line.sort(now)
            pending = self._line.pop()
            if not pending.is_awaited:
                # All its waiters' time is up; what waits behind it must not depend on their leaving.
                self._forget(pending)
            elif not self._timing.is_due(pending, now):
                self._plan_if_idle(pending)  # others' answers taught better while it stood in line
            else:
                gate.take(now)
                pending.task = self._spawn(self._poll(pending))
                self._polling.add(pending.task)

    def _launch_at(self, when: float) -> None:
        """Look again at *when*, unless that is planned; at infinity when a poll ends, which needs no plan."""
        if when < math.inf and self._launch_due <= self.now():
            self._launch_due = when
            self._agenda.wake_at(when)

    async def _poll(self, pending: Pending) -> None:
        """Ask once about *pending*; whatever is raised on the way ends its waits."""
        task = pending.task
        try:
            await self._ask(pending)
        except Exception as error:
            # A defect must end the wait, not hang it.
            if not self._finish(pending, error):
                _logger.exception("a poll failed when nobody waited for it any more")
        finally:
            self._polling.discard(task)
            pending.task, pending.urgent = None, False
            self._plan_if_idle(pending)
            self._launch()
            self._agenda.arm()

    async def _ask(self, pending: Pending) -> None:
        """Ask and act on the answer, unless all waiters have left meanwhile."""
        started = self.now()
        pending.polls += 1
        self.polls += 1
        try:
            audience = await self._view(pending.token)
        except AiobatchError as error:
            if pending.is_awaited:
                self._act(pending, error)
        else:
            self._timing.took(self.now() - started)
            if pending.is_awaited:
                self._act(pending, audience)

    def _act(self, pending: Pending, answer: Audience | AiobatchError) -> None:
        """Act on an answer."""
        state, error = None, None
        if isinstance(answer, Audience):
            state = answer.indexing_state
        else:
            error = type(answer).__name__
        self._tell_polled(pending, state, error)
        now = self.now()
        if state is not None:
            self._odd_states.note(state)
            self._timing.looked(pending, now, applied=state is IndexingState.APPLIED)
            self._review.announce(now)
        verdict = judge(pending.token, answer)
        if verdict.end is not None:
            if state is IndexingState.APPLIED:
                self._groups[pending.token.audience].widen()
            self._finish(pending, verdict.end)
        elif verdict.pending is not None:
            self._still_pending(pending, verdict.pending, now)
        else:
            self._timing.failed(pending, now, verdict.failure)

    def _still_pending(self, pending: Pending, state: str, now: float) -> None:
        """Note that *pending* was asked about and is pending."""
        if pending.hinted:
            pending.listed = False  # the list had called it done
        pending.last_state = state
        self._timing.saw_pending(pending, now)
        pending.viewed = pending.seen
        self._groups[pending.token.audience].narrow()

    # -- endings --------------------------------------------------------------------------------------

    def _finish(self, pending: Pending, end: Audience | Exception) -> bool:
        """End all waits for *pending*; tell whether there was any."""
        if not pending.end(end):
            return False
        self._remove(pending)
        self._tell_settled(pending, outcome_of(end))
        return True

    def _tell_polled(self, pending: Pending, state: IndexingState | None, error: str | None) -> None:
        """Tell that a poll was answered."""
        if self._emit is not None:
            name = pending.token.audience
            self._emit(TokenPolled(audience=name, state=state, error=error, polls=pending.polls))

    def _tell_settled(self, pending: Pending, outcome: Outcome) -> None:
        """Tell that a wait ended."""
        if self._emit is not None:
            name, seconds = pending.token.audience, self.now() - pending.born
            self._emit(TokenSettled(audience=name, outcome=outcome, polls=pending.polls, seconds=seconds))
