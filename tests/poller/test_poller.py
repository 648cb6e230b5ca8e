"""The poller, on a fake clock."""

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


async def test_many_waiters_share_polls() -> None:
    """Two hundred waiters of one token cost as many polls as one."""
    target = Target({TOKEN: 6.0})
    poller = target.poller()

    audiences = await asyncio.gather(*(wait(poller, TOKEN) for _ in range(200)))

    assert len(audiences) == 200
    assert target.views.total() <= 10
    assert poller.tokens == 1
    assert poller.polls == target.views.total()


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


@pytest.mark.parametrize("error", [_maintenance(), TransportError("reset"), AiobatchError("odd")], ids=repr)
async def test_timeout_names_the_last_failure(error: Exception) -> None:
    """If no poll returned a state, the timeout names the last failure."""
    target = Target({TOKEN: 0.0}, answer=lambda *_: error)

    with pytest.raises(IndexingTimeoutError) as caught:
        await wait(target.poller(), TOKEN, 30)

    assert caught.value.last_state in {"HTTP 503", "TransportError", "AiobatchError"}


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


@pytest.mark.parametrize("timeout", [0.01, 0.5, 3.0, 100.0])
async def test_last_poll_is_answered_at_the_deadline(timeout: float) -> None:
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


async def test_poll_at_the_deadline_is_the_only_one_in_flight() -> None:
    """A token that comes due during its last poll is not polled twice."""
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


async def test_token_applied_just_before_the_deadline_is_found() -> None:
    """It is no timeout, however long the interval had grown."""
    target = Target({TOKEN: 59.9}, round_trip=0.0)

    await wait(target.poller(), TOKEN, 60)

    assert target.clock.monotonic() == pytest.approx(60)


async def test_hanging_poll_does_not_delay_the_deadline() -> None:
    """The wait times out while the poll is in flight."""
    target = Target({TOKEN: 0.0}, round_trip=3600.0)

    with pytest.raises(IndexingTimeoutError):
        await wait(target.poller(), TOKEN, 10)

    assert target.clock.monotonic() == pytest.approx(10, abs=0.05)


async def test_timeout_of_one_waiter_leaves_the_others_waiting() -> None:
    """A waiter that times out changes nothing for other waiters of its token."""
    target = Target({TOKEN: 20.0})
    poller = target.poller()

    short, long = await asyncio.gather(
        wait(poller, TOKEN, 5), wait(poller, TOKEN, 60), return_exceptions=True
    )

    assert isinstance(short, IndexingTimeoutError)
    assert isinstance(long, Audience)


async def test_wait_may_start_before_a_timed_out_waiter_unsubscribes() -> None:
    """The new waiter of the token gets its result."""
    target = Target({TOKEN: 8.0})
    poller = target.poller()
    first = poller.subscribe(TOKEN, 5)
    with pytest.raises(IndexingTimeoutError):
        await first

    second = poller.subscribe(TOKEN, 60)
    await second
    await poller.unsubscribe((TOKEN, first), (TOKEN, second))

    assert target.clock.monotonic() < 15


async def test_resumed_wait_keeps_the_age_of_its_token() -> None:
    """A wait after a timeout continues with the interval of the token's age."""
    target = Target({TOKEN: 12.0})
    poller = target.poller()
    poller.record_issued(TOKEN)
    with pytest.raises(IndexingTimeoutError):
        await wait(poller, TOKEN, 5)
    polls = target.views[TOKEN]

    await wait(poller, TOKEN, 60)

    assert target.clock.monotonic() < 18
    assert target.views[TOKEN] - polls <= 8


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


async def test_timeout_of_a_creation_names_the_404() -> None:
    """The audience was never created."""
    token = IndexingToken("vip", "t", Operation.CREATE)
    target = Target({token: 3.0}, answer=lambda *_: _not_found())

    with pytest.raises(IndexingTimeoutError) as caught:
        await wait(target.poller(), token, 30)

    assert "404" in (caught.value.last_state or "")


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


async def test_one_pilot_is_polled_for_an_audience() -> None:
    """Of an audience's tokens the oldest is polled first, and the others follow it fast."""
    mine = [IndexingToken("vip", f"t{number}") for number in range(100)]
    target = Target(dict.fromkeys(mine, 30.0))
    poller = target.poller()

    await asyncio.gather(*(wait(poller, token) for token in mine))

    assert target.views.total() < 120
    assert target.clock.monotonic() < 40


async def test_slow_pilot_does_not_delay_a_deadline() -> None:
    """A token behind its audience's pilot is polled at its own deadline."""
    pilot, other = IndexingToken("vip", "t1"), IndexingToken("vip", "t2")
    target = Target({pilot: 1e9, other: 0.0})
    poller = target.poller()

    late, done = await asyncio.gather(
        wait(poller, pilot, 20), wait(poller, other, 10), return_exceptions=True
    )

    assert isinstance(late, IndexingTimeoutError)
    assert isinstance(done, Audience)


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


@pytest.mark.parametrize("seed", [1, 2])
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

    assert {type(outcome) for outcome in outcomes} == {AiobatchError}
    assert all("closed" in str(outcome) for outcome in outcomes)
    assert target.clock.sleeping == 0


async def test_dead_deadlines_are_removed() -> None:
    """Deadlines of waits that ended long before do not accumulate."""
    target = Target({TOKEN: 1e9} | dict.fromkeys(tokens(3000), 0.0))
    poller = target.poller()
    blocker = asyncio.create_task(wait(poller, TOKEN))

    for token in tokens(3000):
        await wait(poller, token, 100_000)

    assert len(poller._timers) < 2500
    blocker.cancel()
    await asyncio.gather(blocker, return_exceptions=True)


async def test_tokens_that_are_not_due_are_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is known how long tokens take, only due tokens are checked."""
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
    assert looks < 3.5 * (poller.polls - polls)  # to schedule it, when it is due, and when it leaves
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


async def test_deadline_is_met_if_requests_are_limited() -> None:
    """A token at its deadline is polled ahead of all queued ones."""
    many = tokens(50)
    target = Target({**dict.fromkeys(many, 1e9), TOKEN: 9.0}, round_trip=0.0)
    poller = target.poller(limit=5)
    others = [asyncio.create_task(wait(poller, token)) for token in many]

    await wait(poller, TOKEN, 10)

    assert target.clock.monotonic() == pytest.approx(10, abs=0.05)
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)


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
