"""The poller when one of its parts, or the application around it, fails."""

from __future__ import annotations

import asyncio

import pytest

from aiobatch._poller import Poller
from aiobatch._poller._token_wait import TokenWait
from aiobatch.errors import IndexingTimeoutError, TransportError
from aiobatch.events import Event, TokenPolled, TokenSettled
from aiobatch.models import Audience, IndexingState, IndexingToken
from aiobatch.options import PollingPolicy

from ..conftest import leaked_tasks
from .simulation import Target, tokens, wait

TOKEN = IndexingToken("vip", "t1")


async def _ends(poller: Poller, many: list[IndexingToken]) -> list[type]:
    """Wait for all tokens, and return the types of the results."""
    outcomes = await asyncio.gather(*(wait(poller, token) for token in many), return_exceptions=True)
    return [type(outcome) for outcome in outcomes]


async def test_hook_that_fails_on_a_poll_ends_the_waits_of_its_token() -> None:
    """An error of the hook ends the waits of that token, and no other waits."""
    many = tokens(3)
    target = Target(dict.fromkeys(many, 2.0))

    def explode(event: Event) -> None:
        if isinstance(event, TokenPolled) and event.audience == many[0].audience:
            raise ZeroDivisionError

    assert await _ends(target.poller(emit=explode), many) == [ZeroDivisionError, Audience, Audience]


async def test_hook_that_fails_on_an_outcome_changes_no_outcome(caplog: pytest.LogCaptureFixture) -> None:
    """An error of the hook after a wait has ended is logged."""
    many = tokens(3)
    target = Target(dict.fromkeys(many, 2.0))

    def explode(event: Event) -> None:
        if isinstance(event, TokenSettled):
            raise ZeroDivisionError

    poller = target.poller(emit=explode)

    assert await _ends(poller, many) == [Audience] * 3
    assert caplog.text.count("poll failed after its wait ended") == 3
    assert poller._subscriptions.audiences == {}


@pytest.mark.parametrize("step", ["due", "is_due", "record_pending"])
@pytest.mark.parametrize("sweep", [False, True])
async def test_error_in_the_schedule_ends_all_waits(
    step: str, sweep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the schedule's arithmetic fails, each wait ends with that error."""
    many = tokens(30)
    target = Target(dict.fromkeys(many, 1e9))
    poller = target.poller(sweep=sweep)
    true = getattr(poller._schedule, step)

    def explode(*arguments: object) -> object:
        if target.clock.monotonic() > 3:
            raise ZeroDivisionError
        return true(*arguments)

    monkeypatch.setattr(poller._schedule, step, explode)

    assert set(await _ends(poller, many)) == {ZeroDivisionError}
    assert target.clock.monotonic() < 60
    assert not await leaked_tasks()


async def test_poller_works_after_an_internal_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that start after an internal error end as usual."""
    target = Target({TOKEN: 10.0})
    poller = target.poller()
    with monkeypatch.context() as patched:
        patched.setattr(poller._schedule, "due", lambda _: 1 / 0)
        assert await _ends(poller, [TOKEN]) == [ZeroDivisionError]

    assert await _ends(poller, [TOKEN]) == [Audience]


async def test_poll_cancelled_from_outside_is_repeated() -> None:
    """A poll that another part of the application cancels is sent again."""
    target = Target({TOKEN: 0.0})

    async def cancelled_once(token: IndexingToken) -> Audience:
        if not target.views[token]:
            target.views[token] += 1
            raise asyncio.CancelledError
        return await target.view(token)

    assert await _ends(target.poller(view=cancelled_once), [TOKEN]) == [Audience]


async def test_error_of_a_cancelled_poll_is_dropped() -> None:
    """An error that a cancelled poll raises has no waiter to go to."""
    target = Target({TOKEN: 1e9}, round_trip=100.0)

    async def fail_on_cancellation(token: IndexingToken) -> Audience:
        try:
            return await target.view(token)
        except asyncio.CancelledError:
            raise ZeroDivisionError from None

    task = asyncio.create_task(wait(target.poller(view=fail_on_cancellation), TOKEN))
    await target.clock.sleep(5)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert not await leaked_tasks()


async def test_poll_cancelled_before_its_start_frees_its_slot() -> None:
    """A poll that is cancelled before its task has run takes no slot from others."""
    target = Target({TOKEN: 0.0})
    poller = target.poller(policy=PollingPolicy(in_flight=1))
    future = poller.subscribe(TOKEN, None)
    poller._on_due()

    await poller.unsubscribe((TOKEN, future))

    assert target.views.total() == 0
    assert await _ends(poller, [TOKEN]) == [Audience]


@pytest.mark.parametrize("step", ["start", "schedule_if_idle"])
async def test_error_after_a_poll_ends_all_waits(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the step after a poll fails, each wait ends with that error."""
    many = tokens(3)
    target = Target(dict.fromkeys(many, 1e9))
    poller = target.poller()
    part = poller._runner if step == "start" else poller._subscriptions
    true = getattr(part, step)

    def explode(*arguments: object) -> None:
        if target.views.total() > 5 and not target.in_flight:
            raise ZeroDivisionError
        true(*arguments)

    monkeypatch.setattr(part, step, explode)

    assert set(await _ends(poller, many)) == {ZeroDivisionError}
    assert not await leaked_tasks()


@pytest.mark.parametrize("answer", [IndexingState.APPLIED, TransportError("reset")], ids=str)
async def test_answer_after_the_deadline_changes_nothing(answer: IndexingState | Exception) -> None:
    """The only waiter has timed out, but has not unsubscribed yet."""
    target = Target({TOKEN: 0.0}, answer=lambda *_: answer, round_trip=20.0)
    poller = target.poller()
    future = poller.subscribe(TOKEN, 5)

    await target.clock.sleep(60)

    assert isinstance(future.exception(), IndexingTimeoutError)
    await poller.unsubscribe((TOKEN, future))
    assert not await leaked_tasks()


async def _slow_to_cancel(gate: asyncio.Event) -> tuple[Poller, asyncio.Task[Audience]]:
    """Return a poller, and a wait whose cancelled poll ends only when the gate opens."""
    target = Target({TOKEN: 0.0})

    async def stubborn(token: IndexingToken) -> Audience:
        try:
            return await asyncio.Event().wait()  # type: ignore[return-value]  # it never returns
        finally:
            await gate.wait()

    poller = target.poller(view=stubborn)
    task = asyncio.create_task(wait(poller, TOKEN))
    await target.clock.sleep(5)
    return poller, task


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_waiter_cancelled_repeatedly_leaves_no_task(times: int) -> None:
    """However often a waiter is cancelled, its poll ends before it does."""
    gate = asyncio.Event()
    _, task = await _slow_to_cancel(gate)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    gate.set()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_close_waits_for_a_waiter_that_unsubscribes() -> None:
    """Closing and unsubscribing at once wait for the same poll."""
    gate = asyncio.Event()
    poller, task = await _slow_to_cancel(gate)
    task.cancel()
    await asyncio.sleep(0)
    closing = asyncio.create_task(poller.aclose())
    await asyncio.sleep(0)
    assert not closing.done()
    gate.set()

    await closing
    await asyncio.gather(task, return_exceptions=True)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_deactivated_token_waits_for_its_turn() -> None:
    """A token scheduled while its audience was wide is not polled after the pilot was found pending."""
    pilot, other = IndexingToken("vip", "t1"), IndexingToken("vip", "t2")
    target = Target({pilot: 20.0, other: 20.0})
    poller = target.poller()
    for token in (pilot, other):
        poller.record_issued(token)
    waits = [asyncio.create_task(wait(poller, token)) for token in (pilot, other)]
    await asyncio.sleep(0)
    audience = poller._subscriptions.audiences["vip"]
    audience.widen()
    for token_wait in audience.activate():
        poller._subscriptions.schedule_if_idle(token_wait)
    audience.narrow()

    await target.clock.sleep(19)
    assert target.views[pilot] > 3
    assert target.views[other] == 0
    await asyncio.gather(*waits)


async def test_queued_token_is_polled_first_at_its_deadline() -> None:
    """A token that waits for a free slot moves to the front at its deadline, and is polled once."""
    many = tokens(400)
    target = Target(dict.fromkeys(many, 0.0), round_trip=0.01)
    poller = target.poller(policy=PollingPolicy(in_flight=2))

    outcomes = await asyncio.gather(
        *(wait(poller, token, 0.5 if token is many[-1] else 60) for token in many)
    )

    assert [type(outcome) for outcome in outcomes] == [Audience] * 400
    assert set(target.views.values()) == {1}
    assert list(target.views).index(many[-1]) < 150


async def test_unsubscribing_costs_each_token_a_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of tokens of one audience end without a check of all others for each."""
    many = [IndexingToken("vip", f"t{number}") for number in range(3000)]
    poller = Target(dict.fromkeys(many, 1e9)).poller()
    subscriptions = [(token, poller.subscribe(token, None)) for token in many]
    audience = poller._subscriptions.audiences["vip"]
    while len(audience.active) < len(audience.waits):
        audience.widen()
        audience.activate()
    calls = 0
    schedule_if_idle = poller._subscriptions.schedule_if_idle

    def count(token_wait: TokenWait) -> None:
        nonlocal calls
        calls += 1
        schedule_if_idle(token_wait)

    monkeypatch.setattr(poller._subscriptions, "schedule_if_idle", count)
    await poller.unsubscribe(*subscriptions)

    assert calls <= len(many)
