"""Audiences whose state is on object storage: every operation, without anything left on this machine."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path

import attrs
import duckdb
import pytest

from aiobatch import AudienceNotFoundError, InvalidInputError
from aiobatch.sandbox import REST_API_KEY
from aiobatch.sync import (
    LockedError,
    LostLeaseError,
    Mode,
    OpenRunError,
    RunOutcome,
    SendError,
    StateError,
    StateUrl,
    SyncEngine,
    UnknownRunError,
    copy_state,
    open_tokens,
    sync_audience,
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


@pytest.mark.sample(1)
async def test_copy_there_and_back_changes_nothing(tmp_path: Path, url: StateUrl) -> None:
    """A copy has the members, the history, the refused IDs and the number of the next run."""
    async with sync_env(tmp_path, refused_ids={"user-3"}) as env, env.client() as client:
        await env.sync(ids(range(30)))
        await env.sync(ids(range(25)))
        back = tmp_path / "back" / "state.duckdb"
        assert await copy_state(env.state, url) == 1
        assert await copy_state(env.state, url) == 1  # a second time, after an interruption
        assert await copy_state(str(url), back) == 1
        for state in (url, back):
            async with SyncEngine(state=state, options=env.options()) as engine:
                plan = await engine.plan(client, "vip", ids(range(25)))
                assert (plan.changes, plan.refused_before) == (0, 1)
            history = await SyncEngine(state=state).runs()
            assert history == await SyncEngine(state=env.state).runs()
        env.store = url
        assert (await env.sync(ids(range(26)))).run == 3
        assert (await env.call("rollback", client, "vip", 1)).adds == 4


async def test_copy_of_an_open_run_is_resumed(tmp_path: Path, file_url: StateUrl) -> None:
    """Chunks that were sent, split or have an unknown outcome are in the copy as they were."""
    async with sync_env(tmp_path, refused_ids={"user-3"}, indexing_delay=0.3) as env, env.client() as client:
        await env.sync(ids(range(60)), wait=False)
        tokens = await open_tokens(env.state, client, "vip")
        assert len(tokens) > 5
        await copy_state(env.state, file_url)
        assert await open_tokens(file_url, client, "vip") == tokens
        back = tmp_path / "back.duckdb"
        await copy_state(file_url, back)
        assert await open_tokens(str(back), client, "vip") == tokens
        env.store = file_url
        assert (await env.sync(ids(range(60)))).settled_run == 1
        assert await env.believed() == env.members == set(ids(range(60))) - {"user-3"}
        assert await open_tokens(file_url, client, "vip") == []
        assert await open_tokens(file_url, client, "other") == []


async def test_copy_refuses_what_it_would_overwrite(tmp_path: Path, file_url: StateUrl) -> None:
    """Neither another state nor a file is replaced, and a copy needs a source."""
    async with sync_env(tmp_path) as env:
        with pytest.raises(StateError, match="does not exist"):
            await copy_state(env.state, file_url)
        with pytest.raises(StateError, match="does not exist"):
            await copy_state(file_url, tmp_path / "new.duckdb")
        await env.sync(ids(range(10)))
        await copy_state(env.state, file_url)
        with pytest.raises(StateError, match="exists already"):
            await copy_state(file_url, env.state)
        with pytest.raises(InvalidInputError, match="from a file to a URL"):
            await copy_state(env.state, tmp_path / "new.duckdb")
        await env.sync(ids(range(11)))
        with pytest.raises(StateError, match="another record of audience 'vip'"):
            await copy_state(env.state, file_url)
        async with env.client() as client:
            other = tmp_path / "other.duckdb"
            await sync_audience(client, "other", ["a"], state=other, options=env.options())
        with pytest.raises(StateError, match="has another state"):
            await copy_state(other, file_url)


async def test_deltas_are_small_and_compacted(tmp_path: Path, file_url: StateUrl) -> None:
    """A small change writes few bytes. Beyond a quarter of the base, all members are written again."""
    async with sync_env(tmp_path) as env:
        env.store = file_url
        people = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(6000)]
        await env.sync(people, chunk_size=1000)
        (first,) = await heads(file_url)
        assert first.base is not None
        await env.sync(people[30:] + ids(range(30)), chunk_size=1000)
        (second,) = await heads(file_url)
        assert (second.base, len(second.deltas)) == (first.base, 1)
        size = await asyncio.to_thread(_sizes, file_url, 2)
        assert size["runs/2"] + size["members"] - size[first.base.path] < 0.1 * size[first.base.path]
        await env.sync(people[1500:], chunk_size=1000)
        (third,) = await heads(file_url)
        assert third.base is not None
        assert (third.base.rows, third.deltas, third.count) == (4500, (), 4500)
        await check_exact(env, people[1500:])


def _sizes(url: StateUrl, run: int) -> dict[str, int]:
    """Return the bytes of each object, of all members, and of one run."""
    store = open_store(url.text)
    (place,) = find_places(store)
    objects = {one.path: one.size for one in store.list("")}
    total = {"members": place.members, f"runs/{run}": f"{place.prefix}runs/{run}/"}
    sums = {
        name: sum(size for path, size in objects.items() if path.startswith(prefix))
        for name, prefix in total.items()
    }
    return objects | sums


async def test_files_hold_ids_and_nothing_else_does(tmp_path: Path, file_url: StateUrl) -> None:
    """IDs are in members and changes alone, and keys are nowhere."""
    async with sync_env(tmp_path) as env:
        env.store = file_url
        await env.sync(ids(range(35)))
        await env.sync(ids(range(5, 45)))
        contents = await asyncio.to_thread(_contents, tmp_path / "store")
        assert not [path for path, data in contents.items() if REST_API_KEY.encode() in data]
        with_ids = {path.parent.name for path, data in contents.items() if b"user-" in data}
        assert with_ids == {"members", "changes"}
        changes = [path for path in contents if "runs/2/changes" in str(path)]
        assert [await asyncio.to_thread(_row_groups, path) for path in changes] == [[10, 5]]


def _row_groups(path: Path) -> list[int]:
    """Return the rows of each row group of a file."""
    query = """SELECT any_value(row_group_num_rows) FROM parquet_metadata(?)
        GROUP BY row_group_id ORDER BY row_group_id"""
    with duckdb.connect() as connection:
        return [rows for (rows,) in connection.execute(query, [str(path)]).fetchall()]


def _contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


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


async def test_replace_and_resync_write_all_members_again(tmp_path: Path, file_url: StateUrl) -> None:
    """A replace can be undone, and a resync clears the refused IDs."""
    async with sync_env(tmp_path, refused_ids={"user-3"}) as env, env.client() as client:
        env.store = file_url
        await env.sync(ids(range(8)))
        assert (await heads(file_url))[0].refused is not None
        await env.sync(ids(range(4, 12)), mode=Mode.REPLACE, chunk_size=100, drift_patience=0.0)
        (head,) = await heads(file_url)
        assert (head.count, head.deltas, len(head.undo), head.refused) == (8, (), 1, None)
        assert (await env.call("rollback", client, "vip", 1)).adds == 3
        assert await env.believed() == env.members == set(ids(range(8))) - {"user-3"}


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
