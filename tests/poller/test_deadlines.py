"""The deadlines of waits."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import pytest

from aiobatch.errors import (
    AiobatchError,
    AudienceNotFoundError,
    IndexingTimeoutError,
    MaintenanceError,
    TransportError,
)
from aiobatch.models import Audience, IndexingState, IndexingToken, Operation

from .simulation import ROUND_TRIP, Target, tokens, wait

TOKEN = IndexingToken("vip", "t1")


def _not_found() -> AudienceNotFoundError:
    return AudienceNotFoundError("missing", status=404, method="GET", path="/", name="ROUTE_NOT_FOUND")


def _maintenance() -> MaintenanceError:
    return MaintenanceError("down", status=503, method="GET", path="/")


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


@pytest.mark.parametrize("error", [_maintenance(), TransportError("reset"), AiobatchError("odd")], ids=repr)
async def test_timeout_names_the_last_failure(error: Exception) -> None:
    """If the last poll failed, the timeout has the failure's text, and it is the cause."""
    for first in (IndexingState.IN_PROGRESS, error):
        answers = iter([first])
        target = Target({TOKEN: 0.0}, answer=lambda *_, answers=answers: next(answers, error))

        with pytest.raises(IndexingTimeoutError, match=re.escape(f"The last poll failed: {error}")) as caught:
            await wait(target.poller(), TOKEN, 30)

        assert caught.value.last_failure == str(error)
        assert type(caught.value.__cause__) is type(error)
        assert str(caught.value.__cause__) == str(error)
        names = {"HTTP 503", "TransportError", "AiobatchError"} if first is error else {"IN_PROGRESS"}
        assert caught.value.last_state in names


async def test_timeout_after_a_recovery_names_no_failure() -> None:
    """A failure that a later poll made irrelevant is not the reason of a timeout."""
    answers: Iterator[IndexingState | Exception] = iter([_maintenance(), _maintenance()])
    target = Target({TOKEN: 1e9}, answer=lambda *_: next(answers, None))

    with pytest.raises(IndexingTimeoutError) as caught:
        await wait(target.poller(), TOKEN, 30)

    assert (caught.value.last_state, caught.value.last_failure) == ("IN_PROGRESS", None)
    assert caught.value.__cause__ is None


async def test_timeout_of_a_creation_names_the_404() -> None:
    """The audience was never created."""
    token = IndexingToken("vip", "t", Operation.CREATE)
    target = Target({token: 3.0}, answer=lambda *_: _not_found())

    with pytest.raises(IndexingTimeoutError) as caught:
        await wait(target.poller(), token, 30)

    assert "404" in (caught.value.last_state or "")


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


async def test_dead_deadlines_are_removed() -> None:
    """Deadlines of waits that ended long before do not accumulate."""
    target = Target({TOKEN: 1e9} | dict.fromkeys(tokens(1500), 0.0))
    poller = target.poller()
    blocker = asyncio.create_task(wait(poller, TOKEN))

    for token in tokens(1500):
        await wait(poller, token, 100_000)

    assert len(poller._timers) < 1200
    blocker.cancel()
    await asyncio.gather(blocker, return_exceptions=True)
