"""Closing a client ends what it was doing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from aiobatch import AiobatchError, AudienceClient, Project
from aiobatch._http import Request, Response
from aiobatch.testing import FakeClock, FakeTransport, json_response

PROJECT = Project(rest_api_key="rest-key", project_key="project-key")


@pytest.mark.parametrize(
    "refusal",
    [Response(status=503, headers={"retry-after": "60"}), Response(status=500)],
    ids=["a pause", "a retry's delay"],
)
async def test_closing_ends_calls_that_wait_for_their_turn(refusal: Response) -> None:
    """A call that waits for a pause or for its next try ends at once when its client is closed."""
    clock = FakeClock(autojump=False)
    transport = FakeTransport(lambda _: refusal)
    async with AudienceClient(PROJECT, transport=transport, clock=clock) as client:
        calls = [asyncio.create_task(client.view(f"audience-{number}")) for number in range(3)]
        for _ in range(20):
            await asyncio.sleep(0)

    outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [AiobatchError] * 3
    assert clock.monotonic() == 0
    assert clock.sleeping == 0


async def test_nothing_sleeps_after_closing() -> None:
    """A call that wants to sleep when its client is closed already ends as well."""
    clock = FakeClock(autojump=False)
    client = AudienceClient(PROJECT, transport=FakeTransport(_slow), clock=clock)
    async with client:
        call = asyncio.create_task(client.view("vip"))
        await asyncio.sleep(0)

    with pytest.raises(AiobatchError, match="closed"):
        await call


async def _answer_late() -> Response:
    for _ in range(50):
        await asyncio.sleep(0)
    return json_response(500, {})


def _slow(_: Request) -> Awaitable[Response]:
    return _answer_late()
