from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import aclosing

import pytest

from aiobatch._poller import settle
from aiobatch.errors import ForbiddenError, IndexingTimeoutError, TokenReplacedError
from aiobatch.models import IndexingState, IndexingToken, Outcome, Settled

from ..conftest import leaked_tasks
from ..helpers.sweep import examples
from .simulation import Target, tokens

_THOUSANDS = examples(1500, 3000, full=5000)


async def test_outcomes_come_in_the_order_of_the_ends() -> None:
    """The wait that ends first is yielded first."""
    many = tokens(4)
    target = Target(dict(zip(many, [30.0, 3.0, 60.0, 12.0], strict=True)))

    ends = [one async for one in settle(target.poller(), many, None)]

    assert [one.token for one in ends] == [many[1], many[3], many[0], many[2]]
    assert {one.outcome for one in ends} == {Outcome.APPLIED}


async def test_no_tokens_yield_nothing() -> None:
    """Without tokens there is no outcome and no task."""
    assert [one async for one in settle(Target({}).poller(), [], None)] == []
    assert not await leaked_tasks()


async def test_timeout_is_shared_by_all_tokens() -> None:
    """However long the subscriptions take, all waits have one deadline."""
    many = tokens(2)
    target = Target(dict.fromkeys(many, 1e9))

    def slowly() -> Iterator[IndexingToken]:
        yield many[0]
        target.clock._now += 4  # the iterator takes its time
        yield many[1]

    ends = [one async for one in settle(target.poller(), slowly(), 10)]

    assert [one.outcome for one in ends] == [Outcome.TIMED_OUT] * 2
    assert target.clock.monotonic() == pytest.approx(10, abs=0.05)


async def test_event_loop_is_not_blocked_by_many_subscriptions() -> None:
    """Thousands of subscriptions are made a limited number at a time."""
    many = tokens(2000)
    target = Target(dict.fromkeys(many, 0.0))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counter = asyncio.create_task(count())
    async with aclosing(settle(target.poller(), many, None)) as ends:
        await anext(ends)
        assert turns >= 3
    counter.cancel()
    await asyncio.gather(counter, return_exceptions=True)


@pytest.mark.parametrize("audiences", [1, 100])
async def test_thousands_of_tokens_are_settled(audiences: int) -> None:
    """Thousands of tokens of one audience, or of many, each end once, at a constant cost."""
    many = [IndexingToken(f"a{number % audiences}", f"t{number}") for number in range(_THOUSANDS)]
    target = Target(dict.fromkeys(many, 5.0))

    ends = [one async for one in settle(target.poller(), many, None)]

    assert sorted(one.token.value for one in ends) == sorted(token.value for token in many)
    assert target.views.total() < 1.3 * _THOUSANDS


async def test_thousands_of_deadlines_are_met_at_once() -> None:
    """If thousands of waits share a deadline, all of them time out in time."""
    many = [IndexingToken(f"a{number % 10}", f"t{number}") for number in range(_THOUSANDS)]
    target = Target(dict.fromkeys(many, 1e9))

    ends = [one async for one in settle(target.poller(), many, 20)]

    assert {one.outcome for one in ends} == {Outcome.TIMED_OUT}
    assert len(ends) == _THOUSANDS
    assert target.clock.monotonic() == pytest.approx(20, abs=0.05)


async def test_abandoned_settling_leaves_no_task() -> None:
    """A loop left by `break` ends its waits when it is closed or collected."""
    many = tokens(20)
    target = Target(dict.fromkeys(many[:1], 0.0) | dict.fromkeys(many[1:], 1e9))
    poller = target.poller()

    async with aclosing(settle(poller, many, None)) as ends:
        async for _ in ends:
            break
    assert not await leaked_tasks()
    assert poller._subscriptions.audiences == {}

    async for _ in settle(poller, many, None):
        break
    gc.collect()
    assert not await leaked_tasks()
    assert poller._subscriptions.audiences == {}


async def test_cancelled_settling_leaves_the_others_waiting() -> None:
    """If one of two `settle` calls for the same tokens is cancelled, the other one ends as usual."""
    many = tokens(3)
    target = Target(dict.fromkeys(many, 10.0))
    poller = target.poller()

    async def collect() -> list[Settled]:
        return [one async for one in settle(poller, many, None)]

    first, second = asyncio.create_task(collect()), asyncio.create_task(collect())
    await target.clock.sleep(2)
    first.cancel()

    assert len(await second) == 3
    assert first.cancelled()


@pytest.mark.parametrize(
    ("answer", "outcome", "kind"),
    [
        (ForbiddenError("no", status=403, method="GET", path="/"), Outcome.FAILED, ForbiddenError),
        (IndexingState.REPLACED, Outcome.REPLACED, TokenReplacedError),
        (IndexingState.IN_PROGRESS, Outcome.TIMED_OUT, IndexingTimeoutError),
    ],
    ids=str,
)
async def test_error_is_what_the_wait_would_have_raised(
    answer: IndexingState | Exception, outcome: Outcome, kind: type
) -> None:
    """However a wait ends, its Settled names the outcome and contains the error."""
    (token,) = tokens(1)
    target = Target({token: 0.0}, answer=lambda *_: answer)

    (end,) = [one async for one in settle(target.poller(), [token], 30)]

    assert (end.outcome, type(end.error), end.audience) == (outcome, kind, None)


async def test_foreign_error_is_raised() -> None:
    """An error that is not aiobatch's is raised, and the other waits end."""
    many = tokens(3)
    target = Target(dict.fromkeys(many, 0.0), answer=lambda *_: ZeroDivisionError("a bug"))

    with pytest.raises(ZeroDivisionError):
        _ = [one async for one in settle(target.poller(), many, None)]
    assert not await leaked_tasks()


async def test_late_unsubscription_does_not_delay_the_audience() -> None:
    """A pilot that timed out, but is still subscribed, does not delay its audience."""
    pilot, other = IndexingToken("vip", "t1"), IndexingToken("vip", "t2")
    target = Target({pilot: 1e9, other: 0.0}, answer=lambda *_: None)
    poller = target.poller()
    future = poller.subscribe(pilot, 5)

    (end,) = [one async for one in settle(poller, [other], 60)]

    assert end.outcome is Outcome.APPLIED
    assert target.clock.monotonic() < 30
    assert future.exception() is not None
    assert target.state(other) is IndexingState.APPLIED
    await poller.unsubscribe((pilot, future))
