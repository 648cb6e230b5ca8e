"""The apps of docs/howto/web-app.md respond to every failure as the page promises."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trustme

from aiobatch import AudienceClient, IndexingToken, Project, RetryPolicy
from aiobatch.sandbox import Sandbox, SandboxOptions
from aiobatch.sandbox._options import TakenName

from ..helpers.sandbox_clock import SandboxClock
from .guide_apps import SERVERS, Answer, RunningApp, environment, load, serve

DELAY = 3600.0


@pytest.fixture
def time() -> SandboxClock:
    """The sandbox's clock. It applies updates only when it jumps."""
    return SandboxClock()


@pytest.fixture
async def sandbox(time: SandboxClock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sandbox]:
    """A sandbox with the audience `vip`, to which BATCH_* leads."""
    options = SandboxOptions(indexing_delay=DELAY, refused_ids=frozenset({"refused"}))
    async with Sandbox(options, monotonic=time) as sandbox:
        for variable, value in environment(sandbox.url).items():
            monkeypatch.setenv(variable, value)
        async with AudienceClient(Project.from_env()) as client:
            await client.create("vip")
        time.leap(DELAY)
        yield sandbox


@pytest.fixture(params=list(SERVERS))
async def app(request: pytest.FixtureRequest, sandbox: Sandbox) -> AsyncIterator[RunningApp]:
    """Each app of the page."""
    async with serve(request.param) as app:
        yield app


@pytest.fixture
def hasty(app: RunningApp) -> None:
    """The app's requests wait for a moment only."""
    app.module.WAIT = 0.05  # type: ignore[attr-defined]  # a constant of the program


async def test_applied_update_responds_with_the_members(app: RunningApp, time: SandboxClock) -> None:
    """A request that waits gets 200 or 201 as soon as Batch has applied its update."""
    requests = [
        app.start("PUT", "/audiences/vip/members/u1"),
        app.start("POST", "/audiences/new"),
    ]
    await app.until_waiting(2, 2)
    time.leap(DELAY)
    updated, created = await asyncio.gather(*requests)
    assert (updated.status, created.status) == (200, 201)
    assert updated.content == {"state": "APPLIED", "audience": "vip", "members": 1}
    assert created.content == {"state": "APPLIED", "audience": "new", "members": 0}


@pytest.mark.usefixtures("hasty")
async def test_indexing_update_responds_with_its_token(app: RunningApp, time: SandboxClock) -> None:
    """202 has the token and its location, where the wait resumes until the update is applied."""
    first = await app.send("PUT", "/audiences/vip/members/u1")
    again = await app.send("GET", first.headers["Location"])
    for answer in (first, again):
        assert (answer.status, set(answer.headers)) == (202, {"Location"})
        assert answer.content["state"] == "IN_PROGRESS"
    token = IndexingToken.parse(again.content["token"])
    assert (token.audience, again.content) == ("vip", first.content)
    time.leap(DELAY)
    app.module.WAIT = 60  # type: ignore[attr-defined]  # a constant of the program
    assert (await app.send("GET", first.headers["Location"])).status == 200


@pytest.mark.usefixtures("hasty")
async def test_replaced_update_is_a_conflict(app: RunningApp, sandbox: Sandbox) -> None:
    """A token that a later replace superseded responds with 409, at once and later."""
    location = (await app.send("PUT", "/audiences/vip/members/u1")).headers["Location"]
    app.module.WAIT = 60  # type: ignore[attr-defined]  # a constant of the program
    waiting = app.start("GET", location)
    await app.until_waiting(1, 1)
    sandbox.replace_behind_back("vip", ["u2"])
    assert (await waiting).status == 409
    assert (await app.send("GET", location)).status == 409


@pytest.mark.parametrize("taken_name", [400, 409])
@pytest.mark.parametrize("framework", list(SERVERS))
async def test_taken_name_is_a_conflict(
    framework: str, taken_name: TakenName, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second create of the same name responds with 409 and Batch's message, whatever Batch's status is."""
    async with Sandbox(SandboxOptions(indexing_delay=0, taken_name=taken_name)) as other:
        monkeypatch.setenv("BATCH_BASE_URL", other.url)
        async with serve(framework) as app:
            assert (await app.send("POST", "/audiences/vip")).status == 201
            answer = await app.send("POST", "/audiences/vip")
    assert (answer.status, set(answer.headers)) == (409, set())
    assert "name is taken" in answer.content["detail"]


# Request -> the status of its response, and the number of requests to Batch.
MISTAKES = {
    "PUT /audiences/no-such-audience/members/u1": (404, 1),
    "GET /tokens/no-such-audience:update:t1": (404, 1),
    "PUT /audiences/no.such.name/members/u1": (422, 0),
    f"PUT /audiences/vip/members/{'x' * 1025}": (422, 0),
    "PUT /audiences/vip/members/refused": (422, 1),
    "POST /audiences/no.such.name": (422, 0),
    "GET /tokens/rubbish": (422, 0),
    "GET /tokens/vip:rubbish:t1": (422, 0),
    "GET /tokens/vip:update:": (422, 0),
    "GET /tokens/a%2Fb": (422, 0),
    "GET /tokens/%E2%82%AC%00": (422, 0),
}


async def test_mistake_of_the_user(app: RunningApp, sandbox: Sandbox) -> None:
    """A missing audience responds with 404, invalid input and an invalid token with 422 and the error."""
    ends = {}
    for request in MISTAKES:
        before = sandbox.request_count
        answer = await app.send(*request.split(" "))
        assert answer.headers == {}
        assert answer.content["detail"]
        ends[request] = (answer.status, sandbox.request_count - before)
    assert ends == MISTAKES


def try_once(**fields: Any) -> RetryPolicy:
    """Return a program's policy without its retries, so that a test does not wait for them."""
    return RetryPolicy(**fields | {"attempts": 1})


@pytest.mark.parametrize("framework", list(SERVERS))
async def test_failing_service_asks_to_try_again(
    sandbox: Sandbox, framework: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Maintenance, a rate limit and broken connections respond with 503 and Retry-After, and are logged."""
    async with serve(framework, WAIT=0.05, RetryPolicy=try_once) as app:
        for fault in ("503", "429", "500", "html", "reset", "lost", "truncated"):
            sandbox.fail_next(fault)
            answer = await app.send("PUT", "/audiences/vip/members/u1")
            assert_hidden(answer, caplog, 503)
            assert int(answer.headers["Retry-After"]) >= 1
            assert (await app.send("PUT", "/audiences/vip/members/u1")).status == 202


async def test_unreachable_service_asks_to_try_again(
    app: RunningApp, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """A refused connection responds with 503 and Retry-After."""
    await sandbox.aclose()
    answer = await app.send("PUT", "/audiences/vip/members/u1")
    assert_hidden(answer, caplog, 503)


@pytest.mark.parametrize("framework", list(SERVERS))
async def test_wrong_key_is_the_apps_own_problem(
    sandbox: Sandbox, framework: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The user sees 502 without details, and the log has them."""
    monkeypatch.setenv("BATCH_REST_API_KEY", "another-key")
    async with serve(framework) as app:
        assert "BATCH_REST_API_KEY" in assert_hidden(await app.send("POST", "/audiences/new"), caplog, 502)


@pytest.mark.parametrize("framework", list(SERVERS))
async def test_untrusted_certificate_is_the_apps_own_problem(
    sandbox: Sandbox, framework: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that no later request avoids responds with 502, without Retry-After."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    monkeypatch.setenv("BATCH_BASE_URL", f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    async with server, serve(framework) as app:
        assert "not trusted" in assert_hidden(await app.send("POST", "/audiences/new"), caplog, 502)


def assert_hidden(answer: Answer, caplog: pytest.LogCaptureFixture, status: int) -> str:
    """Check that the response does not show the error, and return the app's log record of it."""
    assert answer.status == status
    assert ("Retry-After" in answer.headers) == (status == 503)
    assert answer.content == {"detail": "The connection to Batch failed."}
    (record,) = [each for each in caplog.records if each.name == "main"]
    caplog.clear()
    assert record.levelno == logging.ERROR
    return record.getMessage()


@pytest.mark.parametrize("framework", list(SERVERS))
async def test_response_of_a_proxy_is_the_apps_own_problem(
    sandbox: Sandbox, framework: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An HTML page with status 200 responds with 502."""
    async with serve(framework, RetryPolicy=try_once) as app:
        sandbox.fail_next("html200")
        assert "cannot be read" in assert_hidden(await app.send("POST", "/audiences/new"), caplog, 502)


@pytest.mark.usefixtures("hasty")
async def test_maintenance_does_not_end_a_wait(app: RunningApp, sandbox: Sandbox) -> None:
    """A wait during maintenance ends with 202 and its token, as any other."""
    location = (await app.send("PUT", "/audiences/vip/members/u1")).headers["Location"]
    sandbox.fail_for("503", DELAY)
    assert (await app.send("GET", location)).status == 202


async def test_disconnected_browser_ends_only_its_own_wait(
    app: RunningApp, sandbox: Sandbox, time: SandboxClock
) -> None:
    """Its wait and its polls end, no task is left, and the other request gets its response."""
    patient = app.start("PUT", "/audiences/vip/members/u1")
    await app.until_waiting(1, 1)
    hasty = [app.start("POST", f"/audiences/new{number}") for number in range(5)]
    await app.until_waiting(6, 6)
    for request in hasty:
        request.cancel()  # aiohttp closes the connection
    await asyncio.gather(*hasty, return_exceptions=True)
    await app.until_waiting(1, 6)
    time.leap(DELAY)
    assert (await patient).status == 200
    assert app.open_waits == 0
    assert app.client._paced.admission.in_flight == 0
    assert {f"new{number}" for number in range(5)} <= {each.name for each in sandbox.audiences()}


async def test_lifespan_runs_in_any_thread(sandbox: Sandbox) -> None:
    """Only the main thread can handle signals. A test client may run the app in another one."""
    module = load("FastAPI")

    async def run() -> int:
        async with module.lifespan(module.app):
            client: AudienceClient = module.app.state.batch
            return (await client.view("vip")).nb_ids or 0

    before = signal.getsignal(signal.SIGTERM)
    assert await asyncio.to_thread(asyncio.run, run()) == 0
    assert await run() == 0
    assert signal.getsignal(signal.SIGTERM) is before


async def test_drained_client_responds_with_tokens(app: RunningApp) -> None:
    """After a drain, open waits and requests that arrive later respond with 202."""
    waiting = app.start("PUT", "/audiences/vip/members/u1")
    await app.until_waiting(1, 1)
    await app.client.drain()
    for answer in (await waiting, await app.send("PUT", "/audiences/vip/members/u2")):
        assert (answer.status, set(answer.headers)) == (202, {"Location"})
    assert app.open_waits == 0
