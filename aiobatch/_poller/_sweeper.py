"""Sweeps in the service of the scheduler: when, and what the list's rows mean for those who wait."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from contextlib import aclosing

from ..dialects import AudienceState
from ..models import IndexingState
from ._agenda import Agenda, Spawn
from ._sweep import ListSweep
from ._timing import Timing
from ._waits import Group, Pending

# Seconds after which a token is asked about by itself even though the list says IN_PROGRESS.
_LIST_TRUST = 30.0
# Seconds between two sweeps at least.
_MINIMUM = 0.5
# Audiences whose pilots' intervals stand for all when the next sweep is planned.
_SAMPLE = 16


class Sweeper:
    """Sweeps the list while enough audiences are waited for.

    Args:
        sweep: Reads the list.
        groups: The tokens waited for, by audience.
        timing: Learns from the rows.
        agenda: Wakes for the next sweep.
        spawn: Starts a sweep's task.
        ask: Takes the tokens that the list says something has happened to.
    """

    def __init__(
        self,
        sweep: ListSweep,
        groups: Mapping[str, Group],
        timing: Timing,
        agenda: Agenda,
        *,
        spawn: Spawn,
        ask: Callable[[list[Pending]], None],
    ) -> None:
        self._sweep = sweep
        self._groups = groups
        self._timing = timing
        self._agenda = agenda
        self._spawn = spawn
        self._ask = ask
        self._next = float("-inf")
        self._task: asyncio.Task[None] | None = None
        # Whether tokens may be in the list's care: nothing is planned for them, the next sweep tells. So a
        # sweep is under way, or the agenda wakes for the next.
        self._cares = False

    def take_over(self, pending: Pending, now: float) -> bool:
        """Take *pending* into the list's care if it may be there; tell whether it is."""
        if not pending.listed or pending.hinted or not self._sweep.is_worth_it(len(self._groups), now):
            return False
        if not self._cares:
            self._cares = True
            self._agenda.wake_at(max(now, self._next))
        return True

    def start_if_due(self, now: float) -> None:
        """Start the next sweep when it is time; where none is worth it, leave the tokens to themselves."""
        if self._next > now or not (self._task is None or self._task.done()):
            return
        count = len(self._groups)
        if self._sweep.is_worth_it(count, now):
            groups = itertools.islice(self._groups.values(), _SAMPLE)
            interval = self._timing.mean_interval(group.pilot.seen for group in groups)
            self._next = now + self._sweep.interval(interval, count, _MINIMUM)
            self._task = self._spawn(self._run())
        elif self._cares:
            self._cares = False
            for group in self._groups.values():
                self._let_go(group, now)

    def _let_go(self, group: Group, now: float) -> None:
        """Plan when to look at those of *group* that were in the list's care."""
        for pending in group.active.values():
            if pending.is_idle:
                self._agenda.look_at(self._timing.look_at(pending, now), pending)

    def stop(self) -> list[asyncio.Task[None]]:
        """Let go of the sweep under way; return its task."""
        self._cares = False
        task, self._task = self._task, None
        return [] if task is None else [task]

    async def _run(self) -> None:
        """Take the states of all audiences from the list."""
        listed: set[str] = set()
        complete = False
        async with aclosing(self._sweep.run(len(self._groups), self._agenda.now)) as pages:
            async for page in pages:
                complete = page.next_cursor is None
                listed.update(row.name for row in page.rows)
                now = self._agenda.now()
                self._ask([pending for row in page.rows for pending in self._read(row, now)])
        self._agenda.wake_at(self._next)
        for name in self._groups.keys() - listed if complete else ():
            group = self._groups[name]
            for pending in group.members.values():
                pending.listed = False
            self._let_go(group, self._agenda.now())
        self._agenda.arm()

    def _read(self, row: AudienceState, now: float) -> list[Pending]:
        """Take one audience's state from the list: a look, or a hint to ask about those returned."""
        group = self._groups.get(row.name)
        asked: list[Pending] = []
        for pending in group.active.values() if group else ():
            if pending.task is not None or not pending.listed:
                continue
            if row.indexing_state is not IndexingState.IN_PROGRESS:
                pending.hinted = True
                asked.append(pending)
            elif now - pending.born - pending.viewed > _LIST_TRUST:
                pending.urgent = True
                asked.append(pending)
            else:
                pending.last_state = row.indexing_state
                self._timing.saw_pending(pending, now)
        return asked
