from __future__ import annotations

import asyncio
from typing import Any, get_type_hints

import pytest

from aiobatch import AudienceClient, InvalidInputError, PollingPolicy, Project
from aiobatch.interfaces import Request, Response
from aiobatch.sandbox import PROJECT_KEY, REST_API_KEY, Sandbox, SandboxOptions
from aiobatch.testing import FakeClock, FakeTransport, SandboxFields, json_response, running_sandbox


def _request() -> Request:
    return Request(
        label="view of audience 'vip'", operation="view", method="GET", path="/", target="/", headers={}
    )


async def test_time_jumps_when_every_task_sleeps() -> None:
    """An hour of sleep takes no real time, and sleepers wake in order."""
    clock = FakeClock()
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic()))

    await asyncio.gather(sleeper("late", 3600), sleeper("early", 1), sleeper("same", 3600))
    assert woken == [("early", 1), ("late", 3600), ("same", 3600)]
    assert clock.time() == 3600


async def test_time_does_not_jump_while_a_task_works() -> None:
    """The clock waits for a task that uses iterations of the loop without sleeping."""
    clock = FakeClock()

    async def worker() -> float:
        for _ in range(10):
            await asyncio.sleep(0)
        return clock.monotonic()

    _, seen = await asyncio.gather(clock.sleep(5), worker())
    assert seen == 0


async def test_cancelled_sleeper_is_forgotten() -> None:
    """Time does not jump to the due time of a cancelled sleeper."""
    clock = FakeClock()
    task = asyncio.create_task(clock.sleep(100))
    await asyncio.sleep(0)
    assert clock.sleeping == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert clock.sleeping == 0
    await clock.sleep(1)
    assert clock.monotonic() == 1


async def test_advance_wakes_sleepers_repeatedly() -> None:
    """A loop of sleeps runs as often as the advanced time allows."""
    clock = FakeClock(10, autojump=False)
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            await clock.sleep(1)
            ticks.append(clock.monotonic())

    task = asyncio.create_task(tick())
    await clock.advance(3.5)
    assert ticks == [11, 12, 13]
    assert clock.monotonic() == 13.5
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_sleep_of_zero_yields_once() -> None:
    """A sleep of zero seconds passes no time."""
    clock = FakeClock(autojump=False)
    await clock.sleep(0)
    assert clock.monotonic() == 0


async def test_transport_responds_by_a_function() -> None:
    """The function receives each request, and may respond later."""
    clock = FakeClock()

    async def later() -> Response:
        await clock.sleep(2)
        return json_response(200, {"a": 1}, {"retry-after": "3"})

    transport = FakeTransport(lambda request: later())
    request = _request()
    response = await transport.send(request)
    assert (response.status, response.body, response.headers["retry-after"]) == (200, b'{"a":1}', "3")
    assert transport.requests == [request]
    assert clock.monotonic() == 2


async def test_transport_responds_by_a_script() -> None:
    """Responses are returned in order, exceptions are raised, and a further request fails the test."""
    transport = FakeTransport([Response(status=503), ValueError("no")])
    assert (await transport.send(_request())).status == 503
    with pytest.raises(ValueError, match="no"):
        await transport.send(_request())
    with pytest.raises(AssertionError, match="view of audience 'vip'"):
        await transport.send(_request())
    assert not transport.closed
    await transport.aclose()
    assert transport.closed


async def test_running_sandbox_listens_on_loopback() -> None:
    """The sandbox takes its options as keywords."""
    async with running_sandbox(indexing_delay=0.0) as sandbox:
        assert sandbox.url.startswith("http://127.0.0.1:")


PROJECT = Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY)


def polling_of(url: str) -> PollingPolicy:
    """Return the policy by which a new client polls the server at *url*."""
    return AudienceClient(PROJECT, base_url=url)._polling


async def test_running_sandbox_is_polled_fast_by_default() -> None:
    """A client polls it at once, unless it has a policy of its own, or the sandbox limits the rate."""
    usual = PollingPolicy()
    async with running_sandbox() as sandbox, running_sandbox(rate=5) as limited, Sandbox() as plain:
        fast = polling_of(sandbox.url)
        assert fast.minimum < 0.01 < usual.minimum
        assert fast.timeout == usual.timeout
        assert polling_of(f"{sandbox.url}/") == fast
        assert AudienceClient(PROJECT, base_url=sandbox.url, polling=usual)._polling is usual
        assert polling_of(limited.url) == polling_of(plain.url) == usual
        assert polling_of("https://api.batch.com") == usual
        url = sandbox.url
    assert polling_of(url) == usual


async def test_advance_stops_at_its_time() -> None:
    """A clock with autojump does not jump while it is advanced."""
    clock = FakeClock()
    task = asyncio.create_task(clock.sleep(100))
    await clock.advance(1)
    assert clock.monotonic() == 1
    assert not task.done()
    await task
    assert clock.monotonic() == 100


@pytest.mark.parametrize("script", [5, None, "x", {"status": 200}, json_response(200, {})])
def test_script_must_be_a_list_of_responses(script: Any) -> None:
    """A single response is not a script."""
    with pytest.raises(InvalidInputError, match="answer must be a function of the request, or a list"):
        FakeTransport(script)


@pytest.mark.parametrize("answer", [None, {"name": "vip"}, ValueError])
async def test_response_must_be_a_response(answer: Any) -> None:
    """Neither a body nor the class of an error is a response."""
    transport = FakeTransport(lambda _: answer)
    with pytest.raises(InvalidInputError, match=r"An answer must be a Response such as json_response\(200"):
        await transport.send(_request())


async def test_script_may_raise_a_cancellation() -> None:
    """A script may raise any exception."""
    with pytest.raises(asyncio.CancelledError):
        await FakeTransport([asyncio.CancelledError()]).send(_request())


def test_sandbox_options_are_typed() -> None:
    """The keywords of `running_sandbox` have the names and types of the sandbox's options."""
    keywords = get_type_hints(SandboxFields)
    arguments = get_type_hints(SandboxOptions.__init__)
    del arguments["return"]
    assert keywords == arguments


async def test_sandbox_options_are_passed_in_one_way() -> None:
    """Options and fields cannot be combined."""
    with pytest.raises(InvalidInputError, match=r"either options or rate\. Use attrs\.evolve"):
        async with running_sandbox(SandboxOptions(), rate=5):
            pass
