"""What the tests of a state on object storage share."""

from __future__ import annotations

import asyncio

from aiobatch.sync import (
    StateUrl,
)
from aiobatch.sync.state.objects._head import Head
from aiobatch.sync.state.objects._layout import find_places
from aiobatch.sync.state.objects._open import open_store

from ...sync_env import SyncEnv


async def heads(url: StateUrl) -> list[Head]:
    """Return the head of each audience."""
    return await asyncio.to_thread(_heads, url)


def _heads(url: StateUrl) -> list[Head]:
    store = open_store(url.text)
    found = [store.get(place.head) for place in find_places(store)]
    return [Head.from_json(one.data, location=url.text) for one in found if one is not None]


async def check_exact(env: SyncEnv, members: list[str]) -> None:
    """Check that Batch, the state and the next run agree on the members."""
    assert env.members == set(members) == await env.believed()
    calls = env.writes
    assert (await env.sync(members)).calls == 0
    assert env.writes == calls
