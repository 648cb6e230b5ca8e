"""The time that a call waits for admission, and calls that fail at once during a pause."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Mapping
from typing import Any

import pytest

from aiobatch.errors import (
    AiobatchError,
    ConnectError,
    MaintenanceError,
    RateLimitedError,
    RequestTimeoutError,
)
from aiobatch.interfaces import Response
from aiobatch.options import Limits, RetryPolicy
from aiobatch.testing import FakeClock, FakeTransport, json_response
from aiobatch.transport import PacingTransport, RetryingTransport
from aiobatch.transport._deadlines import Deadlines

from ..conftest import leaked_tasks
from .paced_server import OK, Server
from .support import make_request


class Calls:
    """Calls through retries and pacing, and how long each of them took.

    Args:
        server: The server.
        limits: The client's limits.
        policy: Fields of the RetryPolicy.
    """

    def __init__(self, server: Server, limits: Limits, **policy: Any) -> None:
        self.clock = server.clock
        self.pacing = PacingTransport(
            FakeTransport(server), limits=limits, clock=self.clock, rng=random.Random(3)
        )
        self.retrying = RetryingTransport(
            self.pacing, policy=RetryPolicy(**policy), clock=self.clock, rng=random.Random(5)
        )
        self.seconds: list[float] = []

    async def send(self, start: float = 0.0, **fields: Any) -> Response | AiobatchError:
        """Send a request at *start*, and return its response or error."""
        await self.clock.sleep(start)
        started = self.clock.monotonic()
        try:
            return await self.retrying.send(make_request(**fields))
        except AiobatchError as error:
            return error
        finally:
            self.seconds.append(self.clock.monotonic() - started)


@pytest.mark.parametrize(
    "headers", [{}, {"retry-after": "3600"}, {"retry-after": "30"}, {"retry-after": "0"}]
)
@pytest.mark.parametrize("status", [503, 429])
@pytest.mark.parametrize("calls", [1, 2, 40])
@pytest.mark.parametrize("timeout", [3.0, 10.0])
async def test_call_ends_within_its_timeout_during_an_outage(
    headers: Mapping[str, str], status: int, calls: int, timeout: float
) -> None:
    """Paused or not, with or without Retry-After, no call waits longer, and the error has the next probe."""
    server = Server(FakeClock(), lambda _: json_response(status, {}, headers), seconds=0.0)
    many = Calls(server, Limits(), attempts=3, timeout=timeout)

    results = await asyncio.gather(*(many.send(number + 0.001) for number in range(calls)))

    assert max(many.seconds) <= timeout + 1e-6
    for result in results:
        if isinstance(result, Response):
            assert result.status == status
            continue
        assert isinstance(result, MaintenanceError if status == 503 else RateLimitedError)
        assert result.status == status
        assert result.retry_after is not None
        assert "Nothing was sent" in str(result)
    assert not await leaked_tasks()


@pytest.mark.parametrize("limits", [Limits(rate=0.5), Limits(in_flight=1)])
async def test_call_ends_within_its_timeout_behind_other_requests(limits: Limits) -> None:
    """Without a pause the error is that nothing was sent, with what to change."""
    server = Server(FakeClock(), lambda _: OK, seconds=0.0 if limits.rate else 2.0)
    many = Calls(server, limits, timeout=10.0)

    results = await asyncio.gather(*(many.send() for _ in range(30)))

    failed = [result for result in results if isinstance(result, AiobatchError)]
    assert 20 <= len(failed) < 30
    assert all(isinstance(error, ConnectError) and "Nothing was sent" in str(error) for error in failed)
    assert max(many.seconds) <= 12.0 + 1e-6
    assert len(server.times) == len(results) - len(failed)
    assert not await leaked_tasks()


async def test_polls_have_no_admission_timeout() -> None:
    """Polls wait as long as their wait does, because they are sent without a retry policy."""
    server = Server(FakeClock(), lambda _: OK, seconds=0.0)
    pacing = PacingTransport(FakeTransport(server), limits=Limits(rate=0.1), clock=server.clock)

    await asyncio.gather(*(pacing.send(make_request()) for _ in range(20)))

    assert server.clock.monotonic() > 180


@pytest.mark.parametrize("timeout", [5.0, 100.0])
async def test_cancelled_call_leaves_the_queue(timeout: float) -> None:
    """A cancellation from outside wins, and the calls behind it are sent."""
    server = Server(FakeClock(), lambda _: OK, seconds=1.0)
    calls = Calls(server, Limits(in_flight=1), timeout=timeout)
    tasks = [asyncio.create_task(calls.send()) for _ in range(4)]
    await server.clock.sleep(0.5)
    tasks[1].cancel()

    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert [isinstance(result, asyncio.CancelledError) for result in results] == [False, True, False, False]
    assert len(server.times) == 3
    assert not await leaked_tasks()


@pytest.mark.parametrize(
    "first", [RequestTimeoutError("slow"), Response(status=500), Response(status=503)], ids=repr
)
async def test_attempt_that_was_sent_decides(first: Response | Exception) -> None:
    """If the retry is not admitted in time, the result is that of the first attempt, which had an effect."""
    answers = iter([first])
    clock = FakeClock()
    server = Server(clock, lambda _: next(answers, json_response(503, {}, {"retry-after": "60"})), 0.0)
    calls = Calls(server, Limits(pause_initial=60, pause_maximum=60), attempts=5, timeout=10.0, initial=1.0)

    result, _ = await asyncio.gather(calls.send(), calls.send(0.0001))

    if isinstance(first, Response):
        assert isinstance(result, Response)
        assert result.status in {first.status, 503}
    else:
        assert isinstance(result, RequestTimeoutError)
    assert calls.retrying.budget == RetryPolicy().budget
    assert calls.retrying.retries == 0


@pytest.mark.parametrize("status", [503, 429])
async def test_paused_client_fails_at_once_on_request(status: int) -> None:
    """The error has the seconds until the next probe. The probe is sent, and its success ends the pause."""
    answers = iter([json_response(status, {}, {"retry-after": "8"})])
    server = Server(FakeClock(), lambda _: next(answers, OK), seconds=1.0)
    calls = Calls(server, Limits(), attempts=3, timeout=60.0, fail_when_paused=True)

    starts = [0.0, 1.5, 5.0, 8.9, 9.5, 9.6, 10.6]
    results = await asyncio.gather(*(calls.send(start) for start in starts))

    kind = MaintenanceError if status == 503 else RateLimitedError
    assert isinstance(results[0], Response)
    assert results[0].status == status
    for result, seconds in zip(results[1:4], (7.5, 4.0, 0.1), strict=True):
        assert isinstance(result, kind)
        assert result.retry_after == pytest.approx(seconds)
    assert isinstance(results[4], Response)  # the probe
    assert results[4].status == 200
    assert isinstance(results[5], kind)  # while the probe is in flight
    assert isinstance(results[6], Response)
    assert calls.seconds.count(0.0) == 4


@pytest.mark.parametrize("longest", [2.0, 30.0, 120.0])
async def test_longest_retry_after_is_configurable(longest: float) -> None:
    """A server that asks for an hour is probed after the configured time."""
    server = Server(FakeClock(), lambda _: json_response(503, {}, {"retry-after": "3600"}), seconds=0.0)
    calls = Calls(server, Limits(retry_after_max=longest), attempts=1, timeout=1000.0)

    await asyncio.gather(*(calls.send() for _ in range(5)))

    # The first two requests of a client are sent together.
    gaps = [later - earlier for earlier, later in itertools.pairwise(server.times[1:])]
    assert gaps == pytest.approx([longest] * len(gaps))
    assert len(gaps) == 3


async def test_cancellation_at_the_deadline_wins() -> None:
    """A task that is cancelled when its time is up ends as cancelled."""
    deadlines = Deadlines(FakeClock(autojump=False))

    async def work() -> None:
        with deadlines.until(5.0):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    deadlines.expired.add(task)
    task.cancel()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert not deadlines.expired
    await asyncio.sleep(0)
    assert not await leaked_tasks()


class _Shortest(random.Random):
    """Jitter that makes each delay as short as it can be."""

    def uniform(self, a: float, b: float) -> float:
        """Return the lower bound."""
        return a


async def test_single_call_outlives_an_outage_of_eleven_seconds() -> None:
    """By default its attempts and the pauses between them last so long, whatever the jitter."""
    clock, rng = FakeClock(), _Shortest()
    server = Server(clock, lambda _: Response(status=503) if clock.monotonic() < 11 else OK)
    pacing = PacingTransport(FakeTransport(server), limits=Limits(), clock=clock, rng=rng)
    retrying = RetryingTransport(pacing, policy=RetryPolicy(), clock=clock, rng=rng)

    assert (await retrying.send(make_request())).status == 200
