from __future__ import annotations

from pathlib import Path

import pytest

from aiobatch import InvalidInputError
from aiobatch.sync import (
    DriftError,
    GuardError,
    LockedError,
    Remedy,
    RunOutcome,
    StalePlanError,
    SyncEngine,
    SyncOptions,
    SyncWarning,
    UnknownRunError,
)

from .sync_env import PROJECT, ids, sync_env


async def test_one_engine_opens_its_state_once(tmp_path: Path) -> None:
    """All operations share the open state, which is free again after the end."""
    async with sync_env(tmp_path) as env, env.client() as client:
        async with SyncEngine(state=env.state, options=env.options(), purpose="test purpose") as engine:
            plan = await engine.plan(client, "vip", ids(range(20)))
            assert (await engine.apply(client, plan)).outcome is RunOutcome.DONE
            assert (await engine.sync(client, "vip", ids(range(25)))).adds == 5
            assert (await engine.resync(client, "vip", ids(range(25)))).resends == 25
            assert (await engine.rollback(client, "vip", 1)).removes == 5
            assert (await engine.verify(client, "vip")).drift == 0
            with pytest.raises(LockedError, match="test purpose"):
                await env.sync(ids(range(3)))
        assert (await env.sync(ids(range(20)))).changes == 0


async def test_state_can_be_read_by_its_own_engine(tmp_path: Path) -> None:
    """Status, runs and one run are read through the state that the engine has open."""
    async with sync_env(tmp_path) as env, env.client() as client:
        async with SyncEngine(state=env.state, options=env.options()) as engine:
            await engine.sync(client, "vip", ids(range(20)))
            await engine.name_targets({"web": PROJECT})
            status, history = await engine.status(), await engine.runs("vip")
            assert (status.live, list(status.audiences_of(PROJECT))) == (False, ["vip"])
            assert (history.live, history.targets, history.runs) == (False, ("web",), (await engine.show(1),))
            with pytest.raises(UnknownRunError, match="no run 7"):
                await engine.show(7)
        assert await SyncEngine(state=env.state).runs() == history


async def test_engine_must_be_opened_to_write(tmp_path: Path) -> None:
    """Outside of `async with` nothing is opened that would have to be closed."""
    async with sync_env(tmp_path) as env, env.client() as client:
        with pytest.raises(InvalidInputError, match="async with SyncEngine"):
            await SyncEngine(state=env.state).sync(client, "vip", ["a"])
        assert not env.state.exists()


async def test_operation_may_have_its_own_options(tmp_path: Path) -> None:
    """Options of a call replace the engine's."""
    async with sync_env(tmp_path) as env, env.client() as client:
        engine = SyncEngine(state=env.state, options=env.options(create=False))
        async with engine:
            report = await engine.sync(client, "vip", ["a"], options=SyncOptions(create=True))
        assert report.outcome is RunOutcome.DONE


def test_warning_text_ends_with_its_remedy() -> None:
    """A warning as text ends with the call that fixes it."""
    assert str(SyncWarning("The counts differ.")) == "The counts differ."
    warning = SyncWarning("The counts differ.", Remedy("resync", "vip"))
    assert str(warning) == "The counts differ. Call `await engine.resync(client, 'vip', source)`."


async def test_failed_operations_leave_no_staged_table(tmp_path: Path) -> None:
    """A plan that is stale, refused or drifts leaves no table in the state that remains open."""
    async with sync_env(tmp_path) as env, env.client() as client:
        engine = SyncEngine(state=env.state, options=env.options())
        async with engine:
            await engine.sync(client, "vip", ids(range(200)))
            refused = await engine.plan(client, "vip", ids(range(9)))
            with pytest.raises(GuardError):
                await engine.apply(client, refused)
            with pytest.raises(StalePlanError):
                await engine.apply(client, refused, ids(range(8)))
            with pytest.raises(DriftError):
                await engine.adopt(client, "vip", ["a"], options=env.options(strict=True))
            thread = engine._thread
            assert thread is not None
            tables = await thread.run(
                thread.state.rows, "SELECT table_name FROM duckdb_tables() WHERE temporary"
            )
            assert not [name for (name,) in tables if name.startswith("staged")]
