"""Admission by requests in flight and by the rate."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from aiobatch.interfaces import Request, Response
from aiobatch.options import Limits
from aiobatch.testing import FakeClock, FakeTransport
from aiobatch.transport import PacingTransport

from ..helpers.sweep import examples
from .paced_server import DOWN, OK, Server, make_pacing, script, send_all, spawn
from .support import make_request


async def test_requests_in_flight_are_bounded_and_go_in_order() -> None:
    """The window is used in full, in the order of arrival."""
    server = Server(FakeClock(), script())
    pacing = make_pacing(server, in_flight=4)
    await send_all(pacing, 50)
    assert server.most == 4
    assert server.names == [make_request(f"a{index}").label for index in range(50)]
    assert (pacing.admission.requests, pacing.admission.in_flight) == (50, 0)
    assert server.clock.monotonic() == pytest.approx(1.3)


async def test_smaller_of_both_limits_counts() -> None:
    """The pool of a given session may be smaller, or larger, than the configured limit."""
    for pool, expected in ((2, 2), (9, 3), (None, 3)):
        server = Server(FakeClock(), script())
        await send_all(
            PacingTransport(
                FakeTransport(server), limits=Limits(in_flight=3), clock=server.clock, in_flight=pool
            ),
            20,
        )
        assert server.most == expected


async def test_new_client_does_not_burst() -> None:
    """Two requests go at first, and one more for each response."""
    server = Server(FakeClock(), script())
    pacing = make_pacing(server)
    task = asyncio.create_task(send_all(pacing, 100))
    await server.clock.advance(0.05)
    assert server.now == 2
    await server.clock.advance(0.1)
    assert server.now == 4
    await task
    assert server.most <= 64


async def test_rate_is_used_and_not_exceeded() -> None:
    """At 5 a second, 97 of 100 slots are used and none is exceeded."""
    server = Server(FakeClock(), script())
    pacing = make_pacing(server, rate=5.0)
    await send_all(pacing, 101)
    gaps = [late - early for early, late in itertools.pairwise(server.times)]
    assert min(gaps) >= 0.2
    assert 100 / (server.times[-1] - server.times[0]) >= 0.97 * 5
    assert 4.7 <= pacing.admission.rate <= 5


async def test_429_lowers_the_rate_until_it_grows_back() -> None:
    """After a refusal fewer requests go each second, and in time as many as before."""
    server = Server(FakeClock(), script(OK, OK, Response(status=429)))
    pacing = make_pacing(server, rate=10.0)
    await send_all(pacing, 200)
    gaps = [late - early for early, late in itertools.pairwise(server.times)]
    assert max(gaps[5:9]) > 0.14
    assert gaps[-1] == pytest.approx(0.102)


async def test_queue_and_limit_are_visible() -> None:
    """The poller sees how many requests wait, and how many may go each second."""
    server = Server(FakeClock(), script(OK, Response(status=429)), 0.0)
    pacing = make_pacing(server, rate=10.0)
    task = asyncio.create_task(send_all(pacing, 5))
    await server.clock.advance(0.0)
    assert (pacing.admission.queued, pacing.admission.limit) == (4, 10.0)
    await task
    assert pacing.admission.queued == 0
    assert pacing.admission.limit is not None
    assert pacing.admission.limit < 10
    assert make_pacing(server).admission.limit is None


async def test_slots_during_a_pause_are_lost() -> None:
    """After a pause requests keep their distance."""
    server = Server(FakeClock(), script(OK, DOWN), 0.005)
    await send_all(make_pacing(server, rate=50.0), 20)
    gaps = [late - early for early, late in itertools.pairwise(server.times)]
    assert min(gaps) >= 0.02


async def test_unused_slots_are_lost() -> None:
    """A request after an idle time does not go together with the next one."""
    server = Server(FakeClock(), script(), 0.0)
    pacing = make_pacing(server, rate=50.0)
    for _ in range(3):
        await send_all(pacing, 3)
        await server.clock.sleep(0.3)
    assert min(late - early for early, late in itertools.pairwise(server.times)) >= 0.02


_LIMITS = [(5.0, 1), (2.0, 2), (20.0, 20), (5.0, 5), (50.0, 50)]


@pytest.mark.parametrize(("rate", "depth"), _LIMITS[: examples(3, len(_LIMITS))])
async def test_unknown_limit_is_found_and_used(rate: float, depth: int) -> None:
    """Of a limit that only 429 shows, 90 % are used, and at most 3 % of all requests are refused."""
    clock = FakeClock()
    level, updated = float(depth), 0.0
    answers: list[tuple[float, int]] = []

    def answer(request: Request) -> Response:
        nonlocal level, updated
        now = clock.monotonic()
        level, updated = min(depth, level + (now - updated) * rate), now
        status = 200 if level >= 1 else 429
        level -= status == 200
        answers.append((now, status))
        return Response(status=status)

    pacing = make_pacing(Server(clock, answer, 0.01), pause_initial=0.5)

    async def ask() -> None:
        while clock.monotonic() < 90:
            await pacing.send(make_request())

    await asyncio.gather(*(ask() for _ in range(16)))
    late = [status for now, status in answers if 30 <= now < 90]
    assert late.count(200) >= 0.9 * 60 * rate
    assert late.count(429) <= 0.03 * len(late)


async def test_cancelled_request_leaves_the_queue() -> None:
    """A cancelled request, also the first in the queue, blocks no other and is not counted."""
    clock = FakeClock(autojump=False)
    server = Server(clock, script(), 1.0)
    pacing = make_pacing(server, in_flight=1)
    tasks = [spawn(pacing.send(make_request(f"a{index}"))) for index in range(5)]
    await clock.advance(0.5)
    for index in (1, 2):  # the first in the queue and the next one
        tasks[index].cancel()
    await clock.advance(3)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert server.names == [make_request(f"a{index}").label for index in (0, 3, 4)]
    assert (pacing.admission.in_flight, pacing.admission.requests) == (0, 3)


async def test_cancelled_sleeper_leaves_the_queue() -> None:
    """The first in the queue may be cancelled while it sleeps."""
    clock = FakeClock(autojump=False)
    server = Server(clock, script(DOWN), 0.0)
    pacing = make_pacing(server, rate=1.0)
    await pacing.send(make_request())
    head, behind = spawn(pacing.send(make_request("head"))), spawn(pacing.send(make_request("behind")))
    await clock.advance(0.5)
    head.cancel()
    await clock.advance(2)
    assert (await behind).status == 200
    assert server.names[1:] == [make_request("behind").label]
    assert pacing.admission.in_flight == 0
    await asyncio.gather(head, return_exceptions=True)
