"""What an interrupted run may have sent: the next run reads and plans first, and its source decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from aiobatch import ConnectError, Limits, Member, RetryPolicy, TransportError
from aiobatch.interfaces import Request, Response
from aiobatch.sync import GuardError, Mode, Overrides, RunOutcome, SendError, SourceError
from aiobatch.transport import AiohttpTransport

from ..sync_env import ONCE, SyncEnv, ids, sync_env


async def _interrupt(env: SyncEnv, source: list[Any], *, kind: str = "lost", **options: Any) -> None:
    """Start a run whose first chunk has an unknown outcome: `lost` takes effect, `reset` does not."""
    env.sandbox.fail_next(kind, operation="replace" if options.get("mode") is Mode.REPLACE else "update")
    with pytest.raises(SendError):
        await env.sync(source, client=ONCE, **options)
    assert not (await env.runs())[0].settled


KINDS = ["lost", "reset"]


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", KINDS)
async def test_source_decides_for_unknown_ids(tmp_path: Path, kind: str) -> None:
    """An ID of unknown outcome is added if the new source has it, and removed otherwise."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(20)))
        await _interrupt(env, ids(range(3, 25)), kind=kind, chunk_size=1000)
        new = ids(range(2), range(6, 23), [40])
        report = await env.sync(new)
        assert report.outcome is RunOutcome.DONE
        assert report.warnings == ()
        assert await env.has_exactly(new)
        assert (await env.sync(new)).changes == 0


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", KINDS)
async def test_broken_source_sends_nothing_of_an_earlier_run(tmp_path: Path, kind: str) -> None:
    """If the new source cannot be read, nothing is sent again, and the next sound one still decides."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(20)))
        await _interrupt(env, ids(range(30)), kind=kind, chunk_size=1000)
        writes = env.writes
        for _ in range(2):
            with pytest.raises(SourceError, match="Nothing was sent"):
                await env.sync(tmp_path / "missing.csv")
        assert env.writes == writes
        await env.sync(ids(range(25)))
        assert await env.has_exactly(ids(range(25)))


async def test_wrong_removal_that_was_killed_is_not_carried_out(tmp_path: Path) -> None:
    """A source that was fixed keeps its members: the guard sees the new plan, and nothing else is sent."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(200)))
        override = Overrides(allow_removals=150)
        await _interrupt(env, ids(range(50)), kind="reset", chunk_size=1000, overrides=override)
        with pytest.raises(GuardError, match="Nothing was sent") as caught:
            await env.sync(ids(range(50)))
        assert caught.value.removals == 150
        await env.sync(ids(range(200)), chunk_size=1000)
        assert len(env.members) == 200
        assert await env.has_exactly(ids(range(200)))


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", KINDS)
async def test_unknown_replace_makes_all_members_doubtful(tmp_path: Path, kind: str) -> None:
    """A replace of unknown outcome may have removed everybody, so the next mirror sends everybody."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(10)))
        await _interrupt(env, ["a", "user-1"], kind=kind, mode=Mode.REPLACE)
        await env.sync(ids(range(1, 11)))
        assert await env.has_exactly(ids(range(1, 11)))


@pytest.mark.sample(1)
@pytest.mark.parametrize("mode", [Mode.RESYNC, Mode.REPLACE])
@pytest.mark.parametrize("kind", KINDS)
async def test_restating_runs_need_no_resending(tmp_path: Path, mode: Mode, kind: str) -> None:
    """A run that states all members decides for IDs of unknown outcome, too."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(5)))
        await _interrupt(env, ids(range(2, 9)), kind=kind)
        await env.sync(ids(range(4)), mode=mode)
        assert await env.has_exactly(ids(range(4)))


async def test_attributes_of_unknown_outcome_are_sent(tmp_path: Path) -> None:
    """A change of attributes that may have arrived is undone, though the state knows the old ones."""
    async with sync_env(tmp_path) as env:
        old, new = ([Member("a", attributes={"n": number})] for number in (1, 2))
        await env.sync(old)
        await _interrupt(env, new)
        report = await env.sync(old)
        assert report.adds == 1
        assert env.sandbox.members("vip")["a"].attributes == {"n": 1}


@pytest.mark.parametrize("kind", KINDS)
async def test_deltas_of_unknown_outcome_are_part_of_the_next_plan(tmp_path: Path, kind: str) -> None:
    """A list of IDs to remove is not repeated by the next one, so it is sent with that, once it is read."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(200)))
        await _interrupt(env, ids(range(5)), kind=kind, mode=Mode.REMOVE)
        at_batch, writes = env.members, env.writes
        with pytest.raises(SourceError, match="Nothing was sent"):
            await env.sync(tmp_path / "missing.csv", mode=Mode.REMOVE)
        with pytest.raises(GuardError, match="Nothing was sent") as caught:
            await env.sync(ids(range(5, 150)), mode=Mode.REMOVE)
        assert caught.value.removals == 150
        assert (env.members, env.writes) == (at_batch, writes)
        report = await env.sync(ids([7]), mode=Mode.REMOVE)
        assert (report.removes, report.carried) == (6, 5)
        assert await env.has_exactly(ids(range(5, 7), range(8, 200)))


@attrs.define
class _Edge:
    """A transport whose updates fail as scripted, and whose other requests arrive."""

    inner: AiohttpTransport
    failures: list[TransportError]

    async def send(self, request: Request) -> Response:
        """Send a request, or fail."""
        if request.operation == "update" and self.failures:
            raise self.failures.pop(0)
        return await self.inner.send(request)

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self.inner.aclose()


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("failures", "is_settled"),
    [
        ([ConnectError("refused")], True),
        ([ConnectError("refused"), ConnectError("refused")], True),
        ([TransportError("reset"), ConnectError("refused")], False),
        ([ConnectError("refused"), TransportError("reset")], False),
    ],
    ids=repr,
)
async def test_refused_connections_are_certain(
    tmp_path: Path, failures: list[TransportError], *, is_settled: bool
) -> None:
    """If no attempt had a connection, nothing was sent, and no chunk is open."""
    async with sync_env(tmp_path) as env:
        await env.sync(["a"])
        edge = AiohttpTransport(env.sandbox.url, limits=Limits(), request_timeout=5)
        retry = RetryPolicy(attempts=len(failures), initial=0.01, maximum=0.02, request_timeout=5)
        client = {"transport": _Edge(edge, failures), "retry": retry}
        with pytest.raises(SendError):
            await env.sync(["a", "b"], client=client)
        assert (await env.runs())[0].settled is is_settled
        await env.sync(["a"])
        assert await env.has_exactly(["a"])


async def test_settle_sends_again(tmp_path: Path) -> None:
    """Without a source there is nothing to decide by, so settle completes what was begun."""
    async with sync_env(tmp_path) as env:
        await env.sync(["a"])
        await _interrupt(env, ["a", "b"], kind="reset")
        async with env.client() as client:
            run = await env.call("settle", client, "vip")
        assert run.whole
        assert await env.has_exactly(["a", "b"])
