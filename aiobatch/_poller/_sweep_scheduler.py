"""Sweeps in the service of the scheduler: when, and what the list's rows mean for those who wait."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from contextlib import aclosing

from ..dialects import ListedState
from ..models import IndexingState
from ._list_sweep import ListSweep
from ._poll_queue import Line
from ._schedule import Timing
from ._timer_queue import Agenda
from ._token_wait import Group, Pending

# Seconds after which a token is asked about by itself even though the list says IN_PROGRESS.
_LIST_TRUST = 30.0
# Seconds between two sweeps at least.
_MINIMUM = 0.6
# Audiences whose pilots stand for all when sweeps are planned.
_SAMPLE = 16
# Seconds for which it holds what was found out about them.
_JUDGED_FOR = 0.25


class Sweeper:
    """Sweeps the list while enough audiences are waited for.

    Args:
        sweep: Reads the list.
        groups: The tokens waited for, by audience.
        timing: Learns from the rows.
        agenda: Wakes for the next sweep.
        line: Where those stand who are due.
        ask: Takes the tokens that the list says something has happened to.
    """

    def __init__(
        self,
        sweep: ListSweep,
        groups: Mapping[str, Group],
        timing: Timing,
        agenda: Agenda,
        line: Line,
        *,
        ask: Callable[[list[Pending]], None],
    ) -> None:
        self._sweep = sweep
        self._groups = groups
        self._timing = timing
        self._agenda = agenda
        self._line = line
        self._ask = ask
        self._next = float("-inf")
        self._task: asyncio.Task[None] | None = None
        # Whether tokens may be in the list's care: nothing is planned for them, the next sweep tells. So a
        # sweep is under way, or the agenda wakes for the next.
        self._cares = False
        # The share of answers that are not as good as known; all, where a view has not to wait for others.
        self._open = 1.0
        self._judged_at = float("-inf")

    def take_over(self, pending: Pending, now: float) -> bool:
        """Take *pending* into the list's care if it may be there; tell whether it is."""
        if not pending.listed or pending.hinted or not self._is_worth_it(now):
            return False
        if not self._cares:
            self._cares = True
            self._agenda.wake_at(max(now, self._next))
        return True

    def _is_worth_it(self, now: float) -> bool:
        """Tell whether a sweep beats views; where requests are limited, only of whom the answer is open."""
        if self._line.gate.limit is None:
            self._open = 1.0
        elif now - self._judged_at >= _JUDGED_FOR and self._groups:
            sample = [group.pilot for group in itertools.islice(self._groups.values(), _SAMPLE)]
            self._open, self._judged_at = self._timing.share_pending(sample, now), now
        return self._sweep.is_worth_it(int(self._open * len(self._groups)), now)

    def start_if_due(self, now: float) -> None:
        """Start the next sweep when it is time; where none is worth it, leave the tokens to themselves."""
        if self._next > now or not (self._task is None or self._task.done()):
            return
        if self._is_worth_it(now):
            groups = itertools.islice(self._groups.values(), _SAMPLE)
            interval = self._timing.mean_interval(group.pilot.seen for group in groups)
            self._next = now + self._sweep.interval(interval, len(self._groups), _MINIMUM)
            self._task = self._agenda.spawn(self._run())
        elif self._cares:
            self._cares = False
            for group in self._groups.values():
                self._let_go(group)

    def _let_go(self, group: Group) -> None:
        """Plan when to look at those of *group* that were in the list's care."""
        for pending in group.active.values():
            if pending.is_idle:
                self._agenda.look_at(self._timing.due(pending), pending)

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
                if (limit := self._line.gate.limit) is not None and not await self._may_go_on(limit):
                    break
        self._agenda.wake_at(self._next)
        for name in self._groups.keys() - listed if complete else ():
            group = self._groups[name]
            for pending in group.members.values():
                pending.listed = False
            self._let_go(group)
        self._agenda.arm()

    async def _may_go_on(self, limit: float) -> bool:
        """Where requests are limited, let those be asked about first whom the last page told of."""
        while self._line.first is not None:
            await self._agenda.pause(1 / limit)
        return self._is_worth_it(self._agenda.now())

    @property
    def _trust(self) -> float:
        """Seconds for which the list is believed: where requests are limited, as long as views would take."""
        limit = self._line.gate.limit
        return _LIST_TRUST if limit is None else max(_LIST_TRUST, len(self._groups) / limit)

    def _read(self, row: ListedState, now: float) -> list[Pending]:
        """Take one audience's state from the list: a look, or a hint to ask about those returned."""
        group = self._groups.get(row.name)
        asked: list[Pending] = []
        for pending in group.active.values() if group else ():
            if pending.task is not None or not pending.listed:
                continue
            if row.indexing_state is not IndexingState.IN_PROGRESS:
                pending.hinted = True
                asked.append(pending)
            elif now - pending.born - pending.viewed > self._trust:
                pending.urgent = True
                asked.append(pending)
            else:
                pending.last_state = row.indexing_state
                self._timing.saw_pending(pending, now)
        return asked
