from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import attrs
import orjson
import pytest

from aiobatch import Limits
from aiobatch.interfaces import Request, Response
from aiobatch.sync import (
    AudienceGoneError,
    GuardPolicy,
    Mode,
    ReplacedElsewhereError,
    SendError,
    UnknownMembersError,
)
from aiobatch.sync.state._audience_snapshots import AudienceSnapshot, snapshot_of
from aiobatch.transport import AiohttpTransport

from ..sync_env import IOS, ONCE, PROJECT, SyncEnv, ids, sync_env


async def _recreate(env: SyncEnv) -> None:
    """Delete the audience and create it again, as another writer would."""
    async with env.client() as client:
        for begin in (client.delete, client.create):
            token = await begin("vip")
            if token is not None:
                await client.await_applied(token)
            env.time.leap(86_400)


def test_created_audience_that_is_not_shown_has_no_times() -> None:
    """Batch may accept a create before it shows the audience."""
    assert snapshot_of(None) == AudienceSnapshot()


@pytest.mark.sample(1)
@pytest.mark.parametrize("target", [PROJECT, IOS])
async def test_difference_is_not_sent_to_a_recreated_audience(tmp_path: Path, target: Any) -> None:
    """Only a run that sends all members may go on after an audience was deleted and created again."""
    async with sync_env(tmp_path) as env:
        env.target = target
        await env.sync(ids(range(20)))
        await _recreate(env)
        writes = env.writes
        for mode in (Mode.MIRROR, Mode.ADD, Mode.REMOVE):
            with pytest.raises(AudienceGoneError, match="deleted and created again"):
                await env.sync(ids(range(21)), mode=mode)
        async with env.client() as client:
            with pytest.raises(AudienceGoneError):
                await env.call("plan", client, "vip", ["a"])
        assert env.writes == writes
        await env.sync(ids(range(21)), mode=Mode.RESYNC)
        assert await env.has_exactly(ids(range(21)))
        await env.sync(ids(range(22)))
        assert await env.has_exactly(ids(range(22)))


async def test_open_chunk_is_not_sent_to_a_recreated_audience(tmp_path: Path) -> None:
    """The chunks of an interrupted run assume members that no longer exist."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(20)))
        await env.sync(ids(range(30)), wait=False)
        await _recreate(env)
        writes = env.writes
        with pytest.raises(AudienceGoneError):
            await env.sync(ids(range(30)))
        assert env.writes == writes
        await env.sync(ids(range(30)), mode=Mode.RESYNC)
        assert await env.has_exactly(ids(range(30)))


async def test_failed_resync_does_not_accept_a_recreated_audience(tmp_path: Path) -> None:
    """Until a resync has sent everything, a difference is refused as before."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(20)))
        await _recreate(env)
        env.sandbox.fail_next("429", operation="update")
        with pytest.raises(SendError):
            await env.sync(ids(range(20)), mode=Mode.RESYNC, client=ONCE)
        with pytest.raises(AudienceGoneError):
            await env.sync(ids(range(20)))


async def test_empty_audience_may_be_recreated(tmp_path: Path) -> None:
    """An audience without recorded members, or one that was forgotten or adopted since, is accepted."""
    async with sync_env(tmp_path) as env:
        await env.sync(["a"])
        await env.sync(["b"], mode=Mode.REPLACE)
        await env.sync(["b"], mode=Mode.REMOVE)
        await _recreate(env)
        env.sandbox.fail_next("lost", operation="update")
        with pytest.raises(SendError):
            await env.sync(["c"], client=ONCE)
        await env.sync(["c"])  # which that run left open
        assert await env.has_exactly(["c"])
        await _recreate(env)
        async with env.client() as client:
            await env.call("forget", client, "vip")
        await env.sync(["d"])
        assert await env.has_exactly(["d"])
        await _recreate(env)
        env.fill(["e"])
        async with env.client() as client:
            await env.call("adopt", client, "vip", ["e"])
        await env.sync(["e", "f"])
        assert await env.has_exactly(["e", "f"])


async def test_foreign_write_that_keeps_the_count_is_noticed(tmp_path: Path) -> None:
    """A change after the last run comes from another writer, even if the number of members is the same."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(20)))
        env.time.leap(3600)
        assert (await env.sync(ids(range(20)))).warnings == ()
        assert (await env.sync(ids(range(21)))).warnings == ()
        env.time.leap(3600)
        env.sandbox.write_behind_back("vip", add=["stray"], remove=["user-5"])
        (warning,) = (await env.sync(ids(range(21)))).warnings
        assert "after the last run in this state" in warning.text
        assert len((await env.sync(ids(range(21)))).warnings) == 1  # a run that sends nothing hides nothing
        assert len((await env.sync(ids(range(22)))).warnings) == 1
        assert (await env.sync(ids(range(22)))).warnings == ()
        await env.sync(ids(range(22)), mode=Mode.RESYNC)
        assert env.members == {*ids(range(22)), "stray"}


async def test_difference_is_not_sent_to_an_emptied_audience(tmp_path: Path) -> None:
    """The audience would end with the difference alone. With few members or a late count, the run warns."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(100)))
        env.fill([])
        assert "before the run" in (await env.sync(ids(range(100)))).warnings[0].text  # no later than our own
        env.time.leap(3600)
        env.fill([])
        writes = env.writes
        for mode in (Mode.MIRROR, Mode.ADD):
            with pytest.raises(ReplacedElsewhereError, match="removed them"):
                await env.sync(ids(range(101)), mode=mode)
        assert env.writes == writes
        few = GuardPolicy(small_audience=101)
        assert "before the run" in (await env.sync(ids(range(100)), guard=few)).warnings[1].text
        await env.sync(ids(range(101)), mode=Mode.RESYNC)
        assert await env.has_exactly(ids(range(101)))


async def test_state_from_a_backup_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is not in the state has changed the audience since, as another machine notices, too."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(20)))
        shutil.copy(env.state, tmp_path / "backup")
        env.time.leap(86_400)
        await env.sync(ids(range(1, 21)))
        shutil.copy(tmp_path / "backup", env.state)
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "other machine"))
        assert "another copy of this state" in (await env.sync(ids(range(20)))).warnings[0].text


async def test_late_change_of_the_last_run_is_not_foreign(tmp_path: Path) -> None:
    """After a run that did not wait for its tokens, the time of its changes is unknown."""
    async with sync_env(tmp_path) as env:
        await env.sync(["a"])
        env.time.halt()
        await env.sync(["a", "b"], wait=False)
        env.time.go_on()
        env.time.leap(3600)
        report = await env.sync(["a", "b"])
        assert (report.settled_run, report.warnings) == (2, ())


@attrs.define
class _Reticent:
    """A transport to a service that leaves out fields of an audience."""

    inner: AiohttpTransport
    hidden: tuple[str, ...]

    async def send(self, request: Request) -> Response:
        """Leave things out of the answer."""
        response = await self.inner.send(request)
        if request.operation != "view":
            return response
        row = {name: value for name, value in orjson.loads(response.body).items() if name not in self.hidden}
        return attrs.evolve(response, body=orjson.dumps(row))

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self.inner.aclose()


async def test_missing_times_disable_the_check(tmp_path: Path) -> None:
    """Without times, only the number of members shows foreign writes."""
    async with sync_env(tmp_path) as env:
        edge = AiohttpTransport(env.sandbox.url, limits=Limits(), request_timeout=5)
        reticent = {"transport": _Reticent(edge, ("created", "updated"))}
        await env.sync(ids(range(20)), client=reticent)
        await _recreate(env)
        env.fill(ids(range(20)))
        assert (await env.sync(ids(range(21)))).warnings == ()
        assert await env.has_exactly(ids(range(21)))


async def test_missing_count_is_not_zero(tmp_path: Path) -> None:
    """A first run stops if the audience may have members."""
    async with sync_env(tmp_path) as env:
        await env.sync(["a"])
        env.state.unlink()
        edge = AiohttpTransport(env.sandbox.url, limits=Limits(), request_timeout=5)
        with pytest.raises(UnknownMembersError, match="may have members"):
            await env.sync(["b"], client={"transport": _Reticent(edge, ("nb_ids",))})
        assert env.members == {"a"}
