"""A target whose tokens become applied at known instants of a fake clock."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

from aiobatch._poller import ListSweep, Poller
from aiobatch._poller._token_wait import TokenWait
from aiobatch.dialects import ListedState, StatesPage
from aiobatch.events import Event
from aiobatch.models import Audience, IdType, IndexingState, IndexingToken
from aiobatch.options import PollingPolicy
from aiobatch.testing import FakeClock

ROUND_TRIP = 0.02


class Target:
    """Answers polls and list pages after a round trip, and counts them.

    Args:
        applied_at: The instant at which each token becomes applied.
        answer: Returns the state, or the error, for a token and the number of its poll. None leaves it to
            *applied_at*.
        round_trip: Seconds that each request takes.
    """

    def __init__(
        self,
        applied_at: Mapping[IndexingToken, float],
        *,
        answer: Callable[[IndexingToken, int], IndexingState | Exception | None] = lambda *_: None,
        round_trip: float = ROUND_TRIP,
    ) -> None:
        self.clock = FakeClock()
        self.applied_at = dict(applied_at)
        self.answer = answer
        self.round_trip = round_trip
        self.views: Counter[IndexingToken] = Counter()
        self.view_times: list[float] = []
        self.pages = 0
        self.list_error: Exception | None = None
        self.unlisted: set[str] = set()
        self.in_flight = self.peak = 0
        self.requests = Requests(self, None)
        self.asked = asyncio.Event()

    def poller(
        self,
        *,
        sweep: bool = False,
        policy: PollingPolicy | None = None,
        emit: Callable[[Event], None] | None = None,
        seed: int = 1,
        limit: float | None = None,
        view: Callable[[IndexingToken], Awaitable[Audience]] | None = None,
    ) -> Poller:
        """Return a poller of this target.

        Args:
            sweep: Whether the target's list carries states.
            policy: The polling policy.
            emit: Takes events.
            seed: The seed of the jitter.
            limit: Requests per second. None means no limit.
            view: Answers polls in place of the target.
        """
        self.requests = Requests(self, limit)
        return Poller(
            view=view or self.view,
            sweep=ListSweep(fetch=self.fetch) if sweep else None,
            policy=policy or PollingPolicy(),
            clock=self.clock,
            rng=random.Random(seed),
            emit=emit,
            request_queue=self.requests,
        )

    def state(self, token: IndexingToken) -> IndexingState:
        """Return the true state of *token* now."""
        applied = self.clock.monotonic() >= self.applied_at[token]
        return IndexingState.APPLIED if applied else IndexingState.IN_PROGRESS

    async def view(self, token: IndexingToken) -> Audience:
        """Answer one poll."""
        await self.requests.admit()
        self.views[token] += 1
        self.view_times.append(self.clock.monotonic())
        self.in_flight += 1
        self.asked.set()
        self.peak = max(self.peak, self.in_flight)
        try:
            await self.clock.sleep(self.round_trip)
        finally:
            self.in_flight -= 1
        state = self.answer(token, self.views[token]) or self.state(token)
        if isinstance(state, Exception):
            raise state
        return _audience(token.audience, state)

    async def fetch(self, cursor: str | None) -> StatesPage:
        """Answer one page of the list, a hundred audiences."""
        await self.requests.admit()
        self.pages += 1
        await self.clock.sleep(self.round_trip)
        if self.list_error is not None:
            raise self.list_error
        start = int(cursor or 0)
        listed = [token for token in self.applied_at if token.audience not in self.unlisted]
        rows = listed[start : start + 100]
        return StatesPage(
            rows=tuple(ListedState(token.audience, self.state(token)) for token in rows),
            next_cursor=str(start + 100) if start + 100 < len(listed) else None,
            count=None if start else len(listed),
        )


class Requests:
    """The queue of all requests of a client.

    Args:
        target: The target that answers them.
        limit: Requests per second. None means no limit.
    """

    def __init__(self, target: Target, limit: float | None) -> None:
        self._clock = target.clock
        self._next = 0.0
        self.limit = limit
        self.queued = self.most = 0
        self.poll_at = None
        self.resumed_at = -math.inf

    async def admit(self) -> None:
        """Wait for admission."""
        if self.limit is None:
            return
        now = self._clock.monotonic()
        self._next = max(self._next + 1 / self.limit, now)
        self.queued += 1
        self.most = max(self.most, self.queued)
        await self._clock.sleep(self._next - now)
        self.queued -= 1


def _audience(name: str, state: IndexingState) -> Audience:
    return Audience(name=name, id_type=IdType.CUSTOM_IDS, nb_ids=1, indexing_state=state)


def tokens(count: int) -> list[IndexingToken]:
    """Return one token for each of *count* audiences."""
    return [IndexingToken(f"audience-{number}", f"token-{number}") for number in range(count)]


def pending_token(seen: float = 0.0) -> TokenWait:
    """Return a token wait that was last found pending at *seen* seconds of age."""
    return TokenWait(
        token=IndexingToken("vip", "t"),
        number=0,
        issued_at=0.0,
        is_age_known=True,
        jitter_factor=1.0,
        pending_age=seen,
    )


async def wait(poller: Poller, token: IndexingToken, timeout: float | None = None) -> Audience:
    """Wait for *token* as the client does."""
    future = poller.subscribe(token, timeout)
    try:
        return await future
    finally:
        await poller.unsubscribe((token, future))
