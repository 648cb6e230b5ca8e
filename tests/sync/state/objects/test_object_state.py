"""Audiences whose state is on object storage: every operation, without anything left on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiobatch.sync import (
    OpenRunError,
    RunOutcome,
    SendError,
    StateUrl,
    SyncEngine,
    UnknownRunError,
)
from aiobatch.sync.state.objects._head import Head
from aiobatch.sync.state.objects._layout import find_places
from aiobatch.sync.state.objects._open import open_store

from ...sync_env import ONCE, PROJECT, SyncEnv, ids, sync_env


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> StateUrl:
    """Return the URL of an empty store of each kind."""
    if request.param == "s3":
        return StateUrl(request.getfixturevalue("s3_url"))
    return StateUrl(f"file://{tmp_path}/store")


@pytest.fixture
def file_url(tmp_path: Path) -> StateUrl:
    """Return the URL of an empty directory."""
    return StateUrl(f"file://{tmp_path}/store")


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put private directories into one of the test's own, and check that none is left."""
    directory = tmp_path / "scratch"
    directory.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(directory))
    yield directory
    assert not list(directory.iterdir())


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


async def test_each_run_starts_from_the_store_alone(tmp_path: Path, url: StateUrl) -> None:
    """A first load, a change, and a run without changes, each in a process without a file of its own."""
    async with sync_env(tmp_path) as env:
        env.store = url
        assert (await env.sync(ids(range(100)))).adds == 100
        report = await env.sync(ids(range(1, 102)))
        assert (report.adds, report.removes, report.run) == (2, 1, 2)
        await check_exact(env, ids(range(1, 102)))
        assert [(run.run, run.outcome) for run in await env.runs()] == [
            (run, RunOutcome.DONE) for run in (3, 2, 1)
        ]
        (head,) = await heads(url)
        assert (head.count, head.open_run, len(head.deltas)) == (101, None, 1)


async def test_every_operation_uses_the_store(tmp_path: Path, file_url: StateUrl) -> None:
    """Plan, apply, resync, rollback, verify, adopt, settle and forget, in one engine and in the next."""
    async with sync_env(tmp_path) as env, env.client() as client:
        env.store = file_url
        async with SyncEngine(state=str(file_url), options=env.options()) as engine:
            plan = await engine.plan(client, "vip", ids(range(20)))
            assert plan.state == str(file_url)
            assert (await engine.apply(client, plan)).outcome is RunOutcome.DONE
            assert (await engine.sync(client, "vip", ids(range(25)))).adds == 5
        async with SyncEngine(state=file_url, options=env.options()) as engine:
            assert (await engine.rollback(client, "vip", 1)).removes == 5
            resync = await engine.resync(client, "vip", ids(range(20)))
            assert (resync.resends, resync.untracked_removals) == (20, 5)
            assert (await engine.verify(client, "vip")).drift == 0
            settled = await engine.settle(client, "vip")
            assert settled is not None
            assert settled.whole
        await check_exact(env, ids(range(20)))
        env.fill(ids(range(30)))
        await env.call("forget", client, "vip")
        assert await heads(file_url) == []
        assert (await env.call("adopt", client, "vip", ids(range(30)))).members_after == 30
        await check_exact(env, ids(range(30)))


async def test_interrupted_run_is_resumed_from_the_store(tmp_path: Path, url: StateUrl) -> None:
    """The next process polls what was sent, and sends again what has an unknown outcome."""
    async with sync_env(tmp_path) as env:
        env.store = url
        await env.sync(ids(range(50)))
        env.sandbox.fail_next("reset", 3, operation="update")
        with pytest.raises(SendError):
            await env.sync(ids(range(120)), client=ONCE)
        status = await SyncEngine(state=url).status()
        assert status.audiences[0].open_run == 2
        async with env.client() as client:
            with pytest.raises(OpenRunError):
                await env.call("plan", client, "vip", ids(range(120)))
        report = await env.sync(ids(range(120)))
        assert report.settled_run == 2
        await check_exact(env, ids(range(120)))
        assert (await heads(url))[0].open_run is None


async def test_audiences_of_one_url_are_independent(tmp_path: Path, file_url: StateUrl) -> None:
    """Each has its own lease, numbers of runs are unique, and reports name all of them."""
    async with sync_env(tmp_path) as env, env.client() as client:
        async with SyncEngine(state=file_url, options=env.options()) as engine:
            await engine.name_targets({"web": PROJECT})
            await engine.sync(client, "vip", ids(range(10)))
            await engine.sync(client, "new", ids(range(5)))
        engine = SyncEngine(state=file_url)
        status, history = await engine.status(), await engine.runs()
        assert [(one.audience, one.members, one.target) for one in status.audiences] == [
            ("new", 5, "web"),
            ("vip", 10, "web"),
        ]
        assert [run.run for run in history.runs] == [2, 1]
        assert (await engine.show(2)).audience == "new"
        with pytest.raises(UnknownRunError, match="no run 9"):
            await engine.show(9)


async def test_refused_ids_and_attributes_survive(tmp_path: Path, file_url: StateUrl) -> None:
    """A refused ID is not sent again, and an attribute that has not changed is not either."""
    async with sync_env(tmp_path, refused_ids={"user-3"}) as env:
        env.store = file_url
        assert (await env.sync(ids(range(10)))).refused == 1
        assert (await env.sync(ids(range(10)))).calls == 0
