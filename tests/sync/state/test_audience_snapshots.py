from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import attrs
import orjson
import pytest

from aiobatch import Limits
from aiobatch._http import Request, Response
from aiobatch.sync import (
    AudienceGoneError,
    GuardPolicy,
    Mode,
    ReplacedElsewhereError,
    SendError,
    UnknownMembersError,
)
from aiobatch.transport import AiohttpTransport

from ..sync_env import IOS, ONCE, PROJECT, SyncEnv, ids, sync_env


async def _make_anew(env: SyncEnv) -> None:
    """Let somebody delete the audience and, a day later, make it again."""
    async with env.client() as client:
        for begin in (client.delete, client.create):
            token = await begin("vip")
            if token is not None:
                await client.await_applied(token)
            env.time.leap(86_400)


@pytest.mark.parametrize("target", [PROJECT, IOS])
async def test_a_difference_is_not_sent_to_an_audience_that_was_made_anew(
    tmp_path: Path, target: Any
) -> None:
    """It has lost the members that the difference builds on: only what sends all of them may go on."""
    async with sync_env(tmp_path) as env:
        env.target = target
        await env.sync(ids(range(20)))
        await _make_anew(env)
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


async def test_a_chunk_that_is_open_is_not_sent_to_an_audience_that_was_made_anew(tmp_path: Path) -> None:
    """What an interrupted run left builds on members that are gone as well."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(20)))
        await env.sync(ids(range(30)), wait=False)
        await _make_anew(env)
        writes = env.writes
        with pytest.raises(AudienceGoneError):
            await env.sync(ids(range(30)))
        assert env.writes == writes
        await env.sync(ids(range(30)), mode=Mode.RESYNC)
        assert await env.has_exactly(ids(range(30)))


async def test_a_resync_that_fails_does_not_make_the_new_audience_ours(tmp_path: Path) -> None:
    """Before all of it was sent again, a difference is refused as before."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(20)))
        await _make_anew(env)
        env.sandbox.fail_next("429", operation="update")
        with pytest.raises(SendError):
            await env.sync(ids(range(20)), mode=Mode.RESYNC, client=ONCE)
        with pytest.raises(AudienceGoneError):
            await env.sync(ids(range(20)))


async def test_an_audience_without_members_may_be_made_anew(tmp_path: Path) -> None:
    """There was nothing to lose; and what was forgotten or adopted since is not missed either."""
    async with sync_env(tmp_path) as env:
        await env.sync(["a"])
        await env.sync(["b"], mode=Mode.REPLACE)
        await env.sync(["b"], mode=Mode.REMOVE)
        await _make_anew(env)
        env.sandbox.fail_next("lost", operation="update")
        with pytest.raises(SendError):
            await env.sync(["c"], client=ONCE)
        await env.sync(["c"])  # which that run left open
        assert await env.has_exactly(["c"])
        await _make_anew(env)
        async with env.client() as client:
            await env.call("forget", client, "vip")
        await env.sync(["d"])
        assert await env.has_exactly(["d"])
        await _make_anew(env)
        env.fill(["e"])
        async with env.client() as client:
            await env.call("adopt", client, "vip", ["e"])
        await env.sync(["e", "f"])
        assert await env.has_exactly(["e", "f"])


async def test_a_foreign_write_that_leaves_the_count_is_noticed(tmp_path: Path) -> None:
    """Batch says when an audience has changed: later than our last run left it, it was somebody else."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(20)))
        env.time.leap(3600)
        assert (await env.sync(ids(range(20)))).warnings == ()
        assert (await env.sync(ids(range(21)))).warnings == ()
        env.time.leap(3600)
        env.sandbox.write_behind_back("vip", add=["stray"], remove=["user-5"])
        (warning,) = (await env.sync(ids(range(21)))).warnings
        assert "after the last run in this state" in warning.text
        assert (await env.sync(ids(range(21)))).warnings == ()  # it was said once
        await env.sync(ids(range(21)), mode=Mode.RESYNC)
        assert env.members == {*ids(range(21)), "stray"}


async def test_a_difference_is_not_sent_to_an_audience_that_somebody_emptied(tmp_path: Path) -> None:
    """It would end with the difference alone; where members are few, or the count may be late, it warns."""
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


async def test_a_state_from_a_backup_is_noticed(tmp_path: Path) -> None:
    """A run that the state does not know of has written since, though it was ours."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(20)))
        shutil.copy(env.state, tmp_path / "backup")
        env.time.leap(86_400)
        await env.sync(ids(range(1, 21)))
        shutil.copy(tmp_path / "backup", env.state)
        assert "another copy of this state" in (await env.sync(ids(range(20)))).warnings[0].text


async def test_what_a_run_of_ours_changes_late_is_not_foreign(tmp_path: Path) -> None:
    """After a run that did not wait, nobody knows when Batch will say that it has changed."""
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
    """A transport to a service that does not say some things of an audience."""

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


async def test_times_that_batch_does_not_say_are_not_missed(tmp_path: Path) -> None:
    """Without them foreign writes show in the count alone."""
    async with sync_env(tmp_path) as env:
        edge = AiohttpTransport(env.sandbox.url, limits=Limits(), request_timeout=5)
        reticent = {"transport": _Reticent(edge, ("created", "updated"))}
        await env.sync(ids(range(20)), client=reticent)
        await _make_anew(env)
        env.fill(ids(range(20)))
        assert (await env.sync(ids(range(21)))).warnings == ()
        assert await env.has_exactly(ids(range(21)))


async def test_a_count_that_batch_does_not_say_is_not_none_at_all(tmp_path: Path) -> None:
    """A first run on an audience that may have members stops, as on one that has some."""
    async with sync_env(tmp_path) as env:
        await env.sync(["a"])
        env.state.unlink()
        edge = AiohttpTransport(env.sandbox.url, limits=Limits(), request_timeout=5)
        with pytest.raises(UnknownMembersError, match="may have members"):
            await env.sync(["b"], client={"transport": _Reticent(edge, ("nb_ids",))})
        assert env.members == {"a"}
