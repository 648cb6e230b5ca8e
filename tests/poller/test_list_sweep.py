"""List sweeps: one request for the states of a hundred audiences."""

from __future__ import annotations

import asyncio
import random

import attrs
import pytest

from aiobatch._poller import ListSweep, Poller
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


async def test_sweeps_save_polls() -> None:
    """If the list carries states, a thousand tokens cost little more than one poll each."""
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


async def test_further_pages_are_not_read_before_they_show_anything() -> None:
    """While the first page shows nothing new, the others would cost more than they gain."""
    many = tokens(1000)
    target = Target(dict.fromkeys(many, 1e9))
    poller = target.poller(sweep=True)
    waits = [poller.subscribe(token, None) for token in many]
    await target.clock.sleep(1.8)
    assert target.pages < 20
    await poller.aclose()
    await asyncio.gather(*waits, return_exceptions=True)


async def test_each_page_is_read_in_the_end() -> None:
    """Tokens on the last page are found although the first page never shows anything new."""
    many = tokens(1000)
    target = Target({token: 3.0 if number >= 900 else 1e9 for number, token in enumerate(many)})
    poller = target.poller(sweep=True)
    waits = [poller.subscribe(token, None) for token in many]
    started = target.clock.monotonic()
    await asyncio.wait(waits[900:])
    assert target.clock.monotonic() - started < 3 + 15
    await poller.aclose()
    await asyncio.gather(*waits, return_exceptions=True)


async def test_few_audiences_are_polled() -> None:
    """A sweep for a handful of audiences is not worth it."""
    target = Target(dict.fromkeys(tokens(5), 3.0))

    await _wait_all(target.poller(sweep=True), tokens(5))

    assert target.pages == 0


async def test_long_list_is_not_read_beyond_its_first_page() -> None:
    """Its pages would cost more than the polls they save."""
    target = Target(dict.fromkeys(tokens(3000), 5.0))

    await _wait_all(target.poller(sweep=True), tokens(30))

    assert target.pages == 1


async def test_endless_list_is_not_read_on_and_on() -> None:
    """A faulty server that answers empty pages with new cursors costs a few pages."""
    fetched: list[str | None] = []

    async def fetch(cursor: str | None) -> StatesPage:
        fetched.append(cursor)
        return StatesPage(rows=(), next_cursor=str(len(fetched)))

    sweep = ListSweep(fetch=fetch)
    pages = [page async for page in sweep.run(100, lambda: 0.0)]

    assert len(pages) == len(fetched) == 26
    assert not sweep.is_worth_it(100, 1.0)


async def test_unlisted_audience_is_polled() -> None:
    """An audience that is missing from a complete list may not be created yet."""
    many = tokens(40)
    target = Target(dict.fromkeys(many, 4.0))
    target.unlisted = {many[7].audience}

    await _wait_all(target.poller(sweep=True), many)

    assert target.views[many[7]] > 1
    assert target.clock.monotonic() < 8


async def test_failing_list_is_replaced_by_polls() -> None:
    """After consecutive failures sweeps are suspended."""
    target = Target(dict.fromkeys(tokens(40), 4.0))
    target.list_error = TransportError("reset")

    await _wait_all(target.poller(sweep=True), tokens(40))

    assert target.pages == 3
    assert target.clock.monotonic() < 10


async def test_tokens_covered_by_sweeps_have_no_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    """During sweeps the work of the event loop grows with the pages only."""
    many = tokens(100)
    target = Target(dict.fromkeys(many, 20.0))
    poller = target.poller(sweep=True)
    checks: list[int] = []
    enqueue_if_due = poller._enqueue_if_due

    def count(wait: TokenWait, now: float) -> None:
        checks.append(wait.number)
        enqueue_if_due(wait, now)

    monkeypatch.setattr(poller, "_enqueue_if_due", count)
    await _wait_all(poller, many)

    assert target.pages > 10
    assert len(checks) == len(many)


async def test_list_that_grows_too_long_is_replaced_by_polls() -> None:
    """The tokens that it covered are polled."""
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


async def test_sweeps_restart_after_all_waiters_left() -> None:
    """Tokens waited for again right after a sweep are covered by the next one."""
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


async def test_hint_that_a_poll_contradicts_is_not_used_again() -> None:
    """The list shows the state of a later update, so the token is polled."""
    many = tokens(40)
    target = Target(dict.fromkeys(many, 0.0))

    def answer(token: IndexingToken, _: int) -> IndexingState | None:
        pending = token == many[0] and target.clock.monotonic() < 20
        return IndexingState.IN_PROGRESS if pending else None

    target.answer = answer
    await _wait_all(target.poller(sweep=True), many)

    assert 20 <= target.clock.monotonic() < 30
    assert target.views[many[0]] < 15


async def test_token_is_polled_if_only_the_list_shows_it_as_pending() -> None:
    """After a while a token is polled, as the list may show a later update."""
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


async def test_list_does_not_repeat_a_poll_in_flight() -> None:
    """A row about a token that is being polled changes nothing."""
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


async def test_list_does_not_queue_a_token_twice() -> None:
    """A token that waits for a free slot is queued once, however often the list shows it as done."""
    many = tokens(60)
    target = Target(dict.fromkeys(many, 0.0))
    poller = target.poller(sweep=True, policy=PollingPolicy(in_flight=1, rate=10))
    for token in many:
        poller.record_issued(token)

    await _wait_all(poller, many)

    assert set(target.views.values()) == {1}
    assert target.pages > 2


async def test_sweep_in_flight_ends_with_the_last_waiter() -> None:
    """It is cancelled, and the next one may start at once."""
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


async def test_sweep_waits_for_polls_if_requests_are_limited() -> None:
    """A page is read after the polls that the last one called for."""
    rng = random.Random(1)
    many = tokens(250)
    target = Target({token: rng.uniform(0, 10) for token in many})

    await _wait_all(target.poller(sweep=True, limit=5), many)

    assert 2 < target.pages < 10
    assert target.views.total() + target.pages < 262
    assert target.requests.most <= 3
    assert target.clock.monotonic() < 54


async def test_sweep_stops_when_no_token_is_expected_to_be_pending() -> None:
    """If requests are limited, the next page would show nothing new."""
    many = tokens(250)
    target = Target(dict.fromkeys(many, 0.0))
    poller = target.poller(sweep=True, limit=5)
    for _ in range(100):
        poller._schedule._learned.record_applied(0, 1)
    for token in many:
        poller.record_issued(token)

    await _wait_all(poller, many)

    assert target.pages <= 2
    assert set(target.views.values()) == {1}
