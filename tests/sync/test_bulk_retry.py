from __future__ import annotations

import itertools

from aiobatch import AudienceClient
from aiobatch.interfaces import Request, Response
from aiobatch.sync import BULK_RETRY
from aiobatch.testing import FakeClock, FakeTransport, json_response

from .sync_env import PROJECT


async def test_updates_outlast_twenty_minutes_of_maintenance() -> None:
    """Eight concurrent updates survive twenty minutes of 503 with few probes."""
    clock = FakeClock()
    numbers = itertools.count()

    def answer(request: Request) -> Response:
        if clock.monotonic() < 1200:
            return json_response(503, {})
        return json_response(202, {"indexing_token": f"t{next(numbers)}"})

    transport = FakeTransport(answer)
    async with AudienceClient(PROJECT, transport=transport, clock=clock, retry=BULK_RETRY) as client:
        tokens = await client.upload("vip", add=(f"user-{n}" for n in range(80_000)))
    assert len(tokens) == 8
    assert clock.monotonic() < 1300
    assert len(transport.requests) < 250
