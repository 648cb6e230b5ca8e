"""The poller, on a fake clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiobatch.errors import (
    AiobatchError,
    AudienceNotFoundError,
    ForbiddenError,
    IndexingTimeoutError,
    MaintenanceError,
    TokenReplacedError,
    WaitInterruptedError,
)
from aiobatch.events import Event, TokenPolled, TokenSettled
from aiobatch.models import Audience, IndexingState, IndexingToken, Operation
from aiobatch.options import PollingPolicy

from .simulation import ROUND_TRIP, Target, tokens, wait

TOKEN = IndexingToken("vip", "t1")


def _not_found() -> AudienceNotFoundError:
    return AudienceNotFoundError("missing", status=404, method="GET", path="/", name="ROUTE_NOT_FOUND")


def _maintenance() -> MaintenanceError:
    return MaintenanceError("down", status=503, method="GET", path="/")


async def test_applied_ends_the_wait() -> None:
    """A wait ends with the audience once its token is APPLIED, and leaves no task."""
    target = Target({TOKEN: 5.0})
    poller = target.poller()

    audience = await wait(poller, TOKEN)

    assert audience.indexing_state is IndexingState.APPLIED
    assert 5.0 <= target.clock.monotonic() < 7.5
    assert target.clock.sleeping == 0


async def test_token_of_unknown_age_is_polled_at_once() -> None:
    """It may have been applied long ago."""
    target = Target({TOKEN: 0.0})

    await wait(target.poller(), TOKEN)

    assert target.clock.monotonic() == pytest.approx(ROUND_TRIP)


async def test_new_token_is_not_polled_at_once() -> None:
    """A token that was just issued is not polled before it can be applied."""
    target = Target({TOKEN: 0.0})
    poller = target.poller()
    poller.record_issued(TOKEN)

    await wait(poller, TOKEN)

    assert target.view_times[0] > 0.2


async def test_replaced_ends_the_wait() -> None:
    """REPLACED is final, and each waiter gets its own error."""
    target = Target({TOKEN: 0.0}, answer=lambda *_: IndexingState.REPLACED)
    poller = target.poller()

    errors = await asyncio.gather(*(wait(poller, TOKEN) for _ in range(3)), return_exceptions=True)

    assert [type(error) for error in errors] == [TokenReplacedError] * 3
    assert len({id(error) for error in errors}) == 3


async def test_minute_of_maintenance_ends_no_wait() -> None:
    """A minute of 503 ends no wait, and causes no storm of polls."""
    target = Target(dict.fromkeys(tokens(50), 30.0))
    target.answer = lambda *_: _maintenance() if target.clock.monotonic() < 60 else None
    poller = target.poller()

    await asyncio.gather(*(wait(poller, token, 900) for token in tokens(50)))

    assert 60 <= target.clock.monotonic() < 75
    assert max(target.views.values()) < 25


async def test_lasting_error_ends_the_wait() -> None:
    """An error that waiting cannot fix ends the wait."""
    error = ForbiddenError("no", status=403, method="GET", path="/")
    target = Target({TOKEN: 0.0}, answer=lambda *_: error)

    with pytest.raises(ForbiddenError):
        await wait(target.poller(), TOKEN)


async def test_unexpected_error_ends_the_wait() -> None:
    """Whatever a poll raises, the wait does not hang."""
    target = Target({TOKEN: 0.0}, answer=lambda *_: ZeroDivisionError("a bug"))

    with pytest.raises(ZeroDivisionError):
        await wait(target.poller(), TOKEN)


async def test_response_without_a_state_is_a_failed_poll() -> None:
    """It ends no wait."""
    target = Target({TOKEN: 3.0})

    async def view(token: IndexingToken) -> Audience:
        audience = await target.view(token)
        return Audience(name="vip", id_type=audience.id_type) if target.views[token] < 3 else audience

    audience = await wait(target.poller(view=view), TOKEN, 60)

    assert audience.indexing_state is IndexingState.APPLIED


async def test_cancelled_waiter_leaves_the_others_waiting() -> None:
    """The poll in flight continues for the other waiters."""
    target = Target({TOKEN: 4.0})
    poller = target.poller()
    waits = [asyncio.create_task(wait(poller, TOKEN)) for _ in range(3)]
    await asyncio.sleep(0)
    waits[1].cancel()

    outcomes = await asyncio.gather(*waits, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [Audience, asyncio.CancelledError, Audience]


async def test_polling_ends_with_the_last_waiter() -> None:
    """If the last waiter is cancelled, even during a poll, polling of the token ends."""
    target = Target({TOKEN: 1e9})
    poller = target.poller()
    task = asyncio.create_task(wait(poller, TOKEN))
    await target.asked.wait()

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert target.in_flight == 0
    assert target.clock.sleeping == 0


async def test_slot_of_a_cancelled_poll_is_used() -> None:
    """The next token in the queue is polled."""
    first, second = tokens(2)
    target = Target({first: 1e9, second: 0.0}, round_trip=50.0)
    poller = target.poller(policy=PollingPolicy(in_flight=1))
    blocked = asyncio.create_task(wait(poller, first))
    await target.asked.wait()
    waiting = asyncio.create_task(wait(poller, second))
    await target.clock.advance(1)

    blocked.cancel()
    await waiting

    assert target.clock.monotonic() < 55


async def test_create_token_tolerates_404() -> None:
    """A creation that is not indexed yet answers 404, and the wait continues."""
    token = IndexingToken("vip", "t", Operation.CREATE)
    target = Target({token: 3.0}, answer=lambda _, poll: _not_found() if poll < 3 else None)

    audience = await wait(target.poller(), token)

    assert audience.indexing_state is IndexingState.APPLIED


async def test_404_ends_the_wait_for_a_deletion() -> None:
    """A deletion is applied when the audience no longer exists."""
    token = IndexingToken("vip", "t", Operation.DELETE)
    target = Target({token: 99.0}, answer=lambda _, poll: _not_found() if poll > 2 else None)

    audience = await wait(target.poller(), token)

    assert (audience.name, audience.nb_ids) == ("vip", 0)


async def test_404_ends_the_wait_for_an_update() -> None:
    """An update of a missing audience will never be applied."""
    target = Target({TOKEN: 99.0}, answer=lambda *_: _not_found())

    with pytest.raises(AudienceNotFoundError):
        await wait(target.poller(), TOKEN)


async def test_unknown_state_keeps_polling_and_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    """An undocumented state ends no wait, is logged once, and is named at the timeout."""
    target = Target({TOKEN: 0.0}, answer=lambda *_: IndexingState("QUEUED"))

    with pytest.raises(IndexingTimeoutError) as caught:
        await wait(target.poller(), TOKEN, 30)

    assert caught.value.last_state == "QUEUED"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert target.views[TOKEN] > 3


async def test_events_describe_polls_and_outcomes() -> None:
    """The hook gets each poll, and how the wait ended."""
    events: list[Event] = []
    target = Target({TOKEN: 2.0}, answer=lambda _, poll: _maintenance() if poll == 1 else None)

    await wait(target.poller(emit=events.append), TOKEN)

    polled = [event for event in events if isinstance(event, TokenPolled)]
    assert [event.error for event in polled][:1] == ["MaintenanceError"]
    assert polled[-1].state == "APPLIED"
    assert isinstance(events[-1], TokenSettled)
    assert (events[-1].outcome, events[-1].polls) == ("APPLIED", target.views[TOKEN])


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (lambda *_: IndexingState.REPLACED, "REPLACED"),
        (lambda *_: ForbiddenError("no", status=403, method="GET", path="/"), "FAILED"),
        (lambda *_: None, "TIMED_OUT"),
    ],
)
async def test_events_name_the_outcome(
    answer: Callable[[IndexingToken, int], IndexingState | Exception | None], outcome: str
) -> None:
    """The last event names the outcome."""
    events: list[Event] = []
    target = Target({TOKEN: 1e9}, answer=answer)

    with pytest.raises(AiobatchError):
        await wait(target.poller(emit=events.append), TOKEN, 5)

    assert isinstance(events[-1], TokenSettled)
    assert events[-1].outcome == outcome


async def test_close_ends_waits() -> None:
    """Closing ends each wait with an error that names the next step, and ends all tasks."""
    target = Target(dict.fromkeys(tokens(5), 1000000000.0))
    poller = target.poller(sweep=True)
    waits = [asyncio.create_task(wait(poller, token)) for token in tokens(5)]
    await target.asked.wait()

    await poller.aclose()
    outcomes = await asyncio.gather(*waits, return_exceptions=True)

    assert {type(outcome) for outcome in outcomes} == {WaitInterruptedError}
    assert all("closed" in str(outcome) for outcome in outcomes)
    assert target.clock.sleeping == 0


async def test_rate_limit_is_reset_with_the_last_waiter() -> None:
    """A wait that starts after all others ended is not delayed by their schedule."""
    one, two = tokens(2)
    target = Target({one: 1e9, two: 0.0})
    poller = target.poller(policy=PollingPolicy(rate=0.01, in_flight=1))
    task = asyncio.create_task(wait(poller, one))
    await target.clock.advance(30)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    await wait(poller, two)

    assert target.clock.monotonic() <= 110


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.floats(0, 60), st.floats(0.1, 80), st.floats(0, 50)), max_size=12
    ),
    st.integers(0, 100),
)
@settings(max_examples=50)
def test_any_mix_of_waits_ends_correctly(waits: list[tuple[int, float, float, float]], seed: int) -> None:
    """Whatever is waited for or cancelled, each wait ends in time with the right result."""
    asyncio.run(_scenario(waits, seed))


async def _scenario(waits: list[tuple[int, float, float, float]], seed: int) -> None:
    known = [IndexingToken(f"a{number}", f"t{index}") for index, (number, *_) in enumerate(waits)]
    target = Target({token: applied for token, (_, applied, *_) in zip(known, waits, strict=True)})
    poller = target.poller(seed=seed)

    async def one(token: IndexingToken, applied: float, timeout: float, cancelled: float) -> None:
        started = target.clock.monotonic()
        task = asyncio.create_task(wait(poller, token, timeout))
        killer = asyncio.create_task(_cancel_later(task, cancelled))
        try:
            await task
        except IndexingTimeoutError:
            assert target.clock.monotonic() - started == pytest.approx(timeout, abs=0.05)
            assert applied >= started + timeout - 0.1
        except asyncio.CancelledError:
            assert target.clock.monotonic() >= started + cancelled - 0.001
        else:
            assert target.clock.monotonic() >= applied
        finally:
            killer.cancel()
            await asyncio.gather(killer, return_exceptions=True)

    async def _cancel_later(task: asyncio.Task[Audience], seconds: float) -> None:
        await target.clock.sleep(seconds)
        task.cancel()

    await asyncio.gather(*(one(token, *rest) for token, (_, *rest) in zip(known, waits, strict=True)))
    assert target.in_flight == 0
    assert target.clock.sleeping == 0
