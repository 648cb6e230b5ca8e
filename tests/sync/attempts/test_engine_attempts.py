"""The attempts that the engine records for programs, so that `status` sees them."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from aiobatch import InvalidInputError
from aiobatch.sandbox import PROJECT_KEY, REST_API_KEY
from aiobatch.sync import (
    Attempt,
    GuardError,
    InterruptedRunError,
    LockedError,
    RunOutcome,
    SourceError,
    StateUrl,
    SyncEngine,
    configured_places,
    load_config,
    read_attempts,
    sync_audience,
)
from aiobatch.sync import _attempts as _attempts_file

from ..sync_env import PROJECT, SyncEnv, ids, sync_env


async def _attempts(env: SyncEnv) -> list[Attempt]:
    return await asyncio.to_thread(read_attempts, env.state)


async def _last(env: SyncEnv) -> Attempt:
    """Return the last attempt. Each has its end, and the key of its audience."""
    last = (await _attempts(env))[-1]
    assert last.ended is not None
    assert (last.audience, last.exit_code) == ("vip", None)
    assert last.key is not None
    return last


@pytest.mark.sample(1)
@pytest.mark.parametrize("store", [False, True], ids=["file", "store"])
async def test_failure_to_record_is_a_warning_once(
    store: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose start could not be recorded tries again at its end, without a second warning."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    async with sync_env(tmp_path) as env:
        env.store = StateUrl(f"file://{tmp_path}/store") if store else None
        with monkeypatch.context() as patch:
            patch.setattr(_attempts_file, "_record_objects" if store else "_record_lines", refuse)
            assert (await env.sync(["a"])).adds == 1
        found = [one for one in caplog.records if one.message.startswith("attempt not recorded")]
        assert [one.levelname for one in found] == ["WARNING"]
        await env.sync(["a", "b"])
        assert (await _last(env)).read == 2


async def test_every_operation_that_changes_members_is_an_attempt(tmp_path: Path) -> None:
    """Each attempt has its operation, its run and its rows. A plan is none."""
    async with sync_env(tmp_path) as env, env.client() as client:
        async with SyncEngine(state=env.state, options=env.options()) as engine:
            plan = await engine.plan(client, "vip", ids(range(20)))
            assert await _attempts(env) == []
            await engine.apply(client, plan)
            last = await _last(env)
            assert (last.command, last.outcome, last.run) == ("apply", RunOutcome.DONE, 1)
            await engine.sync(client, "vip", ids(range(25)))
            last = await _last(env)
            assert (last.command, last.read, last.kept) == ("sync", 25, 25)
            await engine.rollback(client, "vip", 1)
            assert (await _last(env)).command == "rollback"
            await engine.adopt(client, "vip", ids(range(20)))
            assert (await _last(env)).command == "adopt"
        await sync_audience(client, "vip", ids(range(20)), state=env.state, options=env.options())
        assert len(await _attempts(env)) == 5


async def test_attempts_that_fail_have_their_reason(tmp_path: Path) -> None:
    """An attempt that was refused, or could not read its source or open its state, is recorded with why."""
    async with sync_env(tmp_path) as env, env.client() as client:
        await env.sync(ids(range(200)))
        for source, error, outcome in (
            (ids(range(10)), GuardError, RunOutcome.REFUSED),
            (tmp_path / "missing.csv", SourceError, RunOutcome.FAILED),
        ):
            with pytest.raises(error) as raised:
                await sync_audience(client, "vip", source, state=env.state, options=env.options())
            last = await _last(env)
            assert (last.outcome, last.error) == (outcome, raised.value.text)
        async with SyncEngine(state=env.state) as other:
            await other.name_targets({})
            with pytest.raises(LockedError):
                await sync_audience(client, "vip", ids(range(3)), state=env.state)
        assert (await _last(env)).outcome is RunOutcome.FAILED
        recorded = len(await _attempts(env))
        with pytest.raises(InvalidInputError):
            await sync_audience(client, "", ids(range(3)), state=env.state)
        assert len(await _attempts(env)) == recorded


async def test_interrupted_attempts_are_recorded(tmp_path: Path) -> None:
    """An attempt that was stopped or cancelled has its end, and its error is raised as before."""
    async with sync_env(tmp_path) as env, env.client() as client:
        stop = asyncio.Event()
        stop.set()
        async with SyncEngine(state=env.state, options=env.options(), stop=stop) as engine:
            with pytest.raises(InterruptedRunError):
                await engine.sync(client, "vip", ids(range(3)))
        assert (await _last(env)).outcome is RunOutcome.INTERRUPTED
        reading = asyncio.Event()

        async def users() -> None:
            reading.set()
            await asyncio.Event().wait()

        async with SyncEngine(state=env.state, options=env.options()) as engine:
            engine._contexts = lambda *_: users()  # type: ignore[assignment]
            task = asyncio.create_task(engine.sync(client, "vip", ids(range(3))))
            await reading.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert (await _last(env)).outcome is RunOutcome.INTERRUPTED


async def test_a_program_may_keep_its_own_record(tmp_path: Path) -> None:
    """With records_attempts=False, nothing is recorded."""
    async with sync_env(tmp_path) as env, env.client() as client:
        options = env.options()
        async with SyncEngine(state=env.state, options=options, records_attempts=False) as engine:
            await engine.sync(client, "vip", ids(range(3)))
        assert await _attempts(env) == []


def test_status_relates_attempts_of_programs_to_places(tmp_path: Path) -> None:
    """The first attempt of a place is found by its key, since a program knows no name of the config."""
    attempt = Attempt(command="sync", audience="vip").to(PROJECT)
    env = {"REST": REST_API_KEY, "PROJECT": PROJECT_KEY}
    path = tmp_path / "aiobatch.toml"
    path.write_text(
        '[projects.web]\nrest_api_key = "${REST}"\nproject_key = "${PROJECT}"\n'
        '[audiences.vip]\nsource = "users.csv"\nprojects = ["web"]\n'
    )
    (place,) = configured_places(load_config(path, env=env), None, [attempt], None)
    assert place.last_attempt == attempt
