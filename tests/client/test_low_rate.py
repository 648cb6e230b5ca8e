"""Many requests behind a low rate: calls that send many take as long as necessary, others end in time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from aiobatch import AudienceClient, ConnectError, Limits, Project
from aiobatch._client import _upload
from aiobatch.interfaces import Request, Response
from aiobatch.testing import FakeClock, FakeTransport, json_response

from ..conftest import leaked_tasks

PROJECT = Project(rest_api_key="rest", project_key="project")
VIEW = {"name": "vip", "type": "CUSTOM_ID", "nb_ids": 3, "indexing_state": "APPLIED"}
tokens = itertools.count()


def answer(request: Request) -> Response:
    """Respond to a view or an update."""
    if request.operation == "update":
        return json_response(202, {"indexing_token": f"t{next(tokens)}"})
    return json_response(200, VIEW | {"name": request.audience})


def make_client(clock: FakeClock, **limits: Any) -> AudienceClient:
    """Return a client with a low rate and the default policies."""
    return AudienceClient(
        PROJECT, transport=FakeTransport(answer), clock=clock, limits=Limits(**{"rate": 1.0} | limits)
    )


async def view_many(client: AudienceClient) -> int:
    """View 400 audiences."""
    return len([audience async for audience in client.view_many(f"a{number}" for number in range(400))])


async def upload(client: AudienceClient) -> int:
    """Upload 400 chunks."""
    return len(await client.upload("vip", add=(f"u{number}" for number in range(4000))))


async def upload_stream(client: AudienceClient) -> int:
    """Upload 400 chunks of an asynchronous iterable."""

    async def stream() -> AsyncIterator[str]:
        for number in range(4000):
            yield f"u{number}"

    return len(await client.upload("vip", add=stream()))


Bulk = Callable[[AudienceClient], Coroutine[Any, Any, int]]
BULK: list[Bulk] = [view_many, upload, upload_stream]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_upload, "MAX_IDS", 10)


@pytest.mark.parametrize("call", BULK)
@pytest.mark.parametrize("limits", [{"in_flight": 500, "uploads_in_flight": 500}, {}])
async def test_call_of_many_requests_takes_its_time(call: Bulk, limits: dict[str, int]) -> None:
    """At one request a second 400 requests take 400 s, and none of them fails after 120 s."""
    clock = FakeClock()
    async with make_client(clock, **limits) as client:
        assert await call(client) == 400
    assert 400 <= clock.monotonic() <= 420
    assert not await leaked_tasks()


@pytest.mark.parametrize("shared", [False, True])
async def test_calls_of_many_requests_do_not_delay_others(tmp_path: Path, shared: bool) -> None:
    """Two such calls at once wait for each other outside the queue, so that single calls wait seconds."""
    clock = FakeClock()
    waited = []
    async with make_client(clock, shared=tmp_path if shared else False) as client:
        bulk = [asyncio.create_task(call(client)) for call in (view_many, upload)]
        for _ in range(20):
            await clock.sleep(10)
            started = clock.monotonic()
            await client.view("vip")
            waited.append(clock.monotonic() - started)
        assert [await one for one in bulk] == [400, 400]
    assert max(waited) <= 4


async def test_calls_of_many_requests_continue_beside_many_others() -> None:
    """Single calls that always queue do not keep a call of many requests out."""
    clock = FakeClock()
    async with make_client(clock) as client:

        async def ask() -> None:
            while True:
                await client.view("vip")

        others = [asyncio.create_task(ask()) for _ in range(10)]
        names = [f"a{number}" for number in range(20)]
        assert len([audience async for audience in client.view_many(names)]) == 20
        assert clock.monotonic() <= 20 * 13
        for one in others:
            one.cancel()
        await asyncio.gather(*others, return_exceptions=True)


async def test_cancelled_call_of_many_requests_leaves_nothing() -> None:
    """A cancellation outside the queue ends the call, and later calls work."""
    clock = FakeClock()
    async with make_client(clock) as client:
        bulk = asyncio.create_task(view_many(client))
        await clock.sleep(5)
        bulk.cancel()
        await asyncio.gather(bulk, return_exceptions=True)
        assert not await leaked_tasks()
        assert await upload(client) == 400


async def test_closing_ends_calls_of_many_requests() -> None:
    """A call that waits outside the queue ends when the client is closed."""
    clock = FakeClock()
    client = make_client(clock)
    async with client:
        bulk = asyncio.create_task(view_many(client))
        await clock.sleep(5)
    done = (await asyncio.gather(bulk, return_exceptions=True))[0]
    assert "closed" in str(getattr(done, "exceptions", [done])[0])
    assert not await leaked_tasks()


async def test_thousands_of_single_calls_end_in_time() -> None:
    """Single calls keep the bound of their policy, and the error names the rate limit and the remedy."""
    clock = FakeClock()
    async with make_client(clock) as client:
        results = await asyncio.gather(
            *(client.view(f"a{number}") for number in range(1000)), return_exceptions=True
        )
    errors = [result for result in results if isinstance(result, BaseException)]
    assert 875 <= len(errors) <= 885
    assert clock.monotonic() <= 121
    for error in errors:
        assert isinstance(error, ConnectError)
        assert "it waited for 120 s for its turn at the rate limit of 1 requests/s. " in str(error)
        assert "Nothing was sent. Call view_many or upload" in str(error)
        assert "RetryPolicy.timeout" in str(error)
