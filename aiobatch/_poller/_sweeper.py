"""Sweeps in the service of the scheduler: when, and what the list's rows mean for those who wait."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from contextlib import aclosing

from ..models import Audience, IndexingState
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

    def take_over(self, pending: Pending, now: float) -> bool:
        """Let a sweep answer for *pending*, which is due, if it may; tell whether it does."""
        if not pending.listed or pending.hinted or not self._sweep.is_worth_it(len(self._groups), now):
            return False
        self.start_if_due(now)
        # It is looked at again when the list has told of it, or has not.
        self._agenda.look_at(max(now + _MINIMUM, self._next), pending)
        return True

    def start_if_due(self, now: float) -> None:
        """Start the next sweep when it is time."""
        count = len(self._groups)
        idle = self._task is None or self._task.done()
        if idle and self._next <= now and self._sweep.is_worth_it(count, now):
            groups = itertools.islice(self._groups.values(), _SAMPLE)
            interval = self._timing.mean_interval(group.pilot.seen for group in groups)
            self._next = now + self._sweep.interval(interval, count, _MINIMUM)
            self._task = self._spawn(self._run())

    def stop(self) -> list[asyncio.Task[None]]:
        """Let go of the sweep under way; return its task."""
        task, self._task = self._task, None
        return [] if task is None else [task]

    async def _run(self) -> None:
        """Take the states of all audiences from the list."""
        listed: set[str] = set()
        complete = False
        async with aclosing(self._sweep.run(len(self._groups), self._agenda.now)) as pages:
            async for page in pages:
                complete = page.next_cursor is None
                listed.update(audience.name for audience in page.audiences)
                self._ask([pending for row in page.audiences for pending in self._read(row)])
        self._agenda.wake_at(self._next)
        for name in self._groups.keys() - listed if complete else ():
            for pending in self._groups[name].members.values():
                pending.listed = False
        self._agenda.arm()

    def _read(self, row: Audience) -> list[Pending]:
        """Take one audience's state from the list: a look, or a hint to ask about those returned."""
        now = self._agenda.now()
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
