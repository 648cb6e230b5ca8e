from __future__ import annotations

import asyncio
import itertools
import logging
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiobatch.errors import MalformedResponseError, TransportError
from aiobatch.events import Event, PauseEnded, PauseStarted, RequestFinished, RequestSent
from aiobatch.interfaces import Request, Response
from aiobatch.options import Limits
from aiobatch.testing import FakeClock, FakeTransport, json_response
from aiobatch.transport import PacingTransport

from .paced_server import DOWN, OK, Server, make_pacing, script, send_all, spawn
from .support import KEY, REST_KEY, make_request


async def test_closing_closes_the_inner_transport() -> None:
    """Closing the outermost transport closes all of them."""
    inner = FakeTransport([])
    await PacingTransport(inner, limits=Limits(), clock=FakeClock()).aclose()
    assert inner.closed


async def test_503_pauses_all_requests_but_one_probe() -> None:
    """During the pause one probe goes at a time, ever later. Then the window reopens in steps."""
    clock = FakeClock()
    server = Server(clock, lambda request: DOWN if clock.monotonic() < 10 else OK)
    pacing = make_pacing(server)
    task = asyncio.create_task(send_all(pacing, 300))
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
    server = Server(FakeClock(), lambda request: DOWN if server.clock.monotonic() < 1 else OK)
    pacing = make_pacing(server, emit=events.append)
    await send_all(pacing, 10)
    assert [event.failures for event in events if isinstance(event, PauseStarted)] == [1]


@pytest.mark.parametrize("header", ["30", "Thu, 01 Jan 1970 00:00:30 GMT"])
async def test_retry_after_is_obeyed(header: str) -> None:
    """Retry-After is a number of seconds or a date."""
    server = Server(FakeClock(), script(json_response(429, {}, {"retry-after": header})))
    pacing = make_pacing(server)
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
    server = Server(FakeClock(), script(DOWN, answer))
    pacing = make_pacing(server, emit=events.append)
    for _ in range(3):
        await send_all(pacing, 1)
    assert sum(isinstance(event, PauseStarted) for event in events) == pauses
    assert sum(isinstance(event, PauseEnded) for event in events) == 1
    assert not pacing.admission.is_paused


async def test_broken_connection_does_not_pause() -> None:
    """Only 503 and 429 are about the service as a whole."""
    server = Server(FakeClock(), script(TransportError("broken")))
    pacing = make_pacing(server)
    (error,) = await send_all(pacing, 1)
    assert isinstance(error, TransportError)
    assert not pacing.admission.is_paused


async def test_cancelled_probe_is_replaced_at_once() -> None:
    """The next request in the queue becomes the probe."""
    clock = FakeClock(autojump=False)
    server = Server(clock, script(json_response(503, {}, {"retry-after": "1"})))
    pacing = make_pacing(server)
    first = spawn(pacing.send(make_request()))
    await clock.advance(0.2)
    await first
    probe, second = spawn(pacing.send(make_request("probe"))), spawn(pacing.send(make_request("second")))
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
    warming = asyncio.create_task(send_all(pacing, 20))
    await clock.advance(1)
    await warming
    hanging = [spawn(pacing.send(make_request(f"slow{index}"))) for index in range(8)]
    down = spawn(pacing.send(make_request("down")))
    await clock.advance(0.01)
    sends = asyncio.create_task(send_all(pacing, 20))
    await clock.advance(2)
    assert sends.done()
    await sends
    slow.set()
    await asyncio.gather(down, *hanging)
    assert pacing.admission.in_flight == 0


async def test_events_describe_each_request_without_keys(caplog: pytest.LogCaptureFixture) -> None:
    """Sent, finished, paused and resumed come with times and redacted paths."""
    caplog.set_level(logging.DEBUG)
    events: list[Event] = []
    server = Server(FakeClock(), script(DOWN, TransportError("broken")), 0.25)
    pacing = make_pacing(server, emit=events.append)
    for _ in range(3):
        await send_all(pacing, 1)
    kinds = [type(event) for event in events]
    assert kinds == [
        RequestSent, PauseStarted, RequestFinished,
        RequestSent, PauseStarted, RequestFinished,
        RequestSent, PauseEnded, RequestFinished,
    ]  # fmt: skip
    path = "/1.0/***/custom-audience/a0"
    fields: dict[str, Any] = {
        "operation": "view",
        "method": "GET",
        "host": "",
        "path": path,
        "audience": None,
        "body_bytes": 0,
        "attempt": 1,
    }
    assert events[0] == RequestSent(**fields, request_id=1)
    assert events[5] == RequestFinished(
        **fields,
        request_id=2,
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

    pacing = make_pacing(Server(FakeClock(), script()), emit=emit)
    with pytest.raises(ZeroDivisionError):
        await pacing.send(make_request())
    assert pacing.admission.in_flight == 0


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
        server.tasks[request.label] = spawn(pacing.send(request))
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


async def test_polls_probe_ahead_of_calls() -> None:
    """Calls wait for the end of the pause, so that no early probe uses up their attempts."""
    clock = FakeClock()
    server = Server(clock, lambda request: DOWN if clock.monotonic() < 3 else OK)
    events: list[Event] = []
    pacing = make_pacing(server, pause_initial=8.0, emit=events.append)
    await pacing.send(make_request())
    call = spawn(pacing.send(make_request("call")))
    assert (await pacing.send_poll(make_request("poll"))).status == 200
    assert (await call).status == 200
    assert server.names[1:] == [make_request(name).label for name in ("poll", "call")]
    assert server.times[1] < 4.2
    assert [type(event) for event in events if isinstance(event, PauseStarted | PauseEnded)] == [
        PauseStarted,
        PauseEnded,
    ]


async def test_polls_probe_one_at_a_time() -> None:
    """A poll waits for a probe in flight, and for its slot if requests are limited."""
    clock = FakeClock()
    server = Server(clock, lambda request: DOWN if clock.monotonic() < 6 else OK)
    pacing = make_pacing(server, pause_initial=4.0, rate=2.0)
    await pacing.send(make_request())
    polls = (pacing.send_poll(make_request(f"poll {index}")) for index in range(20))
    answers = await asyncio.gather(*polls)
    assert server.most == 1
    assert sum(answer.status == 503 for answer in answers) <= 4
