"""A state in Azure Blob Storage, as Azurite serves it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiobatch.sync import LockedError, StateUrl, SyncEngine, collect_garbage, copy_state
from aiobatch.sync.state.objects._layout import Place
from aiobatch.sync.state.objects._lease import Lease
from aiobatch.sync.state.objects._open import open_store

from ....helpers.azurite import running_azurite
from ...sync_env import ids, sync_env

pytestmark = pytest.mark.sweep


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Run one Azurite for all tests, with the container `bucket`."""
    with running_azurite("bucket", tmp_path_factory.mktemp("azurite")) as environ:
        yield dict(environ)


@pytest.fixture(autouse=True)
def _environment(azurite: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in azurite.items():
        monkeypatch.setenv(name, value)


async def test_runs_and_copies_are_exact(tmp_path: Path) -> None:
    """A load, a change, a copy to a file and a collection of garbage leave nothing to send."""
    url = StateUrl("az://bucket/state")
    async with sync_env(tmp_path) as env, env.client() as client:
        env.store = url
        await env.sync(ids(range(100)))
        report = await env.sync(ids(range(5, 110)))
        assert (report.adds, report.removes) == (10, 5)
        assert env.members == set(ids(range(5, 110))) == await env.believed()
        assert (await collect_garbage(url.text)).objects > 0
        assert (await env.sync(ids(range(5, 110)))).calls == 0
        await copy_state(url, tmp_path / "back.duckdb")
        async with SyncEngine(state=tmp_path / "back.duckdb", options=env.options()) as engine:
            assert (await engine.plan(client, "vip", ids(range(5, 110)))).changes == 0


async def test_one_of_many_takers_wins() -> None:
    """Conditional writes decide who holds a lease."""
    store, place = await asyncio.to_thread(open_store, "az://bucket/race"), Place("a" * 16, "b" * 16)

    async def take(what: str) -> Lease | None:
        try:
            return await Lease(store, place, what, margin=1.0).acquire()
        except LockedError:
            return None

    takers = await asyncio.gather(*(take(f"sync {number}") for number in range(20)))
    (winner,) = (one for one in takers if one is not None)
    await winner.release()


async def test_large_files_arrive_whole(tmp_path: Path) -> None:
    """A file of several parts is stored and read."""
    store = await asyncio.to_thread(open_store, "az://bucket/large")
    content, file = os.urandom(20_000_000), tmp_path / "file"
    await asyncio.to_thread(file.write_bytes, content)
    await asyncio.to_thread(store.upload, "members/large", file)
    await asyncio.to_thread(store.download, "members/large", tmp_path / "back")
    assert await asyncio.to_thread((tmp_path / "back").read_bytes) == content
