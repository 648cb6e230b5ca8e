from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiobatch._http import Request, Response
from aiobatch.errors import MalformedResponseError, TransportError
from aiobatch.events import Event, PauseEnded, PauseStarted, RequestFinished, RequestSent
from aiobatch.options import Limits
from aiobatch.testing import FakeClock, FakeTransport, json_response
from aiobatch.transport import PacingTransport

from .support import KEY, REST_KEY, make_request

OK = Response(status=200, body=b"{}")
DOWN = Response(status=503)


class _Server:
    """Responds after a while, and counts the requests in flight."""

    def __init__(self, clock: FakeClock, answer: Callable[[Request], Any], seconds: float = 0.1) -> None:
        self.clock = clock
        self.answer = answer
        self.seconds = seconds
        self.now = 0
        self.most = 0
        self.names: list[str] = []
        self.times: list[float] = []

    async def __call__(self, request: Request) -> Response:
        self.names.append(request.label)
        self.times.append(self.clock.monotonic())
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.clock.sleep(self.seconds)
            answer = self.answer(request)
            if isinstance(answer, Exception):
                raise answer
            assert isinstance(answer, Response)
            return answer
        finally:
            self.now -= 1


def _pacing(server: _Server, *, in_flight: int | None = None, **options: Any) -> PacingTransport:
    emit = options.pop("emit", None)
    return PacingTransport(
        FakeTransport(server),
        limits=Limits(**{"pause_initial": 1.0, "pause_maximum": 8.0} | options),
        clock=server.clock,
        rng=random.Random(7),
        emit=emit,
        in_flight=in_flight,
    )


def _spawn(coroutine: Coroutine[Any, Any, Response]) -> asyncio.Task[Response]:
    return asyncio.create_task(coroutine)


async def _send_all(pacing: PacingTransport, count: int) -> list[Response | BaseException]:
    sends = (pacing.send(make_request(f"a{index}")) for index in range(count))
    return await asyncio.gather(*sends, return_exceptions=True)


def _script(*answers: Response | Exception) -> Callable[[Request], Response | Exception]:
    rest = iter(answers)
    return lambda request: next(rest, OK)


# ── in flight ──


async def test_requests_in_flight_are_bounded_and_go_in_order() -> None:
    """The window is used in full, in the order of arrival."""
    server = _Server(FakeClock(), _script())
    pacing = _pacing(server, in_flight=4)
    await _send_all(pacing, 50)
    assert server.most == 4
    assert server.names == [make_request(f"a{index}").label for index in range(50)]
    assert (pacing.admission.requests, pacing.admission.in_flight) == (50, 0)
    assert server.clock.monotonic() == pytest.approx(1.3)


async def test_smaller_of_both_limits_counts() -> None:
    """The pool of a given session may be smaller, or larger, than the configured limit."""
    for pool, expected in ((2, 2), (9, 3), (None, 3)):
        server = _Server(FakeClock(), _script())
        await _send_all(
            PacingTransport(
                FakeTransport(server), limits=Limits(in_flight=3), clock=server.clock, in_flight=pool
            ),
            20,
        )
        assert server.most == expected


async def test_new_client_does_not_burst() -> None:
    """Two requests go at first, and one more for each response."""
    server = _Server(FakeClock(), _script())
    pacing = _pacing(server)
    task = asyncio.create_task(_send_all(pacing, 100))
    await server.clock.advance(0.05)
    assert server.now == 2
    await server.clock.advance(0.1)
    assert server.now == 4
    await task
    assert server.most <= 64


async def test_closing_closes_the_inner_transport() -> None:
    """Closing the outermost transport closes all of them."""
    inner = FakeTransport([])
    await PacingTransport(inner, limits=Limits(), clock=FakeClock()).aclose()
    assert inner.closed


# ── rate ──


async def test_rate_is_used_and_not_exceeded() -> None:
    """At 5 a second, 97 of 100 slots are used and none is exceeded."""
    server = _Server(FakeClock(), _script())
    pacing = _pacing(server, rate=5.0)
    await _send_all(pacing, 101)
    gaps = [late - early for early, late in itertools.pairwise(server.times)]
    assert min(gaps) >= 0.2
    assert 100 / (server.times[-1] - server.times[0]) >= 0.97 * 5
    assert 4.7 <= pacing.admission.rate <= 5


async def test_429_lowers_the_rate_until_it_grows_back() -> None:
    """After a refusal fewer requests go each second, and in time as many as before."""
    server = _Server(FakeClock(), _script(OK, OK, Response(status=429)))
    pacing = _pacing(server, rate=10.0)
    await _send_all(pacing, 200)
    gaps = [late - early for early, late in itertools.pairwise(server.times)]
    assert max(gaps[5:9]) > 0.14
    assert gaps[-1] == pytest.approx(0.102)


async def test_queue_and_limit_are_visible() -> None:
    """The poller sees how many requests wait, and how many may go each second."""
    server = _Server(FakeClock(), _script(OK, Response(status=429)), 0.0)
    pacing = _pacing(server, rate=10.0)
    task = asyncio.create_task(_send_all(pacing, 5))
    await server.clock.advance(0.0)
    assert (pacing.admission.queued, pacing.admission.limit) == (4, 10.0)
    await task
    assert pacing.admission.queued == 0
    assert pacing.admission.limit is not None
    assert pacing.admission.limit < 10
    assert _pacing(server).admission.limit is None


async def test_slots_during_a_pause_are_lost() -> None:
    """After a pause requests keep their distance."""
    server = _Server(FakeClock(), _script(OK, DOWN), 0.005)
    await _send_all(_pacing(server, rate=50.0), 20)
    gaps = [late - early for early, late in itertools.pairwise(server.times)]
    assert min(gaps) >= 0.02


async def test_unused_slots_are_lost() -> None:
    """A request after an idle time does not go together with the next one."""
    server = _Server(FakeClock(), _script(), 0.0)
    pacing = _pacing(server, rate=50.0)
    for _ in range(3):
        await _send_all(pacing, 3)
        await server.clock.sleep(0.3)
    assert min(late - early for early, late in itertools.pairwise(server.times)) >= 0.02


@pytest.mark.parametrize(("rate", "depth"), [(5.0, 1), (2.0, 2), (5.0, 5), (20.0, 20), (50.0, 50)])
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

    pacing = _pacing(_Server(clock, answer, 0.01), pause_initial=0.5)

    async def ask() -> None:
        while clock.monotonic() < 90:
            await pacing.send(make_request())

    await asyncio.gather(*(ask() for _ in range(16)))
    late = [status for now, status in answers if 30 <= now < 90]
    assert late.count(200) >= 0.9 * 60 * rate
    assert late.count(429) <= 0.03 * len(late)


# ── the brown-out ──


async def test_503_pauses_all_requests_but_one_probe() -> None:
    """During the pause one probe goes at a time, ever later. Then the window reopens in steps."""
    clock = FakeClock()
    server = _Server(clock, lambda request: DOWN if clock.monotonic() < 10 else OK)
    pacing = _pacing(server)
    task = asyncio.create_task(_send_all(pacing, 300))
    await clock.advance(5)
    assert pacing.admission.is_paused
    assert pacing.admission.breaker.status == 503
    assert pacing.admission.breaker.paused_until > 5
    assert pacing.admission.seconds_paused == pytest.approx(4.9)
    answers = await task
    assert not any(isinstance(answer, BaseException) for answer in answers)
    during = [when for when in server.times if 0.1 < when < 10]
    gaps = [late - early for early, late in itertools.pairwise(during)]
    assert len(during) <= 5
    assert gaps == sorted(gaps)
    reopened = [when for when in server.times if when >= 10]
    after = [reopened.count(when) for when in sorted(set(reopened))]
    assert after[:5] == [1, 2, 4, 8, 16]
    assert (pacing.admission.is_paused, pacing.admission.in_flight) == (False, 0)
    assert 10 <= pacing.admission.seconds_paused <= 20


async def test_responses_from_before_a_pause_change_nothing() -> None:
    """Ten 503s to requests from before the pause are one failure."""
    events: list[Event] = []
    server = _Server(FakeClock(), lambda request: DOWN if server.clock.monotonic() < 1 else OK)
    pacing = _pacing(server, emit=events.append)
    await _send_all(pacing, 10)
    assert [event.failures for event in events if isinstance(event, PauseStarted)] == [1]


@pytest.mark.parametrize("header", ["30", "Thu, 01 Jan 1970 00:00:30 GMT"])
async def test_retry_after_is_obeyed(header: str) -> None:
    """Retry-After is a number of seconds or a date."""
    server = _Server(FakeClock(), _script(json_response(429, {}, {"retry-after": header})))
    pacing = _pacing(server)
    await pacing.send(make_request())
    await pacing.send(make_request())
    assert 30 <= server.times[1] <= 30.2


@pytest.mark.parametrize(
    ("answer", "pauses"),
    [
        (TransportError("broken"), 2),
        (DOWN, 2),
        (MalformedResponseError("too large"), 1),
        (Response(status=500), 1),
        (ValueError("a mistake in the program"), 1),
    ],
    ids=["broken", "503", "malformed", "500", "mistake"],
)
async def test_probe_fails_without_a_response_or_with_a_refusal(
    answer: Response | Exception, pauses: int
) -> None:
    """Any response but 503 and 429 ends the pause."""
    events: list[Event] = []
    server = _Server(FakeClock(), _script(DOWN, answer))
    pacing = _pacing(server, emit=events.append)
    for _ in range(3):
        await _send_all(pacing, 1)
    assert sum(isinstance(event, PauseStarted) for event in events) == pauses
    assert sum(isinstance(event, PauseEnded) for event in events) == 1
    assert not pacing.admission.is_paused


async def test_broken_connection_does_not_pause() -> None:
    """Only 503 and 429 are about the service as a whole."""
    server = _Server(FakeClock(), _script(TransportError("broken")))
    pacing = _pacing(server)
    (error,) = await _send_all(pacing, 1)
    assert isinstance(error, TransportError)
    assert not pacing.admission.is_paused


async def test_cancelled_probe_is_replaced_at_once() -> None:
    """The next request in the queue becomes the probe."""
    clock = FakeClock(autojump=False)
    server = _Server(clock, _script(json_response(503, {}, {"retry-after": "1"})))
    pacing = _pacing(server)
    first = _spawn(pacing.send(make_request()))
    await clock.advance(0.2)
    await first
    probe, second = _spawn(pacing.send(make_request("probe"))), _spawn(pacing.send(make_request("second")))
    await clock.advance(0.95)
    assert server.names[1:] == [make_request("probe").label]
    probe.cancel()
    await clock.advance(0.0)
    assert server.names[2:] == [make_request("second").label]
    await clock.advance(0.1)
    assert (await second).status == 200
    assert not pacing.admission.is_paused
    with pytest.raises(asyncio.CancelledError):
        await probe


async def test_hanging_requests_from_before_a_pause_block_no_other() -> None:
    """They do not fill the reopening window."""
    clock = FakeClock(autojump=False)
    slow = asyncio.Event()

    async def answer(request: Request) -> Response:
        await (slow.wait() if "slow" in request.label else clock.sleep(0.01))
        return DOWN if "down" in request.label else OK

    pacing = PacingTransport(
        FakeTransport(answer),
        limits=Limits(pause_initial=1.0, in_flight=9),
        clock=clock,
        rng=random.Random(1),
    )
    warming = asyncio.create_task(_send_all(pacing, 20))
    await clock.advance(1)
    await warming
    hanging = [_spawn(pacing.send(make_request(f"slow{index}"))) for index in range(8)]
    down = _spawn(pacing.send(make_request("down")))
    await clock.advance(0.01)
    sends = asyncio.create_task(_send_all(pacing, 20))
    await clock.advance(2)
    assert sends.done()
    await sends
    slow.set()
    await asyncio.gather(down, *hanging)
    assert pacing.admission.in_flight == 0


# ── cancelling ──


async def test_cancelled_request_leaves_the_queue() -> None:
    """A cancelled request, also the first in the queue, blocks no other and is not counted."""
    clock = FakeClock(autojump=False)
    server = _Server(clock, _script(), 1.0)
    pacing = _pacing(server, in_flight=1)
    tasks = [_spawn(pacing.send(make_request(f"a{index}"))) for index in range(5)]
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
    server = _Server(clock, _script(DOWN), 0.0)
    pacing = _pacing(server, rate=1.0)
    await pacing.send(make_request())
    head, behind = _spawn(pacing.send(make_request("head"))), _spawn(pacing.send(make_request("behind")))
    await clock.advance(0.5)
    head.cancel()
    await clock.advance(2)
    assert (await behind).status == 200
    assert server.names[1:] == [make_request("behind").label]
    assert pacing.admission.in_flight == 0
    await asyncio.gather(head, return_exceptions=True)


# ── seeing ──


async def test_events_describe_each_request_without_keys(caplog: pytest.LogCaptureFixture) -> None:
    """Sent, finished, paused and resumed come with times and redacted paths."""
    caplog.set_level(logging.DEBUG)
    events: list[Event] = []
    server = _Server(FakeClock(), _script(DOWN, TransportError("broken")), 0.25)
    pacing = _pacing(server, emit=events.append)
    for _ in range(3):
        await _send_all(pacing, 1)
    kinds = [type(event) for event in events]
    assert kinds == [
        RequestSent, PauseStarted, RequestFinished,
        RequestSent, PauseStarted, RequestFinished,
        RequestSent, PauseEnded, RequestFinished,
    ]  # fmt: skip
    path = "/1.0/***/custom-audience/a0"
    assert events[0] == RequestSent(operation="view", method="GET", path=path, body_bytes=0)
    assert events[5] == RequestFinished(
        operation="view",
        method="GET",
        path=path,
        status=None,
        error="TransportError",
        seconds=0.25,
    )
    shown = repr(events) + caplog.text
    assert KEY not in shown
    assert REST_KEY not in shown
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "INFO"]


async def test_failing_hook_leaves_the_counters_right() -> None:
    """The error is raised, and no request stays counted in flight."""

    def emit(event: Event) -> None:
        raise ZeroDivisionError

    pacing = _pacing(_Server(FakeClock(), _script()), emit=emit)
    with pytest.raises(ZeroDivisionError):
        await pacing.send(make_request())
    assert pacing.admission.in_flight == 0


# ── any sequence ──

_ANSWERS = st.sampled_from([200, 200, 200, 404, 429, 500, 503, "broken", "cancel"])


@settings(max_examples=60)
@given(
    answers=st.lists(_ANSWERS, max_size=60),
    window=st.integers(1, 12),
    rate=st.none() | st.floats(1, 100),
    seconds=st.lists(st.sampled_from([0.0, 0.01, 0.3, 4.0]), min_size=1, max_size=8),
)
def test_any_sequence_of_responses_keeps_the_rules(
    answers: list[int | str], window: int, rate: float | None, seconds: list[float]
) -> None:
    """Requests keep the limit and their order, with one probe at a time, and none is lost."""
    asyncio.run(_check_rules(answers, window, rate, seconds))


async def _check_rules(
    answers: list[int | str], window: int, rate: float | None, seconds: list[float]
) -> None:
    clock = FakeClock()
    limits = Limits(in_flight=window, rate=rate)
    server = _CheckingServer(clock, window, answers, seconds)
    pacing = PacingTransport(FakeTransport(server), limits=limits, clock=clock, rng=random.Random(3))
    server.pacing = pacing
    for index in range(len(answers) + 3):
        request = make_request(f"a{index}")
        server.tasks[request.label] = _spawn(pacing.send(request))
    await asyncio.gather(*server.tasks.values(), return_exceptions=True)
    assert server.order == list(server.tasks)
    assert (pacing.admission.in_flight, pacing.admission.requests, server.probes) == (0, len(server.tasks), 0)
    assert (await pacing.send(make_request("last"))).status == 200


class _CheckingServer:
    """Responds from a script, and checks the rules with each request."""

    pacing: PacingTransport

    def __init__(self, clock: FakeClock, window: int, answers: list[int | str], seconds: list[float]) -> None:
        self.clock = clock
        self.window = window
        self.script = iter(answers)
        self.seconds = itertools.cycle(seconds)
        self.order: list[str] = []
        self.probes = 0
        self.tasks: dict[str, asyncio.Task[Response]] = {}

    async def __call__(self, request: Request) -> Response:
        self.order.append(request.label)
        is_probe = self.pacing.admission.is_paused
        self.probes += is_probe
        assert self.pacing.admission.in_flight <= self.window
        assert self.probes <= 1
        try:
            await self.clock.sleep(next(self.seconds))
        finally:
            self.probes -= is_probe
        kind = next(self.script, 200)
        if kind == "cancel":
            self.tasks[request.label].cancel()
            await asyncio.sleep(0)
        if kind == "broken":
            msg = "broken"
            raise TransportError(msg)
        return Response(status=int(kind))
