"""Reports of a state on object storage: which audiences a process holds."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from aiobatch.sync import StateUrl, SyncEngine
from aiobatch.sync.state._targets import TargetKey
from aiobatch.sync.state.objects._layout import Place
from aiobatch.sync.state.objects._lease import Lease
from aiobatch.sync.state.objects._open import open_store

from ...sync_env import PROJECT, ids, sync_env

PLACE = Place(TargetKey.of(PROJECT).digest, TargetKey.of(PROJECT).audience_key("vip"))


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> StateUrl:
    """Return the URL of an empty store of each kind."""
    if request.param == "s3":
        return StateUrl(request.getfixturevalue("s3_url"))
    return StateUrl(f"file://{tmp_path}/store")


async def test_status_shows_which_audience_is_held(tmp_path: Path, url: StateUrl) -> None:
    """A run of one audience is live, and none of another one. Its end shows at once."""
    async with sync_env(tmp_path) as env:
        env.store = url
        await env.sync(ids(range(3)))
        status = await SyncEngine(state=url).status()
        assert (status.live, status.held, status.is_live(PLACE.key)) == (False, (), False)
        store = await asyncio.to_thread(open_store, url.text)
        lease = await Lease(store, PLACE, "sync vip", margin=1.0).acquire()
        status = await SyncEngine(state=url).status()
        assert (status.live, status.held) == (True, (PLACE.key,))
        assert [status.is_live(key) for key in (PLACE.key, "other", None)] == [True, False, False]
        await lease.release()
        assert not (await SyncEngine(state=url).status()).live


@pytest.mark.parametrize("age", [80, 100_000])
async def test_status_shows_no_killed_run_as_live(tmp_path: Path, age: float) -> None:
    """A lease that is not renewed ends after 72 seconds. A very old one is not even read."""
    url = StateUrl(f"file://{tmp_path}/store")
    async with sync_env(tmp_path) as env:
        env.store = url
        await env.sync(ids(range(3)))
        store = await asyncio.to_thread(open_store, url.text)
        lease = await Lease(store, PLACE, "sync vip", margin=1.0).acquire()
        await asyncio.to_thread(_age, tmp_path / "store" / PLACE.lease, age)
        status = await SyncEngine(state=url).status()
        assert (status.live, status.held) == (False, ())
        await lease.release()


def _age(path: Path, seconds: float) -> None:
    written = path.stat().st_mtime - seconds
    os.utime(path, (written, written))
