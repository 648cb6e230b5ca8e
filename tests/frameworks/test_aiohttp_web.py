"""The client in an aiohttp.web app, whose server cancels the handlers of disconnected browsers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from aiobatch import AiobatchError, App, AudienceClient
from aiobatch.sandbox import API_KEY, REST_API_KEY, Sandbox, SandboxOptions

from ..contract.stage import QuickClock, create_applied
from ..helpers.sandbox_clock import SandboxClock

CLIENT = web.AppKey("client", AudienceClient)
SESSION = web.AppKey("session", aiohttp.ClientSession)
ENDED = web.AppKey("ended", list[str])

Browser = TestClient[web.Request, web.Application]


async def add(request: web.Request) -> web.Response:
    """Add one member, and respond when it is applied."""
    client, ended = request.app[CLIENT], request.app[ENDED]
    try:
        token = await client.update("vip", add=[request.match_info["member"]])
        audience = await client.await_applied(token)
    except asyncio.CancelledError:
        ended.append("cancelled")
        raise
    except AiobatchError as error:
        ended.append(str(error))
        raise web.HTTPBadGateway from error
    return web.json_response({"members": audience.nb_ids})


def build(sandbox: Sandbox) -> web.Application:
    """Create an app that shares its session with the client."""

    async def batch(app: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession() as session:
            target = App(rest_api_key=REST_API_KEY, api_key=API_KEY)
            async with AudienceClient(
                target, base_url=sandbox.url, session=session, clock=QuickClock()
            ) as client:
                app[CLIENT], app[SESSION] = client, session
                await create_applied(client)
                yield
            assert not session.closed

    app = web.Application()
    app[ENDED] = []
    app.cleanup_ctx.append(batch)
    app.router.add_put("/members/{member}", add)
    return app


@pytest.fixture
def time() -> SandboxClock:
    """The sandbox's clock, as fast as the client's."""
    return SandboxClock(QuickClock().monotonic)


@pytest.fixture
async def sandbox(time: SandboxClock) -> AsyncIterator[Sandbox]:
    """A running sandbox."""
    async with Sandbox(SandboxOptions(indexing_delay=2), monotonic=time) as sandbox:
        yield sandbox


@pytest.fixture
async def browser(sandbox: Sandbox) -> AsyncIterator[Browser]:
    """A browser of a running app."""
    server = TestServer(build(sandbox))
    await server.start_server()  # it cancels the handlers of disconnected browsers
    async with TestClient(server) as browser:
        yield browser


async def until(happened: Callable[[], bool]) -> None:
    """Wait for a condition that has no event."""
    while not happened():  # noqa: ASYNC110 - there is no event
        await asyncio.sleep(0.001)


async def test_requests_end_when_their_members_are_applied(sandbox: Sandbox, browser: Browser) -> None:
    """Thirty concurrent requests share the app's session."""
    answers = await asyncio.gather(*(browser.put(f"/members/u{number}") for number in range(30)))
    assert {answer.status for answer in answers} == {200}
    assert len(sandbox.members("vip")) == 30


async def test_disconnected_browser_ends_only_its_own_wait(
    sandbox: Sandbox, browser: Browser, time: SandboxClock
) -> None:
    """The handler is cancelled, the other requests get their responses, and the token is polled no more."""
    app = browser.server.app  # type: ignore[attr-defined]  # a TestServer has it
    time.halt()
    patient = [asyncio.create_task(browser.put(f"/members/u{number}")) for number in range(3)]
    await until(lambda: sandbox.operation_counts["update"] == 3)
    hasty = [asyncio.create_task(browser.put(f"/members/gone{number}")) for number in range(3)]
    await until(lambda: sandbox.operation_counts["update"] == 6)
    for request in hasty:
        request.cancel()
    await asyncio.gather(*hasty, return_exceptions=True)
    await until(lambda: len(app[ENDED]) == 3)
    time.go_on()
    answers = await asyncio.gather(*patient)
    assert {answer.status for answer in answers} == {200}
    assert app[ENDED] == ["cancelled"] * 3
    assert app[CLIENT]._paced.admission.in_flight == 0


async def test_shutdown_ends_waits_and_keeps_the_session(browser: Browser, time: SandboxClock) -> None:
    """Waits end with an error with the call to resume, and the app closes its own session."""
    app = browser.server.app  # type: ignore[attr-defined]  # a TestServer has it
    time.halt()
    requests = [asyncio.create_task(browser.put(f"/members/u{number}")) for number in range(3)]
    await until(lambda: app[CLIENT].stats.tokens == 3)
    await app[CLIENT].aclose()
    answers = await asyncio.gather(*requests)
    assert {answer.status for answer in answers} == {502}
    assert all("client was closed" in text for text in app[ENDED])
    assert not app[SESSION].closed
