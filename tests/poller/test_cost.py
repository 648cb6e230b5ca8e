"""What waiting costs: polls, lag and the work of the event loop."""

from __future__ import annotations

import asyncio
import random

import pytest

from aiobatch._poller._token_wait import TokenWait
from aiobatch.models import IndexingToken
from aiobatch.options import PollingPolicy

from ..helpers.sweep import examples
from .simulation import Target, tokens, wait

TOKEN = IndexingToken("vip", "t1")


async def test_many_waiters_share_polls() -> None:
    """Two hundred waiters of one token cost as many polls as one."""
    target = Target({TOKEN: 6.0})
    poller = target.poller()

    audiences = await asyncio.gather(*(wait(poller, TOKEN) for _ in range(200)))

    assert len(audiences) == 200
    assert target.views.total() <= 10
    assert poller.tokens == 1
    assert poller.polls == target.views.total()


async def test_one_pilot_is_polled_for_an_audience() -> None:
    """Of an audience's tokens the oldest is polled first, and the others follow it fast."""
    mine = [IndexingToken("vip", f"t{number}") for number in range(100)]
    target = Target(dict.fromkeys(mine, 30.0))
    poller = target.poller()

    await asyncio.gather(*(wait(poller, token) for token in mine))

    assert target.views.total() < 120
    assert target.clock.monotonic() < 40


async def test_pending_token_narrows_its_audience() -> None:
    """If tokens behind an applied pilot are pending, one of them becomes the pilot."""
    mine = [IndexingToken("vip", f"t{number}") for number in range(40)]
    target = Target({token: 5.0 if number == 0 else 40.0 for number, token in enumerate(mine)})
    poller = target.poller()

    await asyncio.gather(*(wait(poller, token) for token in mine))

    assert target.views.total() < 75


async def test_polls_in_flight_and_per_second_are_bounded() -> None:
    """However many tokens wait, polls in flight and per second keep to the policy."""
    many = tokens(300)
    target = Target(dict.fromkeys(many, 1.0))
    poller = target.poller(policy=PollingPolicy(in_flight=4, rate=50))

    await asyncio.gather(*(wait(poller, token) for token in many))

    assert target.peak <= 4
    for second in range(int(target.clock.monotonic())):
        assert sum(second <= time < second + 1 for time in target.view_times) <= 55


@pytest.mark.parametrize("seed", range(1, examples(2, 3)))
async def test_schedule_learns_when_to_poll(seed: int) -> None:
    """500 tokens, applied after 2 to 10 s, cost few polls and little lag without a list."""
    rng = random.Random(seed)
    many = tokens(500)
    target = Target({token: rng.uniform(2, 10) for token in many})
    poller = target.poller(seed=seed + 100)  # its own, because the instants must not follow from the jitter
    lags: list[float] = []

    async def one(token: IndexingToken) -> None:
        await wait(poller, token)
        lags.append(target.clock.monotonic() - target.applied_at[token])

    await asyncio.gather(*(one(token) for token in many))

    assert target.views.total() / 500 < 3.6
    assert sum(lags) / 500 < 1.2


async def test_schedule_is_replayed_from_its_seed() -> None:
    """The same seed polls at the same instants."""
    times = []
    for _ in range(2):
        target = Target(dict.fromkeys(tokens(20), 3.0))
        poller = target.poller(seed=7)
        await asyncio.gather(*(wait(poller, token) for token in tokens(20)))
        times.append(target.view_times)

    assert times[0] == times[1]


async def test_tokens_that_are_not_due_are_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is known how long tokens take, only due tokens are checked."""
    many = tokens(examples(100, 500))
    target = Target(dict.fromkeys(many, 1e9))
    poller = target.poller()
    checks = 0
    true = poller._schedule.due

    def count(token_wait: TokenWait) -> float:
        nonlocal checks
        checks += 1
        return true(token_wait)

    waits = [asyncio.create_task(wait(poller, token)) for token in many]
    await target.clock.sleep(100)
    monkeypatch.setattr(poller._schedule, "due", count)
    polls = poller.polls
    await target.clock.sleep(50)

    assert poller.polls > polls + 2 * len(many)
    assert checks < 3.5 * (poller.polls - polls)  # to schedule it, when it is due, and when it leaves
    for waiting in waits:
        waiting.cancel()
    await asyncio.gather(*waits, return_exceptions=True)


async def test_issue_times_are_bounded() -> None:
    """Only so many issue times of tokens without waiters are kept."""
    poller = Target({}).poller()

    for number in range(10_050):
        poller.record_issued(IndexingToken("vip", f"t{number}"))

    assert len(poller._subscriptions.issue_times) == 10_000


async def test_polls_leave_late_if_requests_are_limited() -> None:
    """Few polls wait for admission, so that the next token is chosen late."""
    many = tokens(50)
    target = Target(dict.fromkeys(many, 0.0))
    poller = target.poller(limit=5)

    await asyncio.gather(*(wait(poller, token) for token in many))

    assert target.requests.most <= 2
    assert target.clock.monotonic() == pytest.approx(10, abs=0.5)


async def test_most_overdue_token_is_polled_first_if_requests_are_limited() -> None:
    """The token with the largest expected lag comes first."""
    young, old = IndexingToken("young", "t"), IndexingToken("old", "t")
    target = Target({young: 0.0, old: 0.0})
    poller = target.poller(limit=0.5)
    await target.clock.sleep(100)
    poller.record_issued(IndexingToken("first", "t"), 0.0)
    target.applied_at[IndexingToken("first", "t")] = 0.0
    poller.record_issued(young, 99.0)
    poller.record_issued(old, 50.0)

    await asyncio.gather(*(wait(poller, token) for token in (IndexingToken("first", "t"), young, old)))

    assert list(target.views) == [IndexingToken("first", "t"), old, young]
