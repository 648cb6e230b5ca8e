"""Copies of a state to object storage and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiobatch import InvalidInputError
from aiobatch.sync import (
    StateError,
    StateUrl,
    SyncEngine,
    copy_state,
    open_tokens,
    sync_audience,
)

from ...sync_env import ids, sync_env

pytestmark = pytest.mark.usefixtures("scratch")


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
