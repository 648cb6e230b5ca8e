"""States in Azure Blob Storage and Google Cloud Storage, as their emulators serve them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from aiobatch.sync import LockedError, StateError, StateUrl, SyncEngine, collect_garbage, copy_state
from aiobatch.sync.state.objects._head import Head, HeadFile
from aiobatch.sync.state.objects._layout import Place
from aiobatch.sync.state.objects._lease import Lease
from aiobatch.sync.state.objects._open import open_store
from aiobatch.sync.state.objects._store import ConflictError

from ....helpers.azurite import running_azurite
from ....helpers.google_storage import running_google_storage
from ...sync_env import ids, sync_env

pytestmark = pytest.mark.sweep

_PLACE = Place("a" * 16, "b" * 16)


@pytest.fixture(scope="module", params=["az", "gs"])
def bucket(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run one emulator for all tests, and yield the URL of its bucket."""
    running = (
        running_azurite("bucket", tmp_path_factory.mktemp("azurite"))
        if request.param == "az"
        else running_google_storage("bucket")
    )
    with running as environ, pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        yield f"{request.param}://bucket"


async def test_runs_and_copies_are_exact(bucket: str, tmp_path: Path) -> None:
    """A load, a change, a copy to a file and a collection of garbage leave nothing to send."""
    url = StateUrl(f"{bucket}/state")
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


async def test_one_of_many_takers_wins(bucket: str) -> None:
    """Conditional writes decide who holds a lease."""
    store = await asyncio.to_thread(open_store, f"{bucket}/race")

    async def take(what: str) -> Lease | None:
        try:
            return await Lease(store, _PLACE, what, margin=1.0).acquire()
        except LockedError:
            return None

    takers = await asyncio.gather(*(take(f"sync {number}") for number in range(20)))
    (winner,) = (one for one in takers if one is not None)
    await winner.release()


def test_a_write_needs_the_version_that_was_read(bucket: str) -> None:
    """An object that exists is not created, and one that has changed is not replaced."""
    store = open_store(f"{bucket}/versions")
    first = store.create("one", b"1")
    with pytest.raises(ConflictError):
        store.create("one", b"2")
    second = store.replace("one", b"3", first)
    with pytest.raises(ConflictError):
        store.replace("one", b"4", first)
    found = store.get("one")
    assert found is not None
    assert (found.data, found.tag) == (b"3", second)
    store.delete(["one", "none"])
    with pytest.raises(ConflictError):
        store.replace("one", b"5", second)
    assert store.get("one") is None


def test_the_loser_of_a_head_stops(bucket: str) -> None:
    """Of two processes that read one head, the second to write it stops."""
    store = open_store(f"{bucket}/heads")
    head = Head(epoch=1, state_id="s", scope=_PLACE.scope, key=_PLACE.key, name="vip", target="app")
    HeadFile(store, _PLACE).commit(head)
    files = [HeadFile(store, _PLACE) for _ in range(2)]
    for file in files:
        assert file.read() is not None
    files[1].commit(attrs.evolve(head, epoch=2))
    with pytest.raises(StateError, match="another process wrote audience 'vip'"):
        files[0].commit(attrs.evolve(head, epoch=3))


async def test_large_files_arrive_whole(bucket: str, tmp_path: Path) -> None:
    """A file of several parts is stored and read."""
    store = await asyncio.to_thread(open_store, f"{bucket}/large")
    content, file = os.urandom(20_000_000), tmp_path / "file"
    await asyncio.to_thread(file.write_bytes, content)
    await asyncio.to_thread(store.upload, "members/large", file)
    await asyncio.to_thread(store.download, "members/large", tmp_path / "back")
    assert await asyncio.to_thread((tmp_path / "back").read_bytes) == content


async def test_objects_are_sources(bucket: str, tmp_path: Path) -> None:
    """A pattern of objects is read like the same files on a disk."""
    store = await asyncio.to_thread(open_store, f"{bucket}/users")
    for part, numbers in (("a", range(50)), ("b", range(50, 100))):
        text = "\n".join(["id", *ids(numbers)])
        await asyncio.to_thread(store.create, f"{part}.csv", text.encode())
    async with sync_env(tmp_path) as env:
        report = await env.sync(f"{bucket}/users/*.csv")
        assert (report.adds, env.members) == (100, set(ids(range(100))))
