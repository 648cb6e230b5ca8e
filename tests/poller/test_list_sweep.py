"""List sweeps: one request that tells about a hundred audiences."""

from __future__ import annotations

import asyncio
import random

import attrs
import pytest

from aiobatch._poller import Poller
from aiobatch._poller._token_wait import TokenWait
from aiobatch.dialects import StatesPage
from aiobatch.errors import TransportError
from aiobatch.models import Audience, IndexingState, IndexingToken
from aiobatch.options import PollingPolicy

from ..conftest import leaked_tasks
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


async def test_tokens_in_the_lists_care_cost_no_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """While sweeps tell of them, tokens stand in no agenda: what the loop does grows with the pages only."""
    many = tokens(100)
    target = Target(dict.fromkeys(many, 20.0))
    poller = target.poller(sweep=True)
    looks: list[int] = []
    enqueue_if_due = poller._enqueue_if_due

    def count(wait: TokenWait, now: float) -> None:
        looks.append(wait.number)
        enqueue_if_due(wait, now)

    monkeypatch.setattr(poller, "_enqueue_if_due", count)
    await _wait_all(poller, many)

    assert target.pages > 10
    assert len(looks) == len(many)


async def test_list_that_grows_too_long_leaves_tokens_to_themselves() -> None:
    """When the list stops being worth its pages, those in its care are asked about by themselves."""
    many = tokens(30)
    target = Target(dict.fromkeys(many, 10.0))
    poller = target.poller(sweep=True)
    assert poller._sweeps is not None
    sweep = poller._sweeps._sweep
    fetch = sweep.fetch

    async def growing(cursor: str | None) -> StatesPage:
        page = await fetch(cursor)
        return attrs.evolve(page, count=100 if target.clock.monotonic() < 3 else 5000)

    sweep.fetch = growing
    await _wait_all(poller, many)

    assert target.clock.monotonic() < 12
    assert len(many) < target.views.total() < 3 * len(many)


async def test_care_begins_anew_after_everybody_left() -> None:
    """Tokens waited for again right after a sweep are told of by the next one."""
    many = tokens(40)
    target = Target(dict.fromkeys(many, 6.0))
    poller = target.poller(sweep=True)
    for token in many:
        poller.record_issued(token)
    task = asyncio.create_task(_wait_all_task(poller, many))
    await target.clock.sleep(2.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    pages = target.pages

    await _wait_all(poller, many)

    assert target.pages > pages
    assert target.clock.monotonic() < 8


async def test_hint_is_confirmed_once() -> None:
    """Where the list calls applied what a view calls pending, a later update's state, views take over."""
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
    """A token that the list keeps calling IN_PROGRESS, as a later update is, is asked about by itself."""
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


async def test_poll_under_way_is_not_repeated_by_the_list() -> None:
    """What the list says of a token that is being asked about changes nothing."""
    many = tokens(40)
    target = Target(dict.fromkeys(many, 0.0))

    async def slow(token: IndexingToken) -> Audience:
        await target.clock.sleep(5)
        return await target.view(token)

    poller = target.poller(sweep=True, view=slow)
    for token in many:
        poller.record_issued(token)
    await _wait_all(poller, many)

    assert target.pages > 2
    assert set(target.views.values()) == {1}


async def test_token_in_line_is_not_put_there_again_by_the_list() -> None:
    """A token that waits for a free poll stands in line once, however often the list calls it done."""
    many = tokens(60)
    target = Target(dict.fromkeys(many, 0.0))
    poller = target.poller(sweep=True, policy=PollingPolicy(in_flight=1, rate=10))
    for token in many:
        poller.record_issued(token)

    await _wait_all(poller, many)

    assert set(target.views.values()) == {1}
    assert target.pages > 2


async def test_sweep_under_way_ends_with_the_last_waiter() -> None:
    """When nobody waits any more, a sweep is given up, and the next one may begin at once."""
    many = tokens(40)
    target = Target(dict.fromkeys(many, 6.0))
    poller = target.poller(sweep=True)
    for token in many:
        poller.record_issued(token)
    fetching = asyncio.Event()
    assert poller._sweeps is not None
    sweep = poller._sweeps._sweep
    fetch = sweep.fetch

    async def slow(cursor: str | None) -> StatesPage:
        fetching.set()
        await target.clock.sleep(3)
        return await fetch(cursor)

    sweep.fetch = slow
    task = asyncio.create_task(_wait_all_task(poller, many))
    await fetching.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not await leaked_tasks()

    sweep.fetch = fetch
    await _wait_all(poller, many)

    assert target.clock.monotonic() < 15


async def _wait_all_task(poller: Poller, many: list[IndexingToken]) -> None:
    await _wait_all(poller, many)


async def test_sweep_waits_for_views_where_requests_are_limited() -> None:
    """Where requests are limited a page is read when those are through whom the last one told of."""
    rng = random.Random(1)
    many = tokens(500)
    target = Target({token: rng.uniform(0, 20) for token in many})

    await _wait_all(target.poller(sweep=True, limit=5), many)

    assert 2 < target.pages < 15
    assert target.views.total() + target.pages < 520
    assert target.requests.most <= 3
    assert target.clock.monotonic() < 106


async def test_list_is_left_when_its_answers_are_known() -> None:
    """Where requests are limited, a list is read no further once all it lists is as good as applied."""
    many = tokens(500)
    target = Target(dict.fromkeys(many, 0.0))
    poller = target.poller(sweep=True, limit=5)
    for _ in range(100):
        poller._schedule._learned.record_applied(0, 1)
    for token in many:
        poller.record_issued(token)

    await _wait_all(poller, many)

    assert target.pages <= 2
    assert set(target.views.values()) == {1}
