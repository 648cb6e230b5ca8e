"""One scheduler for all tokens that a client waits for.

Waiters subscribe to a token and get a future; however many they are, the token is asked about once. What is
due when lies in one heap, and one sleeper wakes for the earliest of it. Nothing runs while nobody waits.
"""

from __future__ import annotations

import asyncio
import copy
import heapq
import itertools
import logging
import random
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterator

from .._backoff import LearnedSchedule, jittered_delays
from .._clock import Clock
from .._concurrent import reap
from ..errors import (
    AiobatchError,
    AudienceNotFoundError,
    IndexingTimeoutError,
    ResponseError,
    TokenReplacedError,
)
from ..events import Event, TokenPolled, TokenSettled
from ..models import Audience, IdType, IndexingState, IndexingToken, Operation, Outcome
from ..options import PollingPolicy
from ._sweep import ListSweep
from ._waits import Group, Pending, Waiter

_logger = logging.getLogger("aiobatch.poller")

_NEVER = float("inf")
# BATCH_API.md, "Errors": these say nothing about the token, so they never end a wait.
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
# Ages kept of tokens that nobody waits for yet: enough for an upload of a hundred million ids.
_BIRTHS = 10_000
# Seconds that the answer to the poll at the deadline may still take.
_GRACE = 0.03
# Seconds ahead of the deadline at most at which the last poll leaves, so that its answer is there in time.
_LEAD = 1.0
# A token that is not due is looked at again after this share of its age and at least so many seconds, so that
# what was learned meanwhile counts; never sooner than the step.
_RECHECK, _RECHECK_MINIMUM, _RECHECK_STEP = 0.1, 0.5, 0.05
# Entries handled before the host's own tasks get their turn.
_PER_TURN = 100
# Seconds after which a token is asked about by itself even though the list says IN_PROGRESS.
_LIST_TRUST = 30.0
# Seconds after it became known within which a look at a token of unknown age tells whether it was applied
# long ago.
_AT_ONCE = 0.5
# Tokens whose intervals stand for all when the next sweep is planned.
_SAMPLE = 16
# Seconds below which the first delay after a failed poll is drawn.
_FAILURE_INITIAL = 0.5


class Poller:
    """Waits for tokens.

    Args:
        view: Asks once about a token.
        sweep: Lists audiences with their states; None where the list has no states.
        policy: How often, how long.
        clock: Tells the time and sleeps.
        rng: The source of jitter.
        emit: Takes events; None when nobody listens.
    """

    def __init__(
        self,
        *,
        view: Callable[[IndexingToken], Awaitable[Audience]],
        sweep: ListSweep | None,
        policy: PollingPolicy,
        clock: Clock,
        rng: random.Random,
        emit: Callable[[Event], None] | None = None,
    ) -> None:
        self._view = view
        self._sweep = sweep
        self._policy = policy
        self._clock = clock
        self._rng = rng
        self._emit = emit
        self._schedule = LearnedSchedule(policy)
        self._births: OrderedDict[IndexingToken, float] = OrderedDict()
        self._groups: dict[str, Group] = {}
        # (when, number, whose, for which waiter): no waiter means "look at it", no token "just wake up".
        self._heap: list[tuple[float, int, Pending | None, Waiter | None]] = []
        self._prune_at = 1000
        self._order = itertools.count()
        self._ready: deque[Pending] = deque()
        self._polling: set[asyncio.Task[None]] = set()
        self._next_poll = self._launch_due = self._next_sweep = -_NEVER
        self._sweeping: asyncio.Task[None] | None = None
        self._timer: asyncio.Task[None] | None = None
        self._timer_due = _NEVER
        self._round_trip: float | None = None
        self._first_looks = self._first_looks_applied = 0
        self._odd_states: set[str] = set()
        self.polls = 0
        self.tokens = 0

    def note(self, token: IndexingToken, born: float | None = None) -> None:
        """Remember how old *token* is: issued just now, or at *born* on the clock."""
        self._births[token] = self._clock.monotonic() if born is None else born
        if len(self._births) > _BIRTHS:
            self._births.popitem(last=False)

    def subscribe(self, token: IndexingToken, timeout: float | None) -> asyncio.Future[Audience]:
        """Begin to wait for *token*; `leave` must follow.

        Args:
            token: What to wait for.
            timeout: Seconds; None for ever.

        Returns:
            A future that ends as `await_applied` says.
        """
        now = self._clock.monotonic()
        pending = self._find(token, now)
        deadline = None if timeout is None else now + timeout
        waiter = Waiter(asyncio.get_running_loop().create_future(), now, deadline, pending.polls)
        pending.waiters.append(waiter)
        self._plan_if_idle(pending, now)
        if deadline is not None:
            self._push(max(now, deadline - min(self._round_trip or 0.0, _LEAD)), pending, waiter)
        self._arm()
        return waiter.future

    async def leave(self, *subscriptions: tuple[IndexingToken, asyncio.Future[Audience]]) -> None:
        """End subscriptions; the last waiter of a token takes its polling along."""
        orphans = [task for token, future in subscriptions if (task := self._drop(token, future)) is not None]
        if self._groups:
            self._arm()
        else:
            orphans += self._idle()
        await reap(orphans)

    async def aclose(self) -> None:
        """End all waits."""
        msg = "the client was closed during the wait; the update goes on at Batch, wait again with the token"
        for pending in [pending for group in self._groups.values() for pending in group.members.values()]:
            self._finish(pending, AiobatchError(msg))
        await reap([*self._polling, *self._idle()])

    # -- subscriptions --------------------------------------------------------------------------------

    def _find(self, token: IndexingToken, now: float) -> Pending:
        """Return what is known about *token*, newly made if nothing is."""
        group = self._groups.setdefault(token.audience, Group())
        pending = group.members.get(token)
        if pending is None:
            born = self._births.pop(token, None)
            pending = Pending(
                token, now if born is None else born, born is not None, self._wobble(), self._failure_delays()
            )
            group.members[token] = pending
            self.tokens += 1
        return pending

    def _drop(self, token: IndexingToken, future: asyncio.Future[Audience]) -> asyncio.Task[None] | None:
        """Forget one waiter; return the poll that nobody needs any more."""
        if not future.cancel() and not future.cancelled():
            future.exception()  # marks it as seen, whether or not somebody looked
        group = self._groups.get(token.audience)
        pending = group.members.get(token) if group else None
        if pending is None:
            return None
        pending.waiters = [waiter for waiter in pending.waiters if waiter.future is not future]
        if pending.waiters:
            return None
        if pending.known_age:
            self.note(token, pending.born)  # somebody may resume the wait
        self._remove(pending)
        return pending.task

    def _remove(self, pending: Pending) -> None:
        """Take *pending* out and let the next of its audience be asked about."""
        pending.check = -1
        group = self._groups[pending.token.audience]
        del group.members[pending.token]
        if not group.members:
            del self._groups[pending.token.audience]
            return
        for other in group.active():
            self._plan_if_idle(other, self._clock.monotonic())

    def _idle(self) -> list[asyncio.Task[None]]:
        """Stop the sleeper and the sweep; return their tasks."""
        tasks = [task for task in (self._timer, self._sweeping) if task is not None]
        self._timer = self._sweeping = None
        self._timer_due = _NEVER
        self._heap.clear()
        self._ready.clear()
        return tasks

    # -- the heap and its sleeper ---------------------------------------------------------------------

    def _push(self, when: float, pending: Pending | None, waiter: Waiter | None = None) -> int:
        """Enter into the heap that something is due at *when*; return the entry's number."""
        number = next(self._order)
        heapq.heappush(self._heap, (when, number, pending, waiter))
        if len(self._heap) > self._prune_at:
            # Deadlines of waits that ended early, and checks that were superseded.
            self._heap = [entry for entry in self._heap if _is_live(*entry[1:]) or entry[1] == number]
            heapq.heapify(self._heap)
            self._prune_at = 1000 + 2 * len(self._heap)
        return number

    def _arm(self) -> None:
        """Make the sleeper wake for the earliest entry."""
        if not self._heap:
            return
        due = self._heap[0][0]
        if self._timer is not None:
            if due >= self._timer_due:
                return
            self._timer.cancel()
        self._timer_due = due
        self._timer = asyncio.create_task(self._wake(due - self._clock.monotonic()))

    async def _wake(self, seconds: float) -> None:
        """Sleep, then handle what is due."""
        await self._clock.sleep(max(0.0, seconds))
        self._timer = None
        self._timer_due = _NEVER
        now = self._clock.monotonic()
        for _ in range(_PER_TURN):
            if not self._heap or self._heap[0][0] > now:
                break
            _, number, pending, waiter = heapq.heappop(self._heap)
            if pending is None or not _is_live(number, pending, waiter):
                continue
            if waiter is not None:
                self._on_deadline(pending, waiter)
            else:
                self._consider(pending, now)
        self._launch()
        if self._sweep is not None and self._next_sweep <= now:
            self._start_sweep(self._sweep, now)
        self._arm()

    # -- when to ask ----------------------------------------------------------------------------------

    def _wobble(self) -> float:
        """Draw a factor for one interval."""
        return self._rng.uniform(1 - self._policy.jitter, 1 + self._policy.jitter)

    def _due(self, pending: Pending) -> float:
        """Return the time at which to ask about *pending*, by what is known now."""
        if pending.urgent:
            return -_NEVER
        if pending.hinted or pending.failures:
            return pending.not_before
        interval = (self._schedule.next_age(pending.seen) - pending.seen) * pending.wobble
        due = pending.born + pending.seen + interval
        if pending.is_first_look:
            # It may have been applied long ago: ask at once, unless such tokens turned out to be pending.
            likely = (self._first_looks_applied + 1) / (self._first_looks + 2)
            due = min(due, pending.born + self._policy.poll_cost * max(0.0, 1 / likely - 2))
        return due

    def _plan(self, pending: Pending, now: float, earliest: float = -_NEVER) -> None:
        """Enter into the heap when to look at *pending* again."""
        recheck = now + max(_RECHECK_MINIMUM, _RECHECK * (now - pending.born))
        pending.check = self._push(max(earliest, min(self._due(pending), recheck)), pending)

    def _plan_if_idle(self, pending: Pending, now: float) -> None:
        """Plan *pending* if it may be asked about and nothing is planned or under way."""
        group = self._groups.get(pending.token.audience)
        if group is not None and pending.is_idle and pending in group.active():
            self._plan(pending, now)

    def _consider(self, pending: Pending, now: float) -> None:
        """Ask about *pending* if it is due by what has been learned since it was planned."""
        pending.check = -1
        if pending not in self._groups[pending.token.audience].active():
            return  # the pilot was sent back; this one waits for it again
        if self._due(pending) > now:
            self._plan(pending, now, now + _RECHECK_STEP)
        elif self._sweep is not None and self._can_sweep(self._sweep, pending, now):
            self._sweep_for(self._sweep, pending, now)
        else:
            self._enqueue(pending)

    def _enqueue(self, pending: Pending) -> None:
        """Let *pending* be asked about as soon as a poll may leave."""
        if not pending.queued and pending.task is None:
            pending.check = -1
            pending.queued = True
            self._ready.append(pending)

    def _on_deadline(self, pending: Pending, waiter: Waiter) -> None:
        """Ask once more at the deadline, ahead of all others; end the wait when that brought nothing."""
        if waiter.last_asked:
            self._expire(pending, waiter)
            return
        waiter.last_asked = True
        assert waiter.deadline is not None  # noqa: S101 - only such waiters enter the heap
        self._push(waiter.deadline + _GRACE, pending, waiter)
        if pending.queued:
            self._ready.remove(pending)
        if pending.task is None:
            pending.urgent = pending.queued = True
            self._ready.appendleft(pending)

    def _expire(self, pending: Pending, waiter: Waiter) -> None:
        """End a wait whose deadline has passed."""
        waiter.future.set_exception(
            IndexingTimeoutError(
                token=str(pending.token),
                audience=pending.token.audience,
                last_state=pending.last_state or pending.last_failure,
                polls=pending.polls - waiter.polls_before,
                waited=self._clock.monotonic() - waiter.started,
            )
        )
        self._tell_settled(pending, Outcome.TIMED_OUT)

    # -- asking ---------------------------------------------------------------------------------------

    def _launch(self) -> None:
        """Send polls, as many as may leave now."""
        now = self._clock.monotonic()
        burst = self._policy.in_flight / self._policy.rate
        while self._ready and len(self._polling) < self._policy.in_flight:
            if self._next_poll > now:
                if self._launch_due <= now:
                    self._launch_due = self._next_poll
                    self._push(self._next_poll, None)
                return
            pending = self._ready.popleft()
            pending.queued = False
            if not pending.is_awaited:
                continue
            if self._due(pending) > now:
                self._plan(pending, now)  # others' answers taught better while it stood in line
            else:
                self._next_poll = max(self._next_poll, now - burst) + 1 / self._policy.rate
                pending.task = asyncio.create_task(self._poll(pending))
                self._polling.add(pending.task)

    async def _poll(self, pending: Pending) -> None:
        """Ask once about *pending* and act on the answer."""
        started = self._clock.monotonic()
        task, pending.polls = pending.task, pending.polls + 1
        self.polls += 1
        try:
            audience = await self._view(pending.token)
        except AiobatchError as error:
            if pending.is_awaited:
                self._on_failure(pending, error)
        except Exception as error:  # noqa: BLE001 - a defect must end the wait, not hang it
            self._finish(pending, error)
        else:
            self._learn_round_trip(self._clock.monotonic() - started)
            if pending.is_awaited:
                self._on_view(pending, audience)
        finally:
            self._polling.discard(task)
            pending.task, pending.urgent = None, False
            self._plan_if_idle(pending, self._clock.monotonic())
            self._launch()
            self._arm()

    def _learn_round_trip(self, seconds: float) -> None:
        """Average how long polls take, so that the last one leaves in time."""
        known = seconds if self._round_trip is None else self._round_trip
        self._round_trip = known + (seconds - known) / 8

    def _on_view(self, pending: Pending, audience: Audience) -> None:
        """Act on an answer."""
        state = audience.indexing_state
        self._tell_polled(pending, state, None)
        if state is None:
            self._retry_later(pending, "an answer without indexing_state")
            return
        age = self._clock.monotonic() - pending.born
        at_once = pending.is_first_look and age < _AT_ONCE
        self._first_looks += at_once
        if state is IndexingState.APPLIED:
            if at_once:
                self._first_looks_applied += 1  # when it was applied is anybody's guess
            else:
                self._schedule.record_applied(pending.seen, age)
            self._groups[pending.token.audience].widen()
            self._finish(pending, audience)
        elif state is IndexingState.REPLACED:
            name = pending.token.audience
            self._finish(pending, TokenReplacedError(token=str(pending.token), audience=name))
        else:
            self._warn_of_unknown(state)
            self._still_pending(pending, str(state))

    def _on_failure(self, pending: Pending, error: AiobatchError) -> None:
        """Act on a poll that brought no state: a wait ends only of what will not pass."""
        self._tell_polled(pending, None, type(error).__name__)
        missing = isinstance(error, AudienceNotFoundError)
        if missing and pending.token.operation is Operation.DELETE:
            self._finish(pending, _deleted(pending.token))
        elif missing and pending.token.operation is Operation.CREATE:
            # 2.x: the audience is there only once its creation is indexed.
            self._still_pending(pending, "404, not created yet")
        elif isinstance(error, ResponseError) and error.status not in _PASSING:
            self._finish(pending, error)
        else:
            status = f"HTTP {error.status}" if isinstance(error, ResponseError) else type(error).__name__
            self._retry_later(pending, status)

    def _still_pending(self, pending: Pending, state: str) -> None:
        """Note that *pending* was asked about and is pending."""
        if pending.hinted:
            pending.listed = False  # the list had called it done
        pending.last_state = state
        self._saw_pending(pending)
        pending.viewed = pending.seen
        self._groups[pending.token.audience].width = 1

    def _saw_pending(self, pending: Pending) -> None:
        """Learn from *pending* being pending at its age."""
        age = self._clock.monotonic() - pending.born
        self._schedule.record_pending(pending.seen, age)
        pending.seen = max(age, 1e-9)
        pending.hinted = False
        pending.failures = 0
        pending.wobble = self._wobble()

    def _retry_later(self, pending: Pending, why: str) -> None:
        """Ask again after a delay that grows with every failure in a row."""
        if not pending.failures:
            pending.failure_delays = self._failure_delays()
        pending.failures += 1
        pending.last_failure = why
        pending.not_before = self._clock.monotonic() + next(pending.failure_delays)

    def _failure_delays(self) -> Iterator[float]:
        """Return the delays after failed polls."""
        return jittered_delays(_FAILURE_INITIAL, self._policy.failure_maximum, self._rng)

    def _warn_of_unknown(self, state: IndexingState) -> None:
        """Say once that Batch named a state that its documentation does not."""
        if not state.is_known and state not in self._odd_states:
            self._odd_states.add(state)
            _logger.warning(
                "Batch named an unknown indexing state, %r; the wait goes on until its timeout", str(state)
            )

    # -- list sweeps ----------------------------------------------------------------------------------

    def _can_sweep(self, sweep: ListSweep, pending: Pending, now: float) -> bool:
        """Tell whether a sweep may answer for *pending*."""
        return pending.listed and not pending.hinted and sweep.is_worth_it(len(self._groups), now)

    def _sweep_for(self, sweep: ListSweep, pending: Pending, now: float) -> None:
        """Start a sweep, or wait for the next one; look at *pending* again when it has told of it, or not."""
        self._start_sweep(sweep, now)
        pending.check = self._push(max(now + _RECHECK_MINIMUM, self._next_sweep), pending)

    def _start_sweep(self, sweep: ListSweep, now: float) -> None:
        """Start a sweep if one is due."""
        if self._sweeping is None and self._next_sweep <= now and sweep.is_worth_it(len(self._groups), now):
            self._next_sweep = now + self._sweep_interval(sweep)
            self._sweeping = asyncio.create_task(self._run_sweep(sweep))

    def _sweep_interval(self, sweep: ListSweep) -> float:
        """Return seconds from one sweep to the next, by the intervals that a few tokens would have."""
        groups = itertools.islice(self._groups.values(), _SAMPLE)
        seen = [pending.seen for group in groups for pending in group.active()[:1]]
        view_interval = sum(self._schedule.next_age(age) - age for age in seen) / len(seen)
        return sweep.interval(view_interval, len(self._groups), _RECHECK_MINIMUM)

    async def _run_sweep(self, sweep: ListSweep) -> None:
        """Take the states of all audiences from the list."""
        listed: set[str] = set()
        complete = False
        try:
            async for page in sweep.run(len(self._groups), self._clock.monotonic):
                complete = page.next_cursor is None
                for audience in page.audiences:
                    listed.add(audience.name)
                    self._on_listed(audience)
                self._launch()
        finally:
            self._sweeping = None
        self._push(self._next_sweep, None)
        for name in self._groups.keys() - listed if complete else ():
            for pending in self._groups[name].members.values():
                pending.listed = False
        self._arm()

    def _on_listed(self, audience: Audience) -> None:
        """Take one audience's state from the list: a look, or a hint to ask."""
        group = self._groups.get(audience.name)
        for pending in group.active() if group else ():
            if pending.task is not None or not pending.listed:
                continue
            if audience.indexing_state is not IndexingState.IN_PROGRESS:
                pending.hinted = True
                self._enqueue(pending)
            elif self._clock.monotonic() - pending.born - pending.viewed > _LIST_TRUST:
                pending.urgent = True
                self._enqueue(pending)
            else:
                pending.last_state = audience.indexing_state
                self._saw_pending(pending)

    # -- endings --------------------------------------------------------------------------------------

    def _finish(self, pending: Pending, end: Audience | Exception) -> None:
        """End all waits for *pending*."""
        if pending.token not in self._groups.get(pending.token.audience, Group()).members:
            return  # its waiters left while the poll was under way
        for waiter in pending.waiters:
            if waiter.future.done():
                continue
            if isinstance(end, Audience):
                waiter.future.set_result(end)
            else:
                # Each raises a copy of its own: a shared error would gather everybody's traceback.
                waiter.future.set_exception(copy.copy(end))
        pending.waiters.clear()
        if isinstance(end, Audience):
            outcome = Outcome.APPLIED
        else:
            outcome = Outcome.REPLACED if isinstance(end, TokenReplacedError) else Outcome.FAILED
        self._tell_settled(pending, outcome)
        self._remove(pending)

    def _tell_polled(self, pending: Pending, state: IndexingState | None, error: str | None) -> None:
        """Tell that a poll was answered."""
        if self._emit is not None:
            name = pending.token.audience
            self._emit(TokenPolled(audience=name, state=state, error=error, polls=pending.polls))

    def _tell_settled(self, pending: Pending, outcome: Outcome) -> None:
        """Tell that a wait ended."""
        if self._emit is not None:
            name, seconds = pending.token.audience, self._clock.monotonic() - pending.born
            self._emit(TokenSettled(audience=name, outcome=outcome, polls=pending.polls, seconds=seconds))


def _is_live(number: int, pending: Pending | None, waiter: Waiter | None) -> bool:
    """Tell whether an entry of the heap still means something."""
    if waiter is not None:
        return not waiter.future.done()
    return pending is None or number == pending.check


def _deleted(token: IndexingToken) -> Audience:
    """Return what is left of a deleted audience."""
    return Audience(
        name=token.audience, id_type=IdType.CUSTOM_IDS, nb_ids=0, indexing_state=IndexingState.APPLIED
    )
