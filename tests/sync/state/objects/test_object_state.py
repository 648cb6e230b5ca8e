"""Audiences whose state is on object storage: every operation, without anything left on this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import attrs
import pytest

from aiobatch import AudienceNotFoundError
from aiobatch.sync import (
    LockedError,
    LostLeaseError,
    OpenRunError,
    RunOutcome,
    SendError,
    StateError,
    StateUrl,
    SyncEngine,
    UnknownRunError,
)
from aiobatch.sync.run import OutsideWrite
from aiobatch.sync.state._state import State
from aiobatch.sync.state.objects._head import Head, HeadFile
from aiobatch.sync.state.objects._layout import Place, find_places
from aiobatch.sync.state.objects._lease import Lease
from aiobatch.sync.state.objects._load import Loader
from aiobatch.sync.state.objects._open import open_store
from aiobatch.sync.state.objects._open_state import open_state
from aiobatch.sync.state.objects._run_log import RunLog
from aiobatch.sync.state.objects._tables import (
    digests_of,
    history_of,
    insert_digests,
    insert_history,
    insert_last_seen,
    last_seen_of,
    source_rows_of,
)

from ...sync_env import ONCE, PROJECT, ids, sync_env
from .object_env import check_exact, heads

pytestmark = pytest.mark.usefixtures("scratch")


@pytest.mark.sample(1)
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


async def test_a_resume_moves_the_head_first(
    tmp_path: Path, file_url: StateUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head that an earlier holder wrote before, and that arrives late, cannot settle the run meanwhile."""
    epochs: list[int] = []
    load = Loader.load

    def spy(self: Loader, place: Place, head: Head, *, members: bool) -> RunLog | None:
        with pytest.raises(StateError, match="another process"):
            late.commit(attrs.evolve(head, open_run=None))
        epochs.append(head.epoch)
        return load(self, place, head, members=members)

    async with sync_env(tmp_path) as env:
        env.store = file_url
        env.sandbox.fail_next("reset", 3, operation="update")
        with pytest.raises(SendError):
            await env.sync(ids(range(50)), client=ONCE)
        store = await asyncio.to_thread(open_store, file_url.text)
        (place,) = await asyncio.to_thread(lambda: list(find_places(store)))
        late = HeadFile(store, place)
        await asyncio.to_thread(late.read)
        with monkeypatch.context() as patch:
            patch.setattr(Loader, "load", spy)
            await env.sync(ids(range(50)))
        assert epochs == [2]
        await check_exact(env, ids(range(50)))


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


async def test_older_runs_are_read_from_their_reports(
    tmp_path: Path, file_url: StateUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head keeps the latest runs. Each run has a report, which `runs` and `show` read."""
    async with sync_env(tmp_path) as env:
        env.store = file_url
        for _ in range(3):
            await env.sync(ids(range(10)))
        (head,) = await heads(file_url)
        short = attrs.evolve(head, history=head.history[:1], settled_rows=head.settled_rows[:1])
        await asyncio.to_thread(_rewrite, file_url, short)
        monkeypatch.setattr("aiobatch.sync.state.objects._load.LATEST", 1)
        engine = SyncEngine(state=file_url)
        assert [run.run for run in (await engine.runs(limit=50)).runs] == [3, 2, 1]
        assert [run.run for run in (await engine.runs(limit=1)).runs] == [3]
        assert (await engine.show(1)).adds == 10


async def test_damaged_members_stop_a_run(tmp_path: Path, file_url: StateUrl) -> None:
    """If the files hold other members than the head counts, nothing is sent, and reports still work."""
    async with sync_env(tmp_path) as env:
        env.store = file_url
        await env.sync(ids(range(10)))
        (head,) = await heads(file_url)
        await asyncio.to_thread(_rewrite, file_url, attrs.evolve(head, count=11))
        calls = env.writes
        with pytest.raises(StateError, match="hold 10 members of audience 'vip', but its head counts 11"):
            await env.sync(ids(range(20)))
        assert env.writes == calls
        await asyncio.to_thread(_rewrite, file_url, attrs.evolve(head, open_run=9))
        with pytest.raises(StateError, match="the plan of run 9 is gone"):
            await SyncEngine(state=file_url).status()


def _rewrite(url: StateUrl, head: Head) -> None:
    store = open_store(url.text)
    (place,) = find_places(store)
    file = HeadFile(store, place)
    file.read()
    file.commit(head)


async def test_reports_need_a_state(file_url: StateUrl) -> None:
    """A store without a state is an error, as a missing file is."""
    with pytest.raises(StateError, match="nothing was synced with it yet"):
        await SyncEngine(state=file_url).status()


async def test_lost_lease_stops_the_run(
    tmp_path: Path, file_url: StateUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A holder whose lease another process took sends nothing more, and the next run is exact."""
    async with sync_env(tmp_path) as env:
        env.store = file_url
        await env.sync(ids(range(10)))
        calls = env.writes
        checks = iter(range(1000))

        def check(lease: Lease) -> None:
            if next(checks) >= 4:
                raise LostLeaseError(path=lease.place.lease, holder={}, lease=lease.ttl)

        with monkeypatch.context() as patch:
            patch.setattr(Lease, "check", check)
            with pytest.raises(LostLeaseError):
                await env.sync(ids(range(100)))
        sent = env.writes - calls
        assert sent <= 1
        await env.sync(ids(range(100)))
        await check_exact(env, ids(range(100)))


async def test_write_outside_a_run_is_recorded_in_the_store(tmp_path: Path, file_url: StateUrl) -> None:
    """A write of a client finds the URL that the last run of this machine used, and the next run agrees."""
    async with sync_env(tmp_path) as env, env.client() as client:
        env.store = file_url
        await env.sync(ids(range(10)))
        async with OutsideWrite(client, "vip", "update vip") as outside:
            await outside.note(["late"], added=True)
            seen = await client.await_applied(await client.update("vip", add=["late"]))
            await outside.commit()
            await outside.end(seen)
            await outside.end(seen)  # a second time, it changes nothing
        assert await env.believed() == env.members == {*ids(range(10)), "late"}
        await check_exact(env, [*ids(range(10)), "late"])
        async with OutsideWrite(client, "vip", "delete vip") as outside:
            await client.delete("vip")
            await outside.end_deleted()
        assert await env.believed() == set()


async def test_other_audiences_are_read_while_one_is_open(tmp_path: Path, file_url: StateUrl) -> None:
    """An engine that has loaded one audience reports all of the store, and releases what it does not hold."""
    async with sync_env(tmp_path) as env, env.client() as client:
        env.store = file_url
        await env.sync(ids(range(10)))
        async with SyncEngine(state=file_url, options=env.options()) as engine:
            await engine.sync(client, "new", ids(range(5)))
            await engine.verify(client, "new")
            assert [one.audience for one in (await engine.status()).audiences] == ["new", "vip"]
            assert len((await engine.runs()).runs) == 2
            assert (await engine.show(1)).audience == "vip"
            await engine.verify(client, "vip")
            assert (await engine.sync(client, "vip", ids(range(11)))).adds == 1
            with pytest.raises(AudienceNotFoundError):
                await engine.sync(client, "none", ids(range(1)), options=env.options(create=False))


async def test_audience_of_another_process_is_locked(tmp_path: Path, file_url: StateUrl) -> None:
    """The error names the process that renews the lease, and the next run after it proceeds."""
    async with sync_env(tmp_path) as env:
        env.store = file_url
        await env.sync(ids(range(10)))
        store = await asyncio.to_thread(open_store, file_url.text)
        (place,) = await asyncio.to_thread(lambda: list(find_places(store)))
        lease = Lease(store, place, what="sync elsewhere", margin=0.2, ttl=1.0)
        await lease.acquire()
        calls = env.writes
        with pytest.raises(LockedError, match="sync elsewhere"):
            await env.sync(ids(range(20)))
        assert env.writes == calls
        await lease.release()
        await check_exact(env, ids(range(10)))


def test_cache_that_cannot_be_opened_leaves_nothing(
    file_url: StateUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The private directory is deleted if DuckDB fails in it."""

    def fail(*_: object, **__: object) -> None:
        msg = "no space"
        raise StateError(msg, path="cache", reason="full")

    monkeypatch.setattr(State, "open", fail)
    with pytest.raises(StateError, match="no space"):
        open_state(file_url, what="test", memory_limit="256MB")


def test_state_without_optional_tables_has_no_rows_of_them(tmp_path: Path) -> None:
    """A file that an older aiobatch wrote has neither rows of sources nor times nor digests."""
    with State.open(tmp_path / "state.duckdb", what="test") as state, state.transaction():
        insert_history(state, [], [])
        insert_last_seen(state, "key", ())
        insert_digests(state, "key", ())
        history = history_of(state, "key", all_runs=True)
        assert (history, source_rows_of(state, [{"run": 1}])) == ((), ())
        assert (last_seen_of(state, "key"), digests_of(state, "key")) == ((), ())
