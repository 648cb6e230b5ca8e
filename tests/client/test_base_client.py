from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest

from aiobatch import (
    AiobatchError,
    App,
    AudienceClient,
    Event,
    IdType,
    IndexingToken,
    InvalidInputError,
    Limits,
    Project,
    RequestSent,
    TokenPolled,
    WaitInterruptedError,
)
from aiobatch.interfaces import Request, Response
from aiobatch.testing import FakeClock, FakeTransport, json_response

from ..conftest import leaked_tasks
from .arguments.rejections import Call, NoRequests, collect

APP = App(rest_api_key="rest", api_key="app")
PROJECT = Project(rest_api_key="rest", project_key="project")
VIEW = {"name": "vip", "type": "CUSTOM_ID", "nb_ids": 3, "indexing_state": "IN_PROGRESS"}


def applied(request: Request) -> Response:
    """Respond to any view with APPLIED."""
    return json_response(200, VIEW | {"indexing_state": "APPLIED"})


def in_progress(request: Request) -> Response:
    """Respond to any view with IN_PROGRESS."""
    return json_response(200, VIEW)


async def test_repr_shows_version_and_state() -> None:
    """A client's repr contains its API and whether it is closed, and no key."""
    client = AudienceClient(PROJECT, transport=FakeTransport(applied))
    assert repr(client) == "<AudienceClient of API 2.11>"

    await client.aclose()

    assert repr(client) == "<AudienceClient of API 2.11, closed>"


async def test_constructor_arguments_are_public() -> None:
    """Code that builds on the client can read its target, limits and default type of IDs."""
    limits = Limits(rate=5)
    client = AudienceClient(APP, limits=limits, transport=FakeTransport(applied))

    assert client.target is APP
    assert client.limits is limits
    assert client.rate_limit == 5
    assert client.default_id_type is IdType.CUSTOM_IDS


@pytest.mark.parametrize("target", ["rest", None, App, {"rest_api_key": "rest"}])
def test_target_must_be_an_app_or_project(target: Any) -> None:
    """Any other target is rejected when the client is created."""
    with pytest.raises(InvalidInputError, match="target must be an App or a Project, not"):
        AudienceClient(target)


METHODS: Mapping[str, Call] = {
    "create": lambda c: c.create("vip"),
    "view": lambda c: c.view("vip"),
    "view_many": lambda c: collect(c.view_many(["vip"])),
    "list_audiences": lambda c: collect(c.list_audiences()),
    "update": lambda c: c.update("vip", add=["u1"]),
    "replace": lambda c: c.replace("vip", ["u1"]),
    "upload": lambda c: c.upload("vip", add=["u1"]),
    "await_applied": lambda c: c.await_applied(IndexingToken("vip", "abc")),
    "settle": lambda c: collect(c.settle([IndexingToken("vip", "abc")])),
    "delete": lambda c: c.delete("vip"),
}


@pytest.mark.parametrize("method", list(METHODS))
async def test_unopened_or_closed_client_sends_nothing(method: str) -> None:
    """Every method needs an open client."""
    transport = NoRequests()
    client = AudienceClient(PROJECT, transport=transport)
    with pytest.raises(InvalidInputError, match=r"not open.*async with AudienceClient"):
        await METHODS[method](client)
    async with client:
        pass
    with pytest.raises(InvalidInputError, match=r"is closed\. Create a new AudienceClient"):
        await METHODS[method](client)
    assert transport.requests == []


@pytest.mark.parametrize("method", list(METHODS))
async def test_client_works_only_on_its_own_loop(method: str) -> None:
    """Another event loop, such as a thread's, cannot use a client."""

    async def elsewhere() -> object:
        return await METHODS[method](client)

    async with AudienceClient(PROJECT, transport=NoRequests()) as client:
        with pytest.raises(InvalidInputError, match="belongs to another event loop"):
            await asyncio.to_thread(asyncio.run, elsewhere())


async def test_client_is_opened_only_once() -> None:
    """An open client and a closed client both reject another opening."""
    async with AudienceClient(PROJECT, transport=FakeTransport(applied)) as client:
        with pytest.raises(InvalidInputError, match="opened before"):
            await client.__aenter__()
    with pytest.raises(InvalidInputError, match="opened before"):
        await client.__aenter__()


async def test_closing_again_does_nothing() -> None:
    """The first close closes the transport, and the second does nothing."""
    transport = FakeTransport(applied)
    async with AudienceClient(PROJECT, transport=transport) as client:
        await client.aclose()
        assert transport.closed
        transport.closed = False

    assert not transport.closed


async def test_closing_ends_waits() -> None:
    """Pending waits end with an error with the call to resume, and leave no task."""
    clock = FakeClock()
    async with AudienceClient(PROJECT, transport=FakeTransport(in_progress), clock=clock) as client:
        waits = [
            asyncio.create_task(client.await_applied(IndexingToken("vip", f"t{number}"), timeout=None))
            for number in range(3)
        ]
        await clock.sleep(5)

    outcomes = await asyncio.gather(*waits, return_exceptions=True)

    assert {type(outcome) for outcome in outcomes} == {WaitInterruptedError}
    assert all("await_applied('vip:update:t" in str(outcome) for outcome in outcomes)
    assert not await leaked_tasks()


async def test_cancelled_close_still_closes_the_transport() -> None:
    """A cancellation while polls end still closes the connections."""
    gate = asyncio.Event()

    class Slow(FakeTransport):
        async def send(self, request: Request) -> Response:
            try:
                await asyncio.Event().wait()
            finally:
                await gate.wait()
            raise AssertionError

    transport = Slow([])
    client = await AudienceClient(PROJECT, transport=transport).__aenter__()
    waiting = asyncio.create_task(client.await_applied(IndexingToken("vip", "t")))
    for _ in range(20):
        await asyncio.sleep(0)
    closing = asyncio.create_task(client.aclose())
    await asyncio.sleep(0)

    closing.cancel()
    await asyncio.sleep(0)
    gate.set()

    with pytest.raises(asyncio.CancelledError):
        await closing
    assert transport.closed
    await asyncio.gather(waiting, return_exceptions=True)


async def test_stats_count_requests_by_kind() -> None:
    """The counters distinguish requests, retries, polls, tokens and pauses."""
    clock = FakeClock()
    states = iter([503, 200, 200, 200])

    def answer(request: Request) -> Response:
        status = next(states)
        return json_response(status, VIEW | {"indexing_state": "APPLIED"})

    async with AudienceClient(PROJECT, transport=FakeTransport(answer), clock=clock) as client:
        await client.view("vip")
        await client.await_applied(IndexingToken("vip", "t"))
        stats = client.stats

    assert (stats.requests, stats.retries, stats.polls, stats.tokens) == (3, 1, 1, 1)
    assert stats.rate > 0
    assert stats.seconds_paused > 0


async def test_hook_receives_all_events() -> None:
    """The hook receives the events of the transports and of the poller."""
    heard: list[Event] = []
    async with AudienceClient(PROJECT, transport=FakeTransport(applied), on_event=heard.append) as client:
        await client.await_applied(IndexingToken("vip", "t"))

    kinds = [type(event) for event in heard]
    assert kinds[0] is RequestSent
    assert TokenPolled in kinds


async def test_exception_of_the_hook_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The client logs an exception of the hook and continues."""

    def explode(event: Event) -> None:
        raise ZeroDivisionError

    async with AudienceClient(PROJECT, transport=FakeTransport(applied), on_event=explode) as client:
        audience = await client.await_applied(IndexingToken("vip", "t"))

    assert audience.name == "vip"
    assert "on_event raised: event=RequestSent" in caplog.text


async def test_closed_session_sends_nothing() -> None:
    """A session that is closed before or after the client is created is rejected."""
    session = aiohttp.ClientSession()
    client = AudienceClient(APP, session=session, base_url="http://127.0.0.1:9")
    await session.close()
    with pytest.raises(InvalidInputError, match=r"session.*is closed"):
        AudienceClient(APP, session=session)
    async with client:
        with pytest.raises(InvalidInputError, match=r"session.*is closed"):
            await client.view("vip")


async def test_passed_session_stays_open() -> None:
    """Closing the client does not close a session that was passed in."""
    async with aiohttp.ClientSession() as session:
        async with AudienceClient(PROJECT, session=session):
            pass
        assert not session.closed


async def test_connection_pool_limits_requests_in_flight() -> None:
    """No request is admitted that would wait for a connection and use up its timeout there."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=3)) as session:
        client = AudienceClient(PROJECT, session=session)
        assert client._paced.admission.max_in_flight == 3
    assert AudienceClient(PROJECT)._paced.admission.max_in_flight == Limits().in_flight


async def test_polls_are_not_retried() -> None:
    """A failed poll is followed by a later poll, not by a retry."""
    clock = FakeClock()
    states = iter([500, 500, 200])
    transport = FakeTransport(lambda _: json_response(next(states), VIEW | {"indexing_state": "APPLIED"}))
    async with AudienceClient(PROJECT, transport=transport, clock=clock) as client:
        await client.await_applied(IndexingToken("vip", "t"))
        assert client.stats.retries == 0
        assert client.stats.polls == 3


async def test_many_tokens_are_polled_by_the_list() -> None:
    """In 2.x the poller reads states from the list, page by page."""
    clock = FakeClock()
    names = [f"a{number}" for number in range(150)]

    def answer(request: Request) -> Response:
        state = "APPLIED" if clock.monotonic() > 10 else "IN_PROGRESS"
        if request.operation == "list":
            start = 100 if "from=next" in request.target else 0
            rows = [VIEW | {"name": name, "indexing_state": state} for name in names[start : start + 100]]
            more = {"has_more": not start, "next_from": "next"} if not start else {"has_more": False}
            return json_response(200, {"audiences": rows, "count": 150, **more})
        name = request.target.partition("name=")[2].partition("&")[0]
        return json_response(200, VIEW | {"name": name, "indexing_state": state})

    transport = FakeTransport(answer)
    async with AudienceClient(PROJECT, transport=transport, clock=clock) as client:
        await asyncio.gather(*(client.await_applied(IndexingToken(name, "t")) for name in names))

    assert sum(request.operation == "list" for request in transport.requests) >= 2


@pytest.mark.parametrize("wait", ["rate", "pause", "retry"])
async def test_closing_ends_waiting_calls(wait: str) -> None:
    """A call that waits for the rate, a pause or a retry ends when its client is closed."""
    answers = {"rate": (200, {}), "pause": (503, {"retry-after": "60"}), "retry": (500, {})}
    status, headers = answers[wait]
    transport = FakeTransport(lambda _: json_response(status, VIEW, headers))
    clock = FakeClock(autojump=False)
    limits = Limits(rate=0.01 if wait == "rate" else None)
    async with AudienceClient(PROJECT, transport=transport, clock=clock, limits=limits) as client:
        calls = [asyncio.create_task(client.view("vip")) for _ in range(3)]
        await clock.advance(0)

    outcomes = await asyncio.gather(*calls, return_exceptions=True)

    ended = [outcome for outcome in outcomes if isinstance(outcome, AiobatchError)]
    assert len(ended) == (2 if wait == "rate" else 3)
    assert all("Create a new AudienceClient" in str(outcome) for outcome in ended)
    assert not await leaked_tasks()


async def test_closed_clock_rejects_sleepers() -> None:
    """A sleep after the close raises at once."""
    clock = FakeClock()
    client = AudienceClient(PROJECT, transport=FakeTransport(applied), clock=clock)
    await client.aclose()

    with pytest.raises(AiobatchError, match="The client was closed"):
        await client._clock.sleep(5)
    assert clock.monotonic() == 0


async def test_cancelled_sleeper_leaves_no_task() -> None:
    """A call that is cancelled while it waits for its turn ends its sleep too."""
    clock = FakeClock(autojump=False)
    transport = FakeTransport(lambda _: json_response(500, {}))
    async with AudienceClient(PROJECT, transport=transport, clock=clock) as client:
        call = asyncio.create_task(client.view("vip"))
        await clock.advance(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert not await leaked_tasks()
        assert clock.sleeping == 0


async def test_call_that_outlives_the_client_ends() -> None:
    """A call that has to sleep after its client was closed ends with an error."""

    async def respond_late() -> Response:
        for _ in range(50):
            await asyncio.sleep(0)
        return json_response(500, {})

    transport = FakeTransport(lambda _: respond_late())
    async with AudienceClient(PROJECT, transport=transport, clock=FakeClock(autojump=False)) as client:
        call = asyncio.create_task(client.view("vip"))
        await asyncio.sleep(0)

    with pytest.raises(AiobatchError, match="closed"):
        await call
