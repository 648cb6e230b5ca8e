"""Copies of one state: a copy that lacks the last run of another one is refused, and a sound one is not."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from aiobatch import AudienceClient
from aiobatch.sync import Mode, StateError, SyncEngine, SyncReport, sync_audience
from aiobatch.sync.run._outside_write import OutsideWrite
from aiobatch.sync.run._state_note import StateNote
from aiobatch.sync.state._lock import audience_note_path
from aiobatch.sync.state._targets import TargetKey

from ..sync_env import PROJECT, SyncEnv, ids, sync_env

KEY = TargetKey.of(PROJECT).audience_key("vip")


async def _sync(env: SyncEnv, state: Path, numbers: range, *, mode: str = "mirror") -> SyncReport:
    async with env.client() as client:
        options = env.options(mode=mode)
        return await sync_audience(client, "vip", ids(numbers), state=state, options=options)


async def _diverge(env: SyncEnv) -> Path:
    """Copy the state, and run with the copy. Return it."""
    copy = env.directory / "copy.duckdb"
    await env.sync(ids(range(100)))
    shutil.copy(env.state, copy)
    await _sync(env, copy, range(10, 110))
    return copy


async def test_older_copy_is_refused_until_a_resync(tmp_path: Path) -> None:
    """Neither a sync nor a plan nor settle uses it, nothing is sent, and the copy in use goes on."""
    async with sync_env(tmp_path) as env:
        copy = await _diverge(env)
        writes = env.writes
        async with env.client() as client, SyncEngine(state=env.state, options=env.options()) as engine:
            for call in (engine.sync, engine.plan):
                with pytest.raises(StateError, match="lacks run 2 of audience 'vip'") as caught:
                    await call(client, "vip", ids(range(100)))
                assert caught.value.reason == "older"
                assert str(copy) in caught.value.text
                assert caught.value.remedy is None
            for other in (engine.settle(client, "vip"), engine.rollback(client, "vip", 1)):
                with pytest.raises(StateError, match="older copy"):
                    await other
        assert env.writes == writes
        await _sync(env, copy, range(10, 111))
        assert env.members == set(ids(range(10, 111)))


async def test_restored_backup_is_refused_with_a_way_on(tmp_path: Path) -> None:
    """A resync brings the audience in line, and makes the other copy the older one."""
    async with sync_env(tmp_path) as env:
        copy = await _diverge(env)
        newer = env.state.with_name("newer.duckdb")
        copy.rename(newer)
        with pytest.raises(StateError, match="restored backup") as caught:
            await env.sync(ids(range(100)))
        assert caught.value.remedy is not None
        assert caught.value.remedy.operation == "resync"
        async with env.client() as client:
            await env.call("resync", client, "vip", ids(range(110)))
        assert env.members == set(ids(range(110)))
        await env.sync(ids(range(110)))
        with pytest.raises(StateError, match="older copy"):
            await _sync(env, newer, range(10, 110))


@pytest.mark.parametrize("mode", [Mode.ADD, Mode.REMOVE])
async def test_older_copy_is_a_warning_for_single_ids(tmp_path: Path, mode: Mode) -> None:
    """A run that changes only IDs of its source needs no members, and such a source cannot restate them."""
    async with sync_env(tmp_path) as env:
        await _diverge(env)
        report = await _sync(env, env.state, range(20, 25), mode=mode)
        assert any("older copy" in warning.text and warning.remedy is None for warning in report.warnings)


async def test_copy_that_has_everything_is_as_good(tmp_path: Path) -> None:
    """A state may be moved or copied between two runs, and runs without changes make no copy older."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(100)))
        moved = tmp_path / "moved.duckdb"
        shutil.copy(env.state, moved)
        await _sync(env, moved, range(100))
        await env.sync(ids(range(101)))
        assert env.members == set(ids(range(101)))


async def test_new_state_and_a_forgotten_audience_start_again(tmp_path: Path) -> None:
    """The note of another state does not matter, nor one of an audience that was forgotten."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(100)))
        async with env.client() as client:
            await env.call("forget", client, "vip")
            assert await asyncio.to_thread(StateNote.read, KEY, env.sandbox.url) is None
            await client.replace("vip", ids(range(5)))
            await env.call("adopt", client, "vip", ids(range(5)))
        env.state.unlink()
        async with env.client() as client:
            await env.call("adopt", client, "vip", ids(range(5)))
        await env.sync(ids(range(6)))
        assert env.members == set(ids(range(6)))


async def test_killed_between_state_and_note(tmp_path: Path) -> None:
    """A note of an earlier run is no reason to refuse the state, which contains that run."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(100)))
        note = audience_note_path(KEY, env.sandbox.url)
        earlier = note.read_bytes()
        await env.sync(ids(range(101)))
        note.write_bytes(earlier)
        await env.sync(ids(range(102)))
        assert env.members == set(ids(range(102)))


@pytest.mark.sample(1)
@pytest.mark.parametrize("text", ["", "[]", "{}", '{"state": 1, "state_id": "x", "run": "y", "started": ""}'])
async def test_unreadable_note_is_ignored(tmp_path: Path, text: str) -> None:
    """It is written again by the next run."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(100)))
        audience_note_path(KEY, env.sandbox.url).write_text(text, encoding="utf-8")
        assert await asyncio.to_thread(StateNote.read, KEY, env.sandbox.url) is None
        await env.sync(ids(range(101)))
        assert await asyncio.to_thread(StateNote.read, KEY, env.sandbox.url) is not None


async def test_write_outside_a_run_counts_too(tmp_path: Path) -> None:
    """After `aiobatch update` a copy from before it is older, and one that is older cannot record a write."""

    async def write(client: AudienceClient) -> None:
        async with OutsideWrite(client, "vip", "update vip") as outside:
            await outside.note(["one more"], added=True)
            await client.update("vip", add=["one more"])
            await outside.commit()

    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(100)))
        backup = tmp_path / "backup.duckdb"
        shutil.copy(env.state, backup)
        async with env.client() as client:
            await write(client)
            with pytest.raises(StateError, match="older copy"):
                await _sync(env, backup, range(100))
            shutil.copy(backup, env.state)
            with pytest.raises(StateError, match="older copy"):
                await write(client)


async def test_other_server_has_other_audiences(tmp_path: Path) -> None:
    """A copy that was used against a sandbox does not make the state of the real audience older."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(100)))
        copy = tmp_path / "trial.duckdb"
        shutil.copy(env.state, copy)
        async with sync_env(tmp_path) as trial:
            await _sync(trial, trial.directory / "other.duckdb", range(100))
            await _sync(trial, copy, range(10, 20), mode="remove")
        await env.sync(ids(range(101)))
