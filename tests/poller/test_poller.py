"""The poller's scheduler, on a fake clock."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiobatch._poller._token_wait import TokenWait
from aiobatch.errors import (
    AiobatchError,
    AudienceNotFoundError,
    ForbiddenError,
    IndexingTimeoutError,
    MaintenanceError,
    TokenReplacedError,
    TransportError,
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
    """A wait ends with the audience once its token is APPLIED, and leaves nothing running."""
    target = Target({TOKEN: 5.0})
    poller = target.poller()

    audience = await wait(poller, TOKEN)

    assert audience.indexing_state is IndexingState.APPLIED
    assert 5.0 <= target.clock.monotonic() < 7.5
    assert target.clock.sleeping == 0


async def test_already_applied_is_told_at_once() -> None:
    """A token of unknown age is asked about at once: it may have been applied long ago."""
    target = Target({TOKEN: 0.0})

    await wait(target.poller(), TOKEN)

    assert target.clock.monotonic() == pytest.approx(ROUND_TRIP)


async def test_fresh_token_is_not_asked_about_at_once() -> None:
    """A token that the client has just been given is not asked about before it can be applied."""
    target = Target({TOKEN: 0.0})
    poller = target.poller()
    poller.record_issued(TOKEN)

    await wait(poller, TOKEN)

    assert target.view_times[0] > 0.2


async def test_many_waiters_cost_one_poll() -> None:
    """Two hundred waiters of one token cost what one costs."""
    target = Target({TOKEN: 6.0})
    poller = target.poller()

    audiences = await asyncio.gather(*(wait(poller, TOKEN) for _ in range(200)))

    assert len(audiences) == 200
    assert target.views.total() <= 10
    assert poller.tokens == 1
    assert poller.polls == target.views.total()


async def test_replaced_ends_the_wait() -> None:
    """REPLACED is final, for every waiter with an error of its own."""
    target = Target({TOKEN: 0.0}, answer=lambda *_: IndexingState.REPLACED)
    poller = target.poller()

    errors = await asyncio.gather(*(wait(poller, TOKEN) for _ in range(3)), return_exceptions=True)

    assert [type(error) for error in errors] == [TokenReplacedError] * 3
    assert len({id(error) for error in errors}) == 3


async def test_minute_of_maintenance_ends_no_wait() -> None:
    """A minute of 503 ends no wait, and does not become a storm of polls."""
    target = Target(dict.fromkeys(tokens(50), 30.0))
    target.answer = lambda *_: _maintenance() if target.clock.monotonic() < 60 else None
    poller = target.poller()

    await asyncio.gather(*(wait(poller, token, 900) for token in tokens(50)))

    assert 60 <= target.clock.monotonic() < 75
    assert max(target.views.values()) < 25


@pytest.mark.parametrize("error", [_maintenance(), TransportError("reset"), AiobatchError("odd")], ids=repr)
async def test_passing_failure_is_named_at_the_timeout(error: Exception) -> None:
    """Where no state was ever seen the timeout names the last failure."""
    target = Target({TOKEN: 0.0}, answer=lambda *_: error)

    with pytest.raises(IndexingTimeoutError) as caught:
        await wait(target.poller(), TOKEN, 30)

    assert caught.value.last_state in {"HTTP 503", "TransportError", "AiobatchError"}


async def test_fatal_answer_ends_the_wait() -> None:
    """An answer that waiting does not mend ends the wait."""
    error = ForbiddenError("no", status=403, method="GET", path="/")
    target = Target({TOKEN: 0.0}, answer=lambda *_: error)

    with pytest.raises(ForbiddenError):
        await wait(target.poller(), TOKEN)


async def test_defect_ends_the_wait() -> None:
    """Whatever a poll raises, the wait does not hang."""
    target = Target({TOKEN: 0.0}, answer=lambda *_: ZeroDivisionError("a defect"))

    with pytest.raises(ZeroDivisionError):
        await wait(target.poller(), TOKEN)


async def test_state_missing_from_an_answer_is_a_failed_poll() -> None:
    """An answer without a state ends no wait."""
    target = Target({TOKEN: 3.0})

    async def view(token: IndexingToken) -> Audience:
        audience = await target.view(token)
        return Audience(name="vip", id_type=audience.id_type) if target.views[token] < 3 else audience

    audience = await wait(target.poller(view=view), TOKEN, 60)

    assert audience.indexing_state is IndexingState.APPLIED


@pytest.mark.parametrize("timeout", [0.01, 0.5, 3.0, 100.0])
async def test_deadline_is_met_and_the_last_poll_is_made_at_it(timeout: float) -> None:
    """The wait ends within 50 ms of its deadline, and the last poll's answer arrives there."""
    target = Target({TOKEN: 1e9})

    with pytest.raises(IndexingTimeoutError) as caught:
        await wait(target.poller(), TOKEN, timeout)

    assert target.clock.monotonic() == pytest.approx(timeout, abs=0.05)
    assert target.view_times[-1] == pytest.approx(max(timeout - ROUND_TRIP, 0.0), abs=0.03)
    assert caught.value.polls == target.views[TOKEN]
    assert caught.value.last_state == "IN_PROGRESS"
    assert caught.value.token == str(TOKEN)
    assert isinstance(caught.value, TimeoutError)


async def test_poll_at_the_deadline_is_the_only_one_under_way() -> None:
    """A token that comes due while it is asked about at its deadline is not asked about twice."""
    target = Target({TOKEN: 1e9}, round_trip=0.02)
    in_flight: list[int] = []

    async def count(token: IndexingToken) -> Audience:
        in_flight.append(target.in_flight + 1)
        return await target.view(token)

    poller = target.poller(view=count)
    poller.record_issued(TOKEN)
    for hundredths in range(300, 400):
        with pytest.raises(IndexingTimeoutError):
            await wait(poller, TOKEN, hundredths / 100)

    assert max(in_flight) == 1


async def test_applied_just_before_the_deadline_counts() -> None:
    """What is applied before the last poll is no timeout, however long the interval had grown."""
    target = Target({TOKEN: 59.9}, round_trip=0.0)

    await wait(target.poller(), TOKEN, 60)

    assert target.clock.monotonic() == pytest.approx(60)


async def test_hanging_poll_does_not_hold_the_deadline() -> None:
    """A poll that hangs ends neither the wait nor its deadline."""
    target = Target({TOKEN: 0.0}, round_trip=3600.0)

    with pytest.raises(IndexingTimeoutError):
        await wait(target.poller(), TOKEN, 10)

    assert target.clock.monotonic() == pytest.approx(10, abs=0.05)


async def test_one_deadline_leaves_the_others_waiting() -> None:
    """A waiter that times out takes nothing from the others of its token."""
    target = Target({TOKEN: 20.0})
    poller = target.poller()

    short, long = await asyncio.gather(
        wait(poller, TOKEN, 5), wait(poller, TOKEN, 60), return_exceptions=True
    )

    assert isinstance(short, IndexingTimeoutError)
    assert isinstance(long, Audience)


async def test_wait_may_begin_while_a_timed_out_waiter_has_not_left() -> None:
    """A waiter that comes between another's timeout and its leaving is served."""
    target = Target({TOKEN: 8.0})
    poller = target.poller()
    first = poller.subscribe(TOKEN, 5)
    with pytest.raises(IndexingTimeoutError):
        await first

    second = poller.subscribe(TOKEN, 60)
    await second
    await poller.unsubscribe((TOKEN, first), (TOKEN, second))

    assert target.clock.monotonic() < 15


async def test_wait_can_be_resumed() -> None:
    """A wait that timed out goes on where it was: its age is remembered."""
    target = Target({TOKEN: 12.0})
    poller = target.poller()
    poller.record_issued(TOKEN)
    with pytest.raises(IndexingTimeoutError):
        await wait(poller, TOKEN, 5)
    polls = target.views[TOKEN]

    await wait(poller, TOKEN, 60)

    assert target.clock.monotonic() < 18
    assert target.views[TOKEN] - polls <= 8


async def test_cancelled_waiter_disturbs_nobody() -> None:
    """Cancelling one waiter leaves the poll under way and the others waiting."""
    target = Target({TOKEN: 4.0})
    poller = target.poller()
    waits = [asyncio.create_task(wait(poller, TOKEN)) for _ in range(3)]
    await asyncio.sleep(0)
    waits[1].cancel()

    outcomes = await asyncio.gather(*waits, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [Audience, asyncio.CancelledError, Audience]


async def test_last_waiter_takes_the_token_along() -> None:
    """When the last waiter of a token is cancelled, even while a poll is under way, polling ends."""
    target = Target({TOKEN: 1e9})
    poller = target.poller()
    task = asyncio.create_task(wait(poller, TOKEN))
    await target.asked.wait()

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert target.in_flight == 0
    assert target.clock.sleeping == 0


async def test_freed_slot_is_used() -> None:
    """A cancelled poll gives its place to the next token in queue."""
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
    """A creation that is not indexed yet answers 404: the wait goes on."""
    token = IndexingToken("vip", "t", Operation.CREATE)
    target = Target({token: 3.0}, answer=lambda _, poll: _not_found() if poll < 3 else None)

    audience = await wait(target.poller(), token)

    assert audience.indexing_state is IndexingState.APPLIED


async def test_create_token_is_named_missing_at_the_timeout() -> None:
    """A creation that never shows up times out and says so."""
    token = IndexingToken("vip", "t", Operation.CREATE)
    target = Target({token: 3.0}, answer=lambda *_: _not_found())

    with pytest.raises(IndexingTimeoutError) as caught:
        await wait(target.poller(), token, 30)

    assert "404" in (caught.value.last_state or "")


async def test_delete_token_takes_404_for_done() -> None:
    """A deletion is done when the audience is gone."""
    token = IndexingToken("vip", "t", Operation.DELETE)
    target = Target({token: 99.0}, answer=lambda _, poll: _not_found() if poll > 2 else None)

    audience = await wait(target.poller(), token)

    assert (audience.name, audience.nb_ids) == ("vip", 0)


async def test_missing_audience_ends_an_update() -> None:
    """An update whose audience is gone will never be applied."""
    target = Target({TOKEN: 99.0}, answer=lambda *_: _not_found())

    with pytest.raises(AudienceNotFoundError):
        await wait(target.poller(), TOKEN)


async def test_unknown_state_keeps_polling_and_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    """A state that is not documented ends no wait, is warned of once and named at the timeout."""
    target = Target({TOKEN: 0.0}, answer=lambda *_: IndexingState("QUEUED"))

    with pytest.raises(IndexingTimeoutError) as caught:
        await wait(target.poller(), TOKEN, 30)

    assert caught.value.last_state == "QUEUED"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert target.views[TOKEN] > 3


async def test_one_pilot_goes_ahead_for_an_audience() -> None:
    """The tokens of one audience are not all asked about: the oldest is, and the others follow it fast."""
    mine = [IndexingToken("vip", f"t{number}") for number in range(100)]
    target = Target(dict.fromkeys(mine, 30.0))
    poller = target.poller()

    await asyncio.gather(*(wait(poller, token) for token in mine))

    assert target.views.total() < 120
    assert target.clock.monotonic() < 40


async def test_pilot_that_is_late_does_not_hold_back_a_deadline() -> None:
    """A token behind its audience's pilot is asked about at its own deadline."""
    pilot, other = IndexingToken("vip", "t1"), IndexingToken("vip", "t2")
    target = Target({pilot: 1e9, other: 0.0})
    poller = target.poller()

    late, done = await asyncio.gather(
        wait(poller, pilot, 20), wait(poller, other, 10), return_exceptions=True
    )

    assert isinstance(late, IndexingTimeoutError)
    assert isinstance(done, Audience)


async def test_width_is_set_back_by_a_pending_token() -> None:
    """When tokens behind an applied pilot turn out pending, one of them becomes the pilot."""
    mine = [IndexingToken("vip", f"t{number}") for number in range(40)]
    target = Target({token: 5.0 if number == 0 else 40.0 for number, token in enumerate(mine)})
    poller = target.poller()

    await asyncio.gather(*(wait(poller, token) for token in mine))

    assert target.views.total() < 75


async def test_polls_in_flight_and_per_second_are_bounded() -> None:
    """However many tokens wait, no more polls are under way or leave per second than the policy says."""
    many = tokens(300)
    target = Target(dict.fromkeys(many, 1.0))
    poller = target.poller(policy=PollingPolicy(in_flight=4, rate=50))

    await asyncio.gather(*(wait(poller, token) for token in many))

    assert target.peak <= 4
    for second in range(int(target.clock.monotonic())):
        assert sum(second <= time < second + 1 for time in target.view_times) <= 55


@pytest.mark.parametrize("seed", [1, 2])
async def test_learns_when_to_ask(seed: int) -> None:
    """Five hundred tokens, applied after 2 to 10 s, cost few polls and little lag without any hint."""
    rng = random.Random(seed)
    many = tokens(500)
    target = Target({token: rng.uniform(2, 10) for token in many})
    poller = target.poller(seed=seed + 100)  # of its own: the instants must not follow from the jitter
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


async def test_events_tell_of_polls_and_ends() -> None:
    """The hook hears of every poll and of how the wait ended."""
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
    """Closing ends every wait with an error that says how to go on, and every task."""
    target = Target(dict.fromkeys(tokens(5), 1000000000.0))
    poller = target.poller(sweep=True)
    waits = [asyncio.create_task(wait(poller, token)) for token in tokens(5)]
    await target.asked.wait()

    await poller.aclose()
    outcomes = await asyncio.gather(*waits, return_exceptions=True)

    assert {type(outcome) for outcome in outcomes} == {AiobatchError}
    assert all("closed" in str(outcome) for outcome in outcomes)
    assert target.clock.sleeping == 0


async def test_old_entries_are_swept_out() -> None:
    """Deadlines of waits that ended long before do not pile up."""
    target = Target({TOKEN: 1e9} | dict.fromkeys(tokens(3000), 0.0))
    poller = target.poller()
    blocker = asyncio.create_task(wait(poller, TOKEN))

    for token in tokens(3000):
        await wait(poller, token, 100_000)

    assert len(poller._timers) < 2500
    blocker.cancel()
    await asyncio.gather(blocker, return_exceptions=True)


async def test_tokens_that_are_not_due_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is known how long tokens take, only those that are due are looked at, however many wait."""
    target = Target(dict.fromkeys(tokens(500), 1e9))
    poller = target.poller()
    looks = 0
    true = poller._schedule.due

    def count(pending: TokenWait) -> float:
        nonlocal looks
        looks += 1
        return true(pending)

    waits = [asyncio.create_task(wait(poller, token)) for token in tokens(500)]
    await target.clock.sleep(100)
    monkeypatch.setattr(poller._schedule, "due", count)
    polls = poller.polls
    await target.clock.sleep(200)

    assert poller.polls > polls + 5_000
    assert looks < 3.5 * (poller.polls - polls)  # to plan it, when its time has come, and when it leaves
    for waiting in waits:
        waiting.cancel()
    await asyncio.gather(*waits, return_exceptions=True)


async def test_births_are_bounded() -> None:
    """Ages of tokens that nobody waits for are kept for so many."""
    poller = Target({}).poller()

    for number in range(10_050):
        poller.record_issued(IndexingToken("vip", f"t{number}"))

    assert len(poller._subscriptions.issue_times) == 10_000


async def test_polls_leave_late_where_requests_are_limited() -> None:
    """Where requests are limited, few polls stand in line for them: whom to ask next is decided late."""
    many = tokens(50)
    target = Target(dict.fromkeys(many, 0.0))
    poller = target.poller(limit=5)

    await asyncio.gather(*(wait(poller, token) for token in many))

    assert target.requests.most <= 2
    assert target.clock.monotonic() == pytest.approx(10, abs=0.5)


async def test_who_gains_most_is_asked_first_where_requests_are_limited() -> None:
    """Where not all can be asked about in time, those come first whose news is most overdue."""
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


async def test_deadline_is_met_where_requests_are_limited() -> None:
    """A token at its deadline is asked about ahead of all that stand in queue."""
    many = tokens(50)
    target = Target({**dict.fromkeys(many, 1e9), TOKEN: 9.0}, round_trip=0.0)
    poller = target.poller(limit=5)
    others = [asyncio.create_task(wait(poller, token)) for token in many]

    await wait(poller, TOKEN, 10)

    assert target.clock.monotonic() == pytest.approx(10, abs=0.05)
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def test_rate_is_forgotten_with_the_last_waiter() -> None:
    """A wait that begins after all others have left is not held up by what was planned for them."""
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
def test_every_wait_ends_as_it_should(waits: list[tuple[int, float, float, float]], seed: int) -> None:
    """Whatever is waited for, and whatever cancelled: each wait ends in time and truthfully."""
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
