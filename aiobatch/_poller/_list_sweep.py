"""List sweeps: one request for the states of a hundred audiences, if the API's list carries states.

The list shows the state of the *last* update of each audience, by any sender. So IN_PROGRESS there only means
that no poll is needed yet. Any other state is a hint, which one poll per token confirms.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import attrs

from ..dialects import ListedState, StatesPage
from ..errors import AiobatchError, MaintenanceError, RateLimitedError
from ..models import IndexingState
from ._poll_queue import PollQueue
from ._poll_runner import PollRunner
from ._subscriptions import Subscriptions
from ._token_wait import AudienceTokens, TokenWait

# Audiences on one page (BATCH_API.md: the largest `limit` of a list request).
_PAGE = 100
# Audiences below which polls are as good.
_MIN_AUDIENCES = 8
# Polls saved by each page at least. A sweep costs at most this fraction of the polls it saves.
_AUDIENCES_PER_PAGE = 4
# Consecutive failures after which sweeps are suspended.
_MAX_FAILURES = 3
# Seconds for which sweeps are suspended after failures, or because the list is too long.
_SUSPENSION = 30.0
# Seconds without a poll of its own after which a token is polled even though the list shows IN_PROGRESS.
_LIST_TRUST = 30.0
# Seconds between two sweeps at least, for each page, and the bounds of that.
_PER_PAGE, _MIN_INTERVALS = 0.026, (0.3, 0.6)
# Audiences whose pilots stand for all audiences in estimates.
_SAMPLE = 16
# Seconds for which an estimate is kept.
_ESTIMATE_KEPT = 0.25


@attrs.define(kw_only=True)
class ListSweep:
    """Fetches the pages of the list, and knows whether that is cheaper than polls.

    Attributes:
        fetch: Fetches one page, given its cursor.
        pages: Pages of the list, as far as is known.
        is_paused: Whether the last sweep ended with a 503 or 429, which pauses the client.
    """

    fetch: Callable[[str | None], Awaitable[StatesPage]]
    pages: int = 1
    is_paused: bool = False
    _failures: int = 0
    _suspended_until: float = -math.inf

    def is_worth_it(self, audiences: int, now: float) -> bool:
        """Return whether a sweep costs less than one poll for each of *audiences*."""
        needed = max(_MIN_AUDIENCES, self.pages * _AUDIENCES_PER_PAGE)
        return audiences >= needed and now >= self._suspended_until

    def interval(self, poll_interval: float, audiences: int) -> float:
        """Return seconds between two sweeps.

        The best interval grows with the square root of the cost, as for polls. A sweep costs *pages* requests
        and serves all *audiences*.
        """
        shortest, longest = _MIN_INTERVALS
        minimum = min(max(shortest, _PER_PAGE * self.pages), longest)
        return max(minimum, poll_interval * math.sqrt(self.pages / audiences))

    async def run(self, audiences: int, now: Callable[[], float]) -> AsyncGenerator[StatesPage, None]:
        """Fetch the whole list and yield each page. Stop early if it fails or has too many pages.

        Args:
            audiences: Audiences that are waited for.
            now: Returns monotonic seconds.
        """
        cursor: str | None = None
        rows = fetched = 0
        self.is_paused = False
        while True:
            try:
                page = await self.fetch(cursor)
            except (MaintenanceError, RateLimitedError):
                self.is_paused = True  # polls would be refused as well
                return
            except AiobatchError:
                self._failures += 1
                if self._failures >= _MAX_FAILURES:
                    self._suspended_until = now() + _SUSPENSION
                return
            self._failures = 0
            rows, fetched = rows + len(page.rows), fetched + 1
            # Pages count as well as rows, because a faulty server may answer empty ones without end.
            self.pages = max(math.ceil(max(page.count or 0, rows) / _PAGE), fetched)
            yield page
            cursor = page.next_cursor
            if cursor is None:
                return
            if self.pages * _AUDIENCES_PER_PAGE > audiences:
                self._suspended_until = now() + _SUSPENSION
                return


class SweepScheduler:
    """Sweeps the list while enough audiences are waited for, and polls tokens that it shows as done."""

    def __init__(
        self, sweep: ListSweep, subscriptions: Subscriptions, queue: PollQueue, runner: PollRunner
    ) -> None:
        self._sweep = sweep
        self._audiences = subscriptions.audiences
        self._schedule = subscriptions.schedule
        self._timers = subscriptions.timers
        self._queue = queue
        self._runner = runner
        self._next = -math.inf
        self._task: asyncio.Task[None] | None = None
        # Whether the list may cover tokens. They have no timer of their own, so while this is set a sweep is
        # in flight, or the timer queue wakes for the next one.
        self._covers_tokens = False
        # The share of tokens that are expected to be pending, so that the list could show something new.
        self._pending_share = 1.0
        self._estimated_at = -math.inf

    def cover_by_sweep(self, wait: TokenWait, now: float) -> bool:
        """Leave *wait* to the next sweep in place of a poll, if possible. Return whether it is left."""
        if not wait.covered_by_list or wait.probably_done or not self._is_worth_it(now):
            return False
        if not self._covers_tokens:
            self._covers_tokens = True
            self._timers.wake_at(max(now, self._next))
        return True

    def _is_worth_it(self, now: float) -> bool:
        """Return whether a sweep is cheaper than polls.

        If requests are limited, only tokens expected to be pending count. The others need polls anyway.
        """
        if self._queue.limiter.limit is None:
            self._pending_share = 1.0
        elif now - self._estimated_at >= _ESTIMATE_KEPT and self._audiences:
            sample = [tokens.pilot for tokens in itertools.islice(self._audiences.values(), _SAMPLE)]
            self._pending_share, self._estimated_at = self._schedule.share_pending(sample, now), now
        return self._sweep.is_worth_it(int(self._pending_share * len(self._audiences)), now)

    def start_if_due(self, now: float) -> None:
        """Start the next sweep if it is due. If none is worth it, schedule polls of the covered tokens."""
        if self._next > now or not (self._task is None or self._task.done()):
            return
        if self._is_worth_it(now):
            sample = itertools.islice(self._audiences.values(), _SAMPLE)
            interval = self._schedule.mean_interval(tokens.pilot.pending_age for tokens in sample)
            self._next = now + self._sweep.interval(interval, len(self._audiences))
            self._task = self._timers.spawn(self._run())
        elif self._covers_tokens:
            self._covers_tokens = False
            for tokens in self._audiences.values():
                self._schedule_polls(tokens)

    def _schedule_polls(self, tokens: AudienceTokens) -> None:
        """Schedule polls of the tokens that the list covered."""
        for wait in tokens.active.values():
            if wait.is_idle:
                self._timers.schedule(self._schedule.due(wait), wait)

    def stop(self) -> list[asyncio.Task[None]]:
        """Cover no more tokens. Return the task of the sweep in flight."""
        self._covers_tokens = False
        task, self._task = self._task, None
        return [] if task is None else [task]

    async def _run(self) -> None:
        """Read the states of all audiences from the list."""
        names: set[str] = set()
        complete = False
        pages = 0
        async with aclosing(self._sweep.run(len(self._audiences), self._timers.now)) as fetched:
            async for page in fetched:
                complete = page.next_cursor is None
                names.update(row.name for row in page.rows)
                now = self._timers.now()
                for row in page.rows:
                    self._apply_row(row, now)
                pages += 1
                if self._queue.first is None and not complete and self._rest_can_wait(names, pages, now):
                    break  # no row of this page called for a poll
                self._runner.start()
                if (limit := self._queue.limiter.limit) is not None and not await self._may_continue(limit):
                    break
        if self._sweep.is_paused:
            # The next sweep may be the probe.
            self._next = max(self._timers.now(), self._queue.limiter.poll_at or 0.0)
        self._timers.wake_at(self._next)
        for name in self._audiences.keys() - names if complete else ():
            tokens = self._audiences[name]
            for wait in tokens.waits.values():
                wait.covered_by_list = False
            self._schedule_polls(tokens)
        self._timers.arm()

    def _rest_can_wait(self, listed: set[str], pages: int, now: float) -> bool:
        """Return whether further pages cost more than they can gain, by what those so far taught.

        Args:
            listed: The audiences on the pages so far.
            pages: Their number.
            now: Monotonic seconds.
        """
        rest = [tokens.pilot for name, tokens in self._audiences.items() if name not in listed]
        if not rest:
            return True
        lag = len(rest) * self._schedule.expected_lag(rest[:: 1 + len(rest) // _SAMPLE], now)
        return lag < self._schedule.poll_cost * (self._sweep.pages - pages)

    async def _may_continue(self, limit: float) -> bool:
        """If requests are limited, let the polls that the last page called for leave before the next page."""
        while self._queue.first is not None:
            await self._timers.sleep(1 / limit)
        return self._is_worth_it(self._timers.now())

    @property
    def _trust(self) -> float:
        """Seconds for which the list alone is trusted: at least as long as polls of all tokens would take."""
        limit = self._queue.limiter.limit
        return _LIST_TRUST if limit is None else max(_LIST_TRUST, len(self._audiences) / limit)

    def _apply_row(self, row: ListedState, now: float) -> None:
        """Take over the state of one audience: its tokens are pending, or are queued for a poll."""
        tokens = self._audiences.get(row.name)
        for wait in tokens.active.values() if tokens else ():
            if wait.task is not None or not wait.covered_by_list:
                continue
            if row.indexing_state is not IndexingState.IN_PROGRESS:
                wait.probably_done = True
                self._runner.enqueue(wait)
            elif now - wait.issued_at - wait.viewed_age > self._trust:
                wait.urgent = True
                self._runner.enqueue(wait)
            else:
                wait.last_state = row.indexing_state
                self._schedule.record_pending(wait, now)
