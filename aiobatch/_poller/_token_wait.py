"""What the poller knows of a token: its issue time, its waiters, and the other tokens of its audience."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import heapq
from collections import OrderedDict
from collections.abc import Iterator

import attrs

from ..errors import AiobatchError
from ..models import Audience, IndexingToken, Operation

# Tokens without a waiter whose issue time is kept: enough for an upload of a hundred million IDs.
_ISSUE_TIMES_KEPT = 10_000
# Audiences whose creation was not seen to be indexed.
_CREATED_KEPT = 10_000


class BeingCreated:
    """Audiences whose creation is not known to be indexed. Above a limit the oldest one is dropped."""

    def __init__(self) -> None:
        self._names: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def record(self, token: IndexingToken) -> None:
        """Record the audience of *token* if that belongs to a creation, remove it if to a deletion."""
        if token.operation is Operation.CREATE:
            self._names[token.audience] = None
            if len(self._names) > _CREATED_KEPT:
                self._names.popitem(last=False)
        elif token.operation is Operation.DELETE:
            self.discard(token.audience)

    def discard(self, name: str) -> None:
        """Remove *name*, because a poll has found the audience."""
        if self._names:
            self._names.pop(name, None)


@attrs.frozen
class Issue:
    """When a token was issued, on the clock, and the number of the request that wrote."""

    at: float
    request_id: int | None = None


class IssueTimes:
    """Issue times of tokens that have no waiter yet. Above a limit the oldest record is dropped."""

    def __init__(self) -> None:
        self._times: OrderedDict[IndexingToken, Issue] = OrderedDict()

    def __len__(self) -> int:
        return len(self._times)

    def record(self, token: IndexingToken, issue: Issue) -> None:
        """Record how *token* was issued."""
        self._times[token] = issue
        self._times.move_to_end(token)
        if len(self._times) > _ISSUE_TIMES_KEPT:
            self._times.popitem(last=False)

    def pop(self, token: IndexingToken) -> Issue | None:
        """Remove and return the issue of *token*, or None if it is unknown."""
        return self._times.pop(token, None)


@attrs.define(eq=False)
class Waiter:
    """One caller: its future, its deadline on the clock, and the context for events about its wait."""

    future: asyncio.Future[Audience]
    started: float
    deadline: float | None
    polls_before: int
    final_poll_requested: bool = False
    context: contextvars.Context = attrs.field(factory=contextvars.copy_context)
    _is_released: bool = False

    @property
    def is_done(self) -> bool:
        """Whether the wait has ended."""
        return self._is_released or self.future.done()

    def release(self) -> None:
        """Drop all objects of the caller, because an entry of the timer queue may keep this one for long."""
        self._is_released = True
        del self.future, self.context


@attrs.define(eq=False)
class TokenWait:
    """A token with at least one waiter.

    Times are the clock's. Ages are seconds since `issued_at`.
    """

    token: IndexingToken
    number: int  # its position among all tokens, by the arrival of its first waiter
    issued_at: float
    is_age_known: bool
    jitter_factor: float
    request_id: int | None = None  # of the write
    pending_age: float = 0.0  # the age at which it was last found pending, by a poll or by the list
    viewed_age: float = 0.0  # the age at which a poll of its own last found it pending
    not_before: float = 0.0  # after a failed poll
    failures: int = 0  # consecutive polls without a state
    failure_delays: Iterator[float] | None = None  # created by the first of them
    probably_done: bool = False  # the list no longer shows IN_PROGRESS
    urgent: bool = False  # a waiter's deadline has come, or only the list has shown it for too long
    covered_by_list: bool = True  # whether the list shows this token's own state, as far as is known
    polls: int = 0
    last_state: str | None = None
    last_failure: AiobatchError | None = None
    waiters: dict[asyncio.Future[Audience], Waiter] = attrs.field(factory=dict)
    timer: int | None = None  # its live entry in the timer queue: older entries are dead
    queued: bool = False  # it is in the queue of due polls
    task: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no poll of it is scheduled, queued or in flight."""
        return self.timer is None and not self.queued and self.task is None

    @property
    def is_awaited(self) -> bool:
        """Whether a waiter without an answer is left."""
        return any(not future.done() for future in self.waiters)

    @property
    def is_at_deadline(self) -> bool:
        """Whether a waiter's deadline has come."""
        return any(waiter.final_poll_requested for waiter in self.waiters.values())

    @property
    def is_first_poll(self) -> bool:
        """Whether its age is unknown: another process issued it, and no poll has found it pending."""
        return not self.is_age_known and not self.pending_age

    def resolve(self, result: Audience | BaseException) -> bool:
        """Resolve the futures of all waiters. Return whether there was any."""
        waiters = list(self.waiters.values())
        futures = list(self.waiters)
        self.waiters.clear()
        for waiter in waiters:
            waiter.release()
        for future in futures:
            if future.done():
                continue
            if isinstance(result, Audience):
                future.set_result(result)
            else:
                # Each waiter raises its own copy, because a shared error would collect every traceback.
                # A foreign error may not support copying.
                future.set_exception(copy.copy(result) if isinstance(result, AiobatchError) else result)
        return bool(futures)


@attrs.define(eq=False)
class AudienceTokens:
    """The tokens of one audience, oldest first. Active ones are polled, the others wait for their turn.

    One pilot is polled first. Each APPLIED doubles the number of active tokens, each IN_PROGRESS resets it to
    one. A token therefore costs nothing until the ones before it are applied, and a hundred applied tokens
    cost a hundred polls in seven rounds. Batch documents no order, so every token still gets its own poll.
    """

    waits: dict[IndexingToken, TokenWait] = attrs.field(factory=dict)
    active: dict[int, TokenWait] = attrs.field(factory=dict)
    _width: int = attrs.field(init=False, default=1)
    # A heap by number. It keeps entries of removed and of active tokens, which `activate` skips.
    _inactive: list[tuple[int, TokenWait]] = attrs.field(init=False, factory=list)

    @property
    def pilot(self) -> TokenWait:
        """The token that became active first. There is one as long as any token is left."""
        return next(iter(self.active.values()))

    def add(self, wait: TokenWait) -> None:
        """Add *wait*, inactive."""
        self.waits[wait.token] = wait
        heapq.heappush(self._inactive, (wait.number, wait))

    def remove(self, wait: TokenWait) -> None:
        """Remove *wait*."""
        del self.waits[wait.token]
        self.active.pop(wait.number, None)

    def widen(self) -> None:
        """Allow twice as many active tokens, because one of them was applied."""
        self._width = min(2 * self._width, len(self.waits))

    def narrow(self) -> None:
        """Deactivate all but the oldest, because one of them is pending."""
        self._width = 1
        if len(self.active) > 1:
            pilot = self.active.pop(min(self.active))
            for deactivated in self.active.items():
                heapq.heappush(self._inactive, deactivated)
            self.active = {pilot.number: pilot}

    def activate(self) -> list[TokenWait]:
        """Activate as many tokens as the width allows. Return the ones that became active."""
        activated: list[TokenWait] = []
        while self._inactive and len(self.active) < self._width:
            number, wait = heapq.heappop(self._inactive)
            if self.waits.get(wait.token) is wait:
                self.active[number] = wait
                activated.append(wait)
        return activated
