"""Other writers: what a run notices, and what it does not take for its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aiobatch import Limits
from aiobatch.sync import (
    AudienceGoneError,
    GuardError,
    Mode,
    Overrides,
    Phase,
    RunOutcome,
    SyncProgress,
    sync_audience,
)
from aiobatch.transport import AiohttpTransport

from ..state.test_audience_snapshots import _recreate, _Reticent
from ..sync_env import IOS, PROJECT, SyncEnv, ids, sync_env


@pytest.mark.sample(1)
@pytest.mark.parametrize("seconds", [6, 30, 59])
async def test_foreign_write_soon_after_a_run_is_noticed(tmp_path: Path, seconds: int) -> None:
    """A change that Batch could still make for the last run is a warning, in each run until one sends."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(20)))
        for number in range(3):
            env.time.leap(seconds / 3)
            env.sandbox.write_behind_back("vip", add=[f"stray-{number}"], remove=[f"user-{number}"])
            (warning,) = (await env.sync(ids(range(20)))).warnings
            assert "after the last run in this state" in warning.text
            assert warning.remedy is not None
        assert len((await env.sync(ids(range(21)))).warnings) == 1
        assert (await env.sync(ids(range(21)))).warnings == ()


async def test_deltas_have_no_remedy_that_would_make_them_the_members(tmp_path: Path) -> None:
    """Whatever another writer did, a run that adds or removes suggests no resync with its source."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(20)))
        env.time.leap(3600)
        env.sandbox.write_behind_back("vip", add=["stray"])
        for mode in (Mode.ADD, Mode.REMOVE):
            report = await env.sync(["gone"], mode=mode)
            assert report.warnings
            assert {warning.remedy for warning in report.warnings} == {None}


@pytest.mark.sample(1)
@pytest.mark.parametrize("target", [PROJECT, IOS])
async def test_audience_recreated_during_a_run_is_gone(tmp_path: Path, target: Any) -> None:
    """The run does not end well, and later runs stop until one states all members."""
    async with sync_env(tmp_path) as env:
        env.target = target
        await env.sync(ids(range(20)))

        edge = _Recreating(env)
        async with env.client(transport=edge) as client:
            with pytest.raises(AudienceGoneError, match="during this run") as caught:
                await sync_audience(
                    client,
                    "vip",
                    ids(range(21)),
                    state=env.state,
                    options=env.options(),
                    on_progress=edge.on_progress,
                )
        assert caught.value.report.outcome is RunOutcome.FAILED
        assert (await env.runs())[0].outcome is RunOutcome.FAILED
        with pytest.raises(AudienceGoneError, match="deleted and created again"):
            await env.sync(ids(range(21)))
        await env.sync(ids(range(21)), mode=Mode.RESYNC)
        assert await env.has_exactly(ids(range(21)))


class _Recreating:
    """A transport during whose first view after the chunks another writer recreates the audience."""

    def __init__(self, env: SyncEnv) -> None:
        self.inner = AiohttpTransport(env.sandbox.url, limits=Limits(), request_timeout=5)
        self.env, self.is_due = env, False

    def on_progress(self, progress: SyncProgress) -> None:
        """Recreate the audience when its members are counted."""
        self.is_due = progress.phase is Phase.CHECKING

    async def send(self, request: Any) -> Any:
        """Send a request, after the other writer's."""
        if self.is_due:
            self.is_due = False
            await _recreate(self.env)
        return await self.inner.send(request)

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self.inner.aclose()


@pytest.mark.parametrize("target", [PROJECT, IOS])
async def test_audience_recreated_after_a_killed_first_load_is_gone(tmp_path: Path, target: Any) -> None:
    """The creation time is recorded before the first chunk, so that a later run knows the difference."""
    async with sync_env(tmp_path) as env:
        env.target = target
        assert (await env.sync(ids(range(30)), wait=False)).outcome is RunOutcome.SENT
        await _recreate(env)
        with pytest.raises(AudienceGoneError, match="deleted and created again"):
            await env.sync(ids(range(30)))
        await env.sync(ids(range(30)), mode=Mode.RESYNC)
        assert await env.has_exactly(ids(range(30)))


async def test_replace_of_an_uncounted_audience_needs_permission(tmp_path: Path) -> None:
    """If Batch returns no count, the guard cannot count what a replace removes."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(300)))
        env.state.unlink()
        edge = AiohttpTransport(env.sandbox.url, limits=Limits(), request_timeout=5)
        silent = {"transport": _Reticent(edge, ("nb_ids",))}
        with pytest.raises(GuardError, match="returns no count") as caught:
            await env.sync(["a"], mode=Mode.REPLACE, client=silent)
        assert len(env.members) == 300
        assert caught.value.options == {"allow_removals": 0}
        allowed = Overrides(allow_removals=0)
        edge = AiohttpTransport(env.sandbox.url, limits=Limits(), request_timeout=5)
        silent = {"transport": _Reticent(edge, ("nb_ids",))}
        await env.sync(["a"], mode=Mode.REPLACE, client=silent, overrides=allowed)
        assert env.members == {"a"}
