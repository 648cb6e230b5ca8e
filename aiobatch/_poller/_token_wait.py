"""Who waits for what: waiters, their tokens, and the tokens of one audience."""

from __future__ import annotations

import asyncio
import copy
import heapq
from collections import OrderedDict
from collections.abc import Iterator

import attrs

from ..errors import AiobatchError
from ..models import Audience, IndexingToken

# Ages kept of tokens that nobody waits for yet: enough for an upload of a hundred million ids.
_BIRTHS = 10_000


class Births:
    """When tokens were issued that nobody waits for yet; the oldest note goes when there are too many."""

    def __init__(self) -> None:
        self._births: OrderedDict[IndexingToken, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._births)

    def note(self, token: IndexingToken, born: float) -> None:
        """Remember that *token* was issued at *born* on the clock."""
        self._births[token] = born
        self._births.move_to_end(token)
        if len(self._births) > _BIRTHS:
            self._births.popitem(last=False)

    def take(self, token: IndexingToken) -> float | None:
        """Forget and return when *token* was issued; None when nobody knows."""
        return self._births.pop(token, None)


@attrs.define(eq=False)
class Waiter:
    """One caller: a future, and when it ends whatever comes."""

    future: asyncio.Future[Audience]
    started: float
    deadline: float | None
    polls_before: int
    last_asked: bool = False  # whether the poll at the deadline was asked for


@attrs.define(eq=False)
class Pending:
    """A token that somebody waits for.

    Times are the clock's; ages are seconds since `born`.
    """

    token: IndexingToken
    number: int  # its place among all tokens, by when somebody first waited for it
    born: float
    known_age: bool
    wobble: float
    seen: float = 0.0  # the age at which it was last seen pending
    viewed: float = 0.0  # the age at which it was last asked about by itself
    not_before: float = 0.0  # after a failure
    failures: int = 0  # polls in a row that brought no state
    failure_delays: Iterator[float] | None = None  # made anew with the first of them
    hinted: bool = False  # the list says that something has happened
    urgent: bool = False  # a waiter's deadline is there, or the list has spoken for it long enough
    listed: bool = True  # the list tells the truth about it, as far as known
    polls: int = 0
    last_state: str | None = None
    last_failure: str | None = None
    waiters: dict[asyncio.Future[Audience], Waiter] = attrs.field(factory=dict)
    check: int | None = None  # its entry in the agenda; older entries count no more
    queued: bool = False  # it stands in the line of those that are due
    task: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is planned or under way for it."""
        return self.check is None and not self.queued and self.task is None

    @property
    def is_awaited(self) -> bool:
        """Whether a waiter is left that has no answer."""
        return any(not future.done() for future in self.waiters)

    @property
    def is_ending(self) -> bool:
        """Whether a waiter's deadline is there."""
        return any(waiter.last_asked for waiter in self.waiters.values())

    @property
    def is_first_look(self) -> bool:
        """Whether nothing is known of its age: it came from another process and was never seen."""
        return not self.known_age and not self.seen

    def end(self, end: Audience | BaseException) -> bool:
        """End all waits; tell whether there was any."""
        futures = list(self.waiters)
        self.waiters.clear()
        for future in futures:
            if future.done():
                continue
            if isinstance(end, Audience):
                future.set_result(end)
            else:
                # Each raises a copy of its own: a shared error would gather everybody's traceback. What is
                # not ours may refuse to be copied.
                future.set_exception(copy.copy(end) if isinstance(end, AiobatchError) else end)
        return bool(futures)


@attrs.define(eq=False)
class Group:
    """The tokens of one audience, oldest first: some are active and asked about, the others wait.

    One pilot goes ahead. Each APPLIED doubles the number of active ones, each IN_PROGRESS sets it back to
    one: a token costs nothing until the ones before it are through, and a hundred that are all applied cost a
    hundred polls in seven rounds.
    """

    members: dict[IndexingToken, Pending] = attrs.field(factory=dict)
    active: dict[int, Pending] = attrs.field(factory=dict)
    _width: int = attrs.field(init=False, default=1)
    # By number; holds members that left or became active too, which `advance` passes over.
    _line: list[tuple[int, Pending]] = attrs.field(init=False, factory=list)

    @property
    def pilot(self) -> Pending:
        """The active one that was so first; there is one while there are members."""
        return next(iter(self.active.values()))

    def add(self, pending: Pending) -> None:
        """Let *pending* stand in line."""
        self.members[pending.token] = pending
        heapq.heappush(self._line, (pending.number, pending))

    def remove(self, pending: Pending) -> None:
        """Forget *pending*."""
        del self.members[pending.token]
        self.active.pop(pending.number, None)

    def widen(self) -> None:
        """Let twice as many be active: one of them was applied."""
        self._width = min(2 * self._width, len(self.members))

    def narrow(self) -> None:
        """Send all but the oldest back into the line: one of them is pending."""
        self._width = 1
        if len(self.active) > 1:
            pilot = self.active.pop(min(self.active))
            for sent_back in self.active.items():
                heapq.heappush(self._line, sent_back)
            self.active = {pilot.number: pilot}

    def advance(self) -> list[Pending]:
        """Make as many active as may be; return those that became so."""
        begun: list[Pending] = []
        while self._line and len(self.active) < self._width:
            number, pending = heapq.heappop(self._line)
            if self.members.get(pending.token) is pending:
                self.active[number] = pending
                begun.append(pending)
        return begun
