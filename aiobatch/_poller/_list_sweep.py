"""List sweeps: where the API's list carries states, one request tells about a hundred audiences.

The list speaks for the *last* update of each audience, whoever made it. So IN_PROGRESS there only means "no
need to ask yet", and anything else is a hint that is confirmed by one view per token.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable

import attrs

from ..dialects import StatesPage
from ..errors import AiobatchError

PAGE = 100
# Audiences waited for below which views are as good.
_WORTH_IT = 20
# A sweep must cost a fourth at most of the views that it saves.
_SAVING = 4
# Failures in a row after which views take over.
_FAILURES = 3
# Seconds after which a list that kept failing, or that was too long, is thought of again.
_REST = 30.0


@attrs.define(kw_only=True)
class ListSweep:
    """Decides when to sweep and does it.

    Attributes:
        fetch: Fetches one page of the list.
    """

    fetch: Callable[[str | None], Awaitable[StatesPage]]
    pages: int = 1
    _failures: int = 0
    _resting_until: float = -math.inf

    def is_worth_it(self, audiences: int, now: float) -> bool:
        """Tell whether sweeping beats one view for each of *audiences*."""
        return audiences >= max(_WORTH_IT, self.pages * _SAVING) and now >= self._resting_until

    def interval(self, view_interval: float, audiences: int, minimum: float) -> float:
        """Return seconds between two sweeps.

        The same trade as for views: the cost is *pages* requests, the gain is shared by all *audiences*.
        """
        return max(minimum, view_interval * math.sqrt(self.pages / audiences))

    async def run(self, audiences: int, now: Callable[[], float]) -> AsyncGenerator[StatesPage, None]:
        """Fetch the whole list and yield each page; stop early when it fails or would take too many pages.

        Args:
            audiences: How many are waited for.
            now: Tells the time, seconds.
        """
        cursor: str | None = None
        listed = 0
        while True:
            try:
                page = await self.fetch(cursor)
            except AiobatchError:
                self._failures += 1
                if self._failures >= _FAILURES:
                    self._resting_until = now() + _REST
                return
            self._failures = 0
            listed += len(page.rows)
            self.pages = max(math.ceil(max(page.count or 0, listed) / PAGE), 1)
            yield page
            cursor = page.next_cursor
            if cursor is None:
                return
            if self.pages * _SAVING > audiences:
                self._resting_until = now() + _REST
                return
