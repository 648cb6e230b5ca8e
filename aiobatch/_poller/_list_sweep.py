"""List sweeps: one request for the states of a hundred audiences, if the API's list carries states.

The list shows the state of the *last* update of each audience, by any sender. So IN_PROGRESS there only means
that no poll is needed yet. Any other state is a hint, which one poll per token confirms.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable

import attrs

from ..dialects import StatesPage
from ..errors import AiobatchError

# Audiences on one page (BATCH_API.md: the largest `limit` of a list request).
_PAGE = 100
# Audiences below which polls are as good.
_MIN_AUDIENCES = 20
# Polls saved by each page at least. A sweep costs at most this fraction of the polls it saves.
_AUDIENCES_PER_PAGE = 4
# Consecutive failures after which sweeps are suspended.
_MAX_FAILURES = 3
# Seconds for which sweeps are suspended after failures, or because the list is too long.
_SUSPENSION = 30.0


@attrs.define(kw_only=True)
class ListSweep:
    """Fetches the pages of the list, and knows whether that is cheaper than polls.

    Attributes:
        fetch: Fetches one page, given its cursor.
        pages: Pages of the list, as far as is known.
    """

    fetch: Callable[[str | None], Awaitable[StatesPage]]
    pages: int = 1
    _failures: int = 0
    _suspended_until: float = -math.inf

    def is_worth_it(self, audiences: int, now: float) -> bool:
        """Return whether a sweep costs less than one poll for each of *audiences*."""
        needed = max(_MIN_AUDIENCES, self.pages * _AUDIENCES_PER_PAGE)
        return audiences >= needed and now >= self._suspended_until

    def interval(self, poll_interval: float, audiences: int, minimum: float) -> float:
        """Return seconds between two sweeps.

        The best interval grows with the square root of the cost, as for polls. A sweep costs *pages* requests
        and serves all *audiences*.
        """
        return max(minimum, poll_interval * math.sqrt(self.pages / audiences))

    async def run(self, audiences: int, now: Callable[[], float]) -> AsyncGenerator[StatesPage, None]:
        """Fetch the whole list and yield each page. Stop early if it fails or has too many pages.

        Args:
            audiences: Audiences that are waited for.
            now: Returns monotonic seconds.
        """
        cursor: str | None = None
        rows = 0
        while True:
            try:
                page = await self.fetch(cursor)
            except AiobatchError:
                self._failures += 1
                if self._failures >= _MAX_FAILURES:
                    self._suspended_until = now() + _SUSPENSION
                return
            self._failures = 0
            rows += len(page.rows)
            self.pages = max(math.ceil(max(page.count or 0, rows) / _PAGE), 1)
            yield page
            cursor = page.next_cursor
            if cursor is None:
                return
            if self.pages * _AUDIENCES_PER_PAGE > audiences:
                self._suspended_until = now() + _SUSPENSION
                return
