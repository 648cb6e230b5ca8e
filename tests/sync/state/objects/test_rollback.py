"""Rollbacks to runs that the head of an audience leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiobatch.sync import StateUrl, UnknownRunError
from aiobatch.sync.state import _run_changes
from aiobatch.sync.state.objects import _load, _tables

from ...sync_env import ids, sync_env


async def test_rollback_knows_every_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the retained changes it is refused, with the run to choose. Up to them it is exact."""
    monkeypatch.setattr(_run_changes, "KEEP_RUNS", 2)
    monkeypatch.setattr(_load, "LATEST", 2)
    monkeypatch.setattr(_tables, "_HISTORY", _tables._HISTORY.replace(f"LIMIT {_tables.LATEST}", "LIMIT 2"))
    async with sync_env(tmp_path) as env, env.client() as client:
        env.store = StateUrl(f"file://{tmp_path}/store")
        await env.sync(ids(range(10)))
        await env.call("resync", client, "vip", ids(range(10)))  # run 2: a head keeps the last of this mode
        for size in (11, 12, 13, 14, 15):  # runs 3 to 7
            await env.sync(ids(range(size)))
        for _ in range(3):  # runs 8 to 10 change nothing
            await env.sync(ids(range(15)))
        calls = env.writes
        for run in (1, 4):
            with pytest.raises(
                UnknownRunError, match=rf"changes of run {run + 1} .* Choose run 5 or a later"
            ):
                await env.call("rollback", client, "vip", run)
        with pytest.raises(UnknownRunError, match="it has no run 99"):
            await env.call("rollback", client, "vip", 99)
        assert env.writes == calls
        assert (await env.call("rollback", client, "vip", 5)).removes == 2
        assert env.members == set(ids(range(13))) == await env.believed()


async def test_rollback_of_an_unknown_audience_is_refused(tmp_path: Path) -> None:
    """There is no head, and so no run."""
    async with sync_env(tmp_path) as env, env.client() as client:
        env.store = StateUrl(f"file://{tmp_path}/store")
        await client.create("vip")
        with pytest.raises(UnknownRunError, match="it has no run 1"):
            await env.call("rollback", client, "vip", 1)
