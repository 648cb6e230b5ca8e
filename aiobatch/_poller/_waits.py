"""Who waits for what: waiters, their tokens, and the tokens of one audience."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import attrs

from ..models import Audience, IndexingToken


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
    born: float
    known_age: bool
    wobble: float
    failure_delays: Iterator[float]
    seen: float = 0.0  # the age at which it was last seen pending
    viewed: float = 0.0  # the age at which it was last asked about by itself
    not_before: float = 0.0  # after a failure
    failures: int = 0  # polls in a row that brought no state
    hinted: bool = False  # the list says that something has happened
    urgent: bool = False  # a waiter's deadline is there
    listed: bool = True  # the list tells the truth about it, as far as known
    polls: int = 0
    last_state: str | None = None
    last_failure: str | None = None
    waiters: list[Waiter] = attrs.field(factory=list)
    check: int = -1  # the number of its entry in the heap; older entries count no more
    queued: bool = False
    task: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is planned or under way for it."""
        return self.check < 0 and not self.queued and self.task is None

    @property
    def is_awaited(self) -> bool:
        """Whether a waiter is left that has no answer."""
        return any(not waiter.future.done() for waiter in self.waiters)

    @property
    def is_first_look(self) -> bool:
        """Whether nothing is known of its age: it came from another process and was never seen."""
        return not self.known_age and not self.seen


@attrs.define(eq=False)
class Group:
    """The tokens of one audience, oldest first: `width` of them are asked about, the others wait.

    One pilot goes ahead. Each APPLIED doubles the width, each IN_PROGRESS sets it back to one: a token costs
    nothing until the ones before it are through, and a hundred that are all applied cost a hundred polls in
    seven rounds.
    """

    members: dict[IndexingToken, Pending] = attrs.field(factory=dict)
    width: int = 1

    def widen(self) -> None:
        """Let twice as many be asked about: one of them was applied."""
        self.width = min(2 * self.width, len(self.members))

    def active(self) -> list[Pending]:
        """Return those that may be asked about."""
        return list(itertools.islice(self.members.values(), self.width))
