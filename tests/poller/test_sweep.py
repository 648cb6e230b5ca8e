"""List sweeps: one request that tells about a hundred audiences."""

from __future__ import annotations

import asyncio
import random

from aiobatch._poller import Poller
from aiobatch.errors import TransportError
from aiobatch.models import Audience, IndexingState, IndexingToken

from .simulation import Target, tokens, wait


async def _wait_all(
    poller: Poller, many: list[IndexingToken], timeout: float | None = None
) -> list[Audience]:
    return await asyncio.gather(*(wait(poller, token, timeout) for token in many))


async def test_sweeps_save_views() -> None:
    """Where the list tells states, a thousand tokens cost little more than one view each."""
    rng = random.Random(1)
    many = tokens(1000)
    target = Target({token: rng.uniform(2, 10) for token in many})
    lags: list[float] = []
    poller = target.poller(sweep=True)

    async def one(token: IndexingToken) -> None:
        await wait(poller, token)
        lags.append(target.clock.monotonic() - target.applied_at[token])

    await asyncio.gather(*(one(token) for token in many))

    assert (target.views.total() + target.pages) / 1000 < 1.5
    assert sum(lags) / 1000 < 0.6


async def test_few_audiences_are_viewed() -> None:
    """A handful of audiences is not worth a list."""
    target = Target(dict.fromkeys(tokens(5), 3.0))

    await _wait_all(target.poller(sweep=True), tokens(5))

    assert target.pages == 0


async def test_long_list_is_given_up() -> None:
    """A list that is long beside what is waited for is not read beyond its first page."""
    target = Target(dict.fromkeys(tokens(3000), 5.0))

    await _wait_all(target.poller(sweep=True), tokens(30))

    assert target.pages == 1


async def test_audience_that_is_not_listed_is_viewed() -> None:
    """An audience that a whole list did not show, such as one not yet created, is asked about by itself."""
    many = tokens(40)
    target = Target(dict.fromkeys(many, 4.0))
    target.unlisted = {many[7].audience}

    await _wait_all(target.poller(sweep=True), many)

    assert target.views[many[7]] > 1
    assert target.clock.monotonic() < 8


async def test_list_that_fails_is_left_alone() -> None:
    """When the list keeps failing, views take over."""
    target = Target(dict.fromkeys(tokens(40), 4.0))
    target.list_error = TransportError("reset")

    await _wait_all(target.poller(sweep=True), tokens(40))

    assert target.pages == 3
    assert target.clock.monotonic() < 10


async def test_hint_is_confirmed_once() -> None:
    """Where the list calls applied what a view calls pending (another update was the last), views take over."""
    many = tokens(40)
    target = Target(dict.fromkeys(many, 0.0))

    def answer(token: IndexingToken, _: int) -> IndexingState | None:
        pending = token == many[0] and target.clock.monotonic() < 20
        return IndexingState.IN_PROGRESS if pending else None

    target.answer = answer
    await _wait_all(target.poller(sweep=True), many)

    assert 20 <= target.clock.monotonic() < 30
    assert target.views[many[0]] < 15


async def test_list_is_not_trusted_for_ever() -> None:
    """A token that the list keeps calling IN_PROGRESS (a later update is) is asked about by itself in the end."""
    many = tokens(40)
    target = Target(dict.fromkeys(many, 120.0))
    target.answer = lambda token, _: IndexingState.APPLIED if token == many[0] else None
    ended: list[float] = []

    async def one(token: IndexingToken) -> None:
        await wait(poller, token)
        ended.append(target.clock.monotonic())

    poller = target.poller(sweep=True)
    await asyncio.gather(*(one(token) for token in many))

    assert 20 < min(ended) < 45
