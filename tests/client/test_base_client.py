from __future__ import annotations

import asyncio

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
)
from aiobatch._http import Request, Response
from aiobatch.testing import FakeClock, FakeTransport, json_response

from ..conftest import leaked_tasks

APP = App(rest_api_key="rest", api_key="app")
PROJECT = Project(rest_api_key="rest", project_key="project")
VIEW = {"name": "vip", "type": "CUSTOM_ID", "nb_ids": 3, "indexing_state": "IN_PROGRESS"}


def applied(request: Request) -> Response:
    """Answer any view: APPLIED."""
    return json_response(200, VIEW | {"indexing_state": "APPLIED"})


def in_progress(request: Request) -> Response:
    """Answer any view: IN_PROGRESS."""
    return json_response(200, VIEW)


async def test_repr_shows_version_and_life() -> None:
    """A client's repr tells its API and whether it is closed, and no key."""
    client = AudienceClient(PROJECT, transport=FakeTransport(applied))
    assert repr(client) == "<AudienceClient of API 2.11>"

    await client.aclose()

    assert repr(client) == "<AudienceClient of API 2.11, closed>"


async def test_what_it_was_made_of_can_be_read() -> None:
    """Target, limits and the default type of ids are there for whoever builds on the client."""
    limits = Limits(rate=5)
    client = AudienceClient(APP, limits=limits, transport=FakeTransport(applied))

    assert client.target is APP
    assert client.limits is limits
    assert client.default_id_type is IdType.CUSTOM_IDS


async def test_target_of_another_kind_is_refused() -> None:
    """What is no App and no Project is refused when the client is made."""
    with pytest.raises(InvalidInputError, match="target must be an App or a Project, not str"):
        AudienceClient("key")  # type: ignore[arg-type]  # the mistake


async def test_use_before_opening_is_refused() -> None:
    """A client that was not opened says how to open it."""
    with pytest.raises(InvalidInputError, match="open the client first"):
        await AudienceClient(PROJECT, transport=FakeTransport(applied)).view("vip")


async def test_use_after_closing_is_refused() -> None:
    """A closed client says so."""
    async with AudienceClient(PROJECT, transport=FakeTransport(applied)) as client:
        pass

    with pytest.raises(InvalidInputError, match="the client is closed"):
        await client.view("vip")


def test_use_on_another_loop_is_refused() -> None:
    """A client belongs to the loop on which it was opened."""
    client = AudienceClient(PROJECT, transport=FakeTransport(applied))
    asyncio.run(client.__aenter__())

    with pytest.raises(InvalidInputError, match="belongs to another event loop"):
        asyncio.run(client.view("vip"))


async def test_second_opening_is_refused() -> None:
    """A client is opened once, closed or not."""
    async with AudienceClient(PROJECT, transport=FakeTransport(applied)) as client:
        with pytest.raises(InvalidInputError, match="opened before"):
            await client.__aenter__()
    with pytest.raises(InvalidInputError, match="opened before"):
        await client.__aenter__()


async def test_closing_twice_is_closing_once() -> None:
    """The second close does nothing; the transport is closed by the first."""
    transport = FakeTransport(applied)
    async with AudienceClient(PROJECT, transport=transport) as client:
        await client.aclose()
        assert transport.closed
        transport.closed = False

    assert not transport.closed


async def test_closing_ends_waits() -> None:
    """Waits that are pending end with an error that says how to go on, and leave no task."""
    clock = FakeClock()
    async with AudienceClient(PROJECT, transport=FakeTransport(in_progress), clock=clock) as client:
        waits = [
            asyncio.create_task(client.await_applied(IndexingToken("vip", f"t{number}"), timeout=None))
            for number in range(3)
        ]
        await clock.sleep(5)

    outcomes = await asyncio.gather(*waits, return_exceptions=True)

    assert {type(outcome) for outcome in outcomes} == {AiobatchError}
    assert all("wait again with the token" in str(outcome) for outcome in outcomes)
    assert not await leaked_tasks()


async def test_transport_is_closed_although_closing_is_cancelled() -> None:
    """A cancellation while polls are ended still closes the connections."""
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


async def test_stats_count() -> None:
    """The counters tell requests, retries, polls, tokens and pauses apart."""
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


async def test_hook_hears_of_everything() -> None:
    """The hook takes the transports' events and the poller's."""
    heard: list[Event] = []
    async with AudienceClient(PROJECT, transport=FakeTransport(applied), on_event=heard.append) as client:
        await client.await_applied(IndexingToken("vip", "t"))

    kinds = [type(event) for event in heard]
    assert kinds[0] is RequestSent
    assert TokenPolled in kinds


async def test_hook_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """What the hook raises is logged, and the client goes on."""

    def explode(event: Event) -> None:
        raise ZeroDivisionError

    async with AudienceClient(PROJECT, transport=FakeTransport(applied), on_event=explode) as client:
        audience = await client.await_applied(IndexingToken("vip", "t"))

    assert audience.name == "vip"
    assert "the hook on_event raised on RequestSent" in caplog.text


async def test_session_that_was_handed_in_stays_open() -> None:
    """Closing the client closes only what it opened."""
    async with aiohttp.ClientSession() as session:
        async with AudienceClient(PROJECT, session=session):
            pass
        assert not session.closed


async def test_pool_of_a_session_bounds_what_is_in_flight() -> None:
    """No request is admitted that would queue for a connection and use up its timeout there."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=3)) as session:
        client = AudienceClient(PROJECT, session=session)
        assert client._paced.admission.max_in_flight == 3
    assert AudienceClient(PROJECT)._paced.admission.max_in_flight == Limits().in_flight


async def test_polls_are_not_retried() -> None:
    """A poll that fails is the poller's business: it is asked again later, as a poll."""
    clock = FakeClock()
    states = iter([500, 500, 200])
    transport = FakeTransport(lambda _: json_response(next(states), VIEW | {"indexing_state": "APPLIED"}))
    async with AudienceClient(PROJECT, transport=transport, clock=clock) as client:
        await client.await_applied(IndexingToken("vip", "t"))
        assert client.stats.retries == 0
        assert client.stats.polls == 3


async def test_many_tokens_are_looked_for_in_the_list() -> None:
    """In 2.x the poller takes states from the list, page by page."""
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
async def test_closing_ends_calls_that_wait_for_their_turn(wait: str) -> None:
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
    assert all("make a new AudienceClient" in str(outcome) for outcome in ended)
    assert not await leaked_tasks()


async def test_closed_clock_lets_nobody_sleep() -> None:
    """Who comes to sleep after the close is told so at once."""
    clock = FakeClock()
    client = AudienceClient(PROJECT, transport=FakeTransport(applied), clock=clock)
    await client.aclose()

    with pytest.raises(AiobatchError, match="the client was closed"):
        await client._clock.sleep(5)
    assert clock.monotonic() == 0


async def test_cancelled_sleeper_leaves_no_task() -> None:
    """A call that is cancelled while it waits for its turn takes its sleep along."""
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
