"""The client in a FastAPI app, where the lifespan opens and closes one client for all requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

import aiobatch
from aiobatch import AiobatchError, AudienceClient, IndexingTimeoutError, InvalidInputError, Project
from aiobatch.sandbox import PROJECT_KEY, REST_API_KEY, Sandbox, SandboxOptions

from ..conftest import leaked_tasks
from ..contract.stage import QuickClock, create_applied
from ..helpers.sandbox_clock import SandboxClock

PACKAGE = Path(aiobatch.__file__).parent


def build(sandbox: Sandbox) -> FastAPI:
    """Build an app whose requests write and wait."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        target = Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY)
        async with AudienceClient(target, base_url=sandbox.url, clock=QuickClock()) as client:
            app.state.client = client
            yield

    app = FastAPI(lifespan=lifespan)
    app.add_api_route("/members/{member}", add, methods=["PUT"])
    app.add_api_route("/members", add_many, methods=["PUT"])
    app.add_exception_handler(AiobatchError, explain)
    return app


async def add(member: str, request: Request) -> dict[str, Any]:
    """Add one member, and respond when it is applied."""
    client: AudienceClient = request.app.state.client
    token = await client.update("vip", add=[member])
    return {"members": (await client.await_applied(token)).nb_ids}


async def add_many(request: Request) -> StreamingResponse:
    """Add several members, and stream the outcome of each."""
    client: AudienceClient = request.app.state.client
    tokens = [await client.update("vip", add=[member]) for member in await request.json()]

    async def lines() -> AsyncIterator[str]:
        async for settled in client.settle(tokens):
            yield f"{settled.outcome}\n"

    return StreamingResponse(lines())


async def explain(_: Request, error: Exception) -> JSONResponse:
    """Respond with 422 to invalid input, with 202 to a slow update, and with 502 to other errors."""
    status = 422 if isinstance(error, InvalidInputError) else 502
    return JSONResponse({"error": str(error)}, 202 if isinstance(error, IndexingTimeoutError) else status)


@pytest.fixture
def delay() -> float:
    """Seconds of indexing. A test may override it."""
    return 2


@pytest.fixture
def time() -> SandboxClock:
    """The sandbox's clock, as fast as the client's."""
    return SandboxClock(QuickClock().monotonic)


@pytest.fixture
async def sandbox(delay: float, time: SandboxClock) -> AsyncIterator[Sandbox]:
    """A running sandbox."""
    async with Sandbox(SandboxOptions(indexing_delay=delay), monotonic=time) as sandbox:
        yield sandbox


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Start an app that has an audience, and return a browser."""
    transport = httpx.ASGITransport(app=app)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        await create_applied(app.state.client)
        yield await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://app"))


async def until_waiting(app: FastAPI, waits: int) -> None:
    """Wait until *waits* requests wait for their tokens, after the token of the create."""
    while app.state.client.stats.tokens < 1 + waits:  # noqa: ASYNC110 - statistics have no event
        await asyncio.sleep(0.001)


async def running_tasks() -> list[asyncio.Task[object]]:
    """Return the tasks that run the package's code. The sandbox's server has tasks of its own."""
    return [task for task in await leaked_tasks() if _is_of_package(task)]


def _is_of_package(task: asyncio.Task[object]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and Path(code.co_filename).is_relative_to(PACKAGE)


async def test_concurrent_requests_share_the_client(sandbox: Sandbox) -> None:
    """Each request gets its response when its member is applied."""
    async with running(build(sandbox)) as browser:
        answers = await asyncio.gather(*(browser.put(f"/members/u{number}") for number in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert sandbox.members("vip").keys() == {f"u{number}" for number in range(50)}
    assert max(answer.json()["members"] for answer in answers) == 50


async def test_invalid_input_is_the_callers_error(sandbox: Sandbox) -> None:
    """The class of an error decides the status, and its message can be shown."""
    async with running(build(sandbox)) as browser:
        before = sandbox.request_count
        answer = await browser.put("/members/" + "x" * 1025)
        assert (answer.status_code, sandbox.request_count) == (422, before)
    assert answer.json()["error"].startswith("add[0]: an ID ")


async def test_cancelled_request_leaves_the_others(sandbox: Sandbox, time: SandboxClock) -> None:
    """Its wait ends, the others continue, and its update is applied anyway."""
    app = build(sandbox)
    async with running(app) as browser:
        time.halt()
        requests = [asyncio.create_task(browser.put(f"/members/u{number}")) for number in range(20)]
        await until_waiting(app, 20)
        for request in requests[::2]:
            request.cancel()
        time.go_on()
        answers = await asyncio.gather(*requests, return_exceptions=True)
        assert len(sandbox.members("vip")) == 20
    assert {type(answer) for answer in answers[::2]} == {asyncio.CancelledError}
    assert [answer.status_code for answer in answers[1::2] if isinstance(answer, httpx.Response)] == [
        200
    ] * 10


async def test_disconnected_browser_ends_the_stream(sandbox: Sandbox) -> None:
    """Starlette cancels a stream repeatedly until it ends. No task and no poll is left."""
    app = build(sandbox)
    async with running(app):
        incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        incoming.put_nowait({"type": "http.request", "body": b'["u1", "u2"]'})

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                incoming.put_nowait({"type": "http.disconnect"})

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "method": "PUT",
            "path": "/members",
            "raw_path": b"/members",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
        }
        await app(scope, incoming.get, send)
        assert not await running_tasks()
        asked = sandbox.request_count
        await asyncio.sleep(0.05)
        assert sandbox.request_count == asked


async def test_shutdown_ends_pending_waits(sandbox: Sandbox, time: SandboxClock) -> None:
    """Each request gets an error with the call to resume, and no task is left."""
    app = build(sandbox)
    async with AsyncExitStack() as stack:
        browser = await stack.enter_async_context(running(app))
        time.halt()
        requests = [asyncio.create_task(browser.put(f"/members/u{number}")) for number in range(5)]
        await until_waiting(app, 5)
        await app.state.client.aclose()
        answers = await asyncio.gather(*requests)
    assert {answer.status_code for answer in answers} == {502}
    for answer in answers:
        assert "client was closed" in answer.json()["error"]
    assert not await running_tasks()
