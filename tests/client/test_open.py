from __future__ import annotations

import json
import random
import subprocess
import sys

import pytest

from aiobatch import AudienceClient, InvalidInputError
from aiobatch.testing import FakeTransport, json_response

from .arguments.rejections import TARGETS, NoRequests

FORKING = """
import asyncio, os
from aiobatch import AudienceClient, Project
from aiobatch.testing import FakeTransport

client = AudienceClient(Project(rest_api_key="k", project_key="p"), transport=FakeTransport([]))

async def draw():
    async with client:
        return client._rng.random()

for _ in range(4):
    if os.fork() == 0:
        os.write(1, f"{asyncio.run(draw())}\\n".encode())
        os._exit(0)
    os.wait()
"""


async def test_open_complements_async_with() -> None:
    """A client that was opened by `open` works until it is closed."""
    transport = FakeTransport([json_response(200, {"name": "vip"})])
    client = await AudienceClient(TARGETS["2.x"], transport=transport).open()
    assert (await client.view("vip")).name == "vip"
    with pytest.raises(InvalidInputError, match="opened before"):
        await client.open()
    await client.aclose()
    assert transport.closed
    with pytest.raises(InvalidInputError, match="opened before"):
        await client.open()


def test_forked_workers_draw_their_own_jitter() -> None:
    """A client that was created before a fork draws other numbers in each worker that opens it."""
    output = subprocess.check_output([sys.executable, "-c", FORKING], text=True)
    drawn = [json.loads(line) for line in output.splitlines()]
    assert len(set(drawn)) == len(drawn) == 4


async def test_given_randomness_is_not_reseeded() -> None:
    """A test that passes its own source of randomness can replay it."""
    rng = random.Random(5)
    state = rng.getstate()
    async with AudienceClient(TARGETS["2.x"], transport=NoRequests(), rng=rng):
        assert rng.getstate() == state
