"""What an interrupted run was to do is part of the next plan, unless its source decides otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from aiobatch import Member
from aiobatch.sync import GuardError, GuardPolicy, Mode, Overrides, Plan, RunOutcome, SendError, StateUrl

from ..sync_env import ONCE, SyncEnv, ids, sync_env

_KINDS = ["lost", "reset"]
_BEFORE = ids(range(200))


async def _interrupt(env: SyncEnv, source: list[Any], *, kind: str, **options: Any) -> None:
    """Start a run of one chunk of unknown outcome: `lost` takes effect, `reset` does not."""
    env.sandbox.fail_next(kind, operation="replace" if options.get("mode") is Mode.REPLACE else "update")
    with pytest.raises(SendError):
        await env.sync(source, client=ONCE, chunk_size=1000, **options)


async def _settle(env: SyncEnv) -> None:
    """Settle the interrupted run by one that the guard refuses."""
    with pytest.raises(GuardError):
        await env.sync([], mode=Mode.ADD)


async def _plan(env: SyncEnv, source: list[Any], **options: Any) -> Plan:
    async with env.client() as client:
        plan: Plan = await env.call("plan", client, "vip", source, **options)
    return plan


def _after(members: set[str], mode: Mode, source: Iterable[str]) -> set[str]:
    if mode is Mode.ADD:
        return members | set(source)
    return members - set(source) if mode is Mode.REMOVE else set(source)


@pytest.mark.sample(3)
@pytest.mark.parametrize("then", [Mode.MIRROR, Mode.ADD, Mode.REMOVE])
@pytest.mark.parametrize("first", [Mode.MIRROR, Mode.ADD, Mode.REMOVE, Mode.REPLACE])
@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("store", [False, True], ids=["file", "store"])
async def test_two_runs_end_as_if_none_was_interrupted(
    tmp_path: Path, kind: str, first: Mode, then: Mode, *, store: bool
) -> None:
    """Whether the chunk took effect or not, and whatever the modes: the next run ends exact."""
    async with sync_env(tmp_path) as env:
        env.store = StateUrl(f"file://{tmp_path}/store") if store else None
        await env.sync(_BEFORE, chunk_size=1000)
        sources = {
            Mode.MIRROR: ids(range(10, 220)),
            Mode.ADD: ids(range(190, 220)),
            Mode.REMOVE: ids(range(20), [900]),
            Mode.REPLACE: ids(range(170)),
        }
        later = {
            Mode.MIRROR: ids(range(5, 205)),
            Mode.ADD: ids(range(15, 18), [210, 300]),
            Mode.REMOVE: ids([11, 30, 195, 215, 901]),
        }
        await _interrupt(env, sources[first], kind=kind, mode=first)
        report = await env.sync(later[then], mode=then)
        assert report.outcome is RunOutcome.DONE
        expected = _after(_after(set(_BEFORE), first, sources[first]), then, later[then])
        assert await env.has_exactly(expected)
        assert (await env.sync(sorted(expected))).changes == 0


@pytest.mark.sample(1)
@pytest.mark.parametrize(("kind", "store"), [("lost", False), ("reset", True)])
async def test_guard_counts_what_is_carried_over(tmp_path: Path, kind: str, *, store: bool) -> None:
    """Nothing is sent until the guard allows both together, and its remedy is enough."""
    async with sync_env(tmp_path) as env:
        env.store = StateUrl(f"file://{tmp_path}/store") if store else None
        await env.sync(_BEFORE, chunk_size=1000)
        await _interrupt(env, ids(range(50)), kind=kind, mode=Mode.REMOVE)
        at_batch, writes = env.members, env.writes
        for _ in range(2):
            with pytest.raises(GuardError, match="Nothing was sent") as caught:
                await env.sync(ids(range(40, 70)), mode=Mode.REMOVE)
            assert caught.value.removals == 70
        assert (env.members, env.writes) == (at_batch, writes)
        plan = await _plan(env, ids(range(40, 70)), mode=Mode.REMOVE)
        assert (plan.removes, plan.carried, plan.unchanged, plan.decision.allowed) == (70, 40, 0, False)
        overrides = Overrides(**caught.value.options)  # type: ignore[arg-type]  # the field of each option
        await env.sync(ids(range(40, 70)), mode=Mode.REMOVE, overrides=overrides)
        assert await env.has_exactly(ids(range(70, 200)))


async def test_guard_counts_additions_that_may_not_have_arrived(tmp_path: Path) -> None:
    """They are recorded as members, and are additions of this plan all the same."""
    guard = GuardPolicy(max_additions_percent=20)
    async with sync_env(tmp_path) as env:
        await env.sync(_BEFORE, chunk_size=1000)
        new = ids(range(200, 290))
        await _interrupt(env, new, kind="reset", mode=Mode.ADD)
        for mode, source in ((Mode.ADD, ids([300])), (Mode.MIRROR, [*_BEFORE, *new])):
            with pytest.raises(GuardError) as caught:
                await env.sync(source, mode=mode, guard=guard)
            assert caught.value.additions == 90 + (mode is Mode.ADD)
        overrides = Overrides(allow_additions=91)
        report = await env.sync(ids([300, 1]), mode=Mode.ADD, guard=guard, overrides=overrides)
        assert (report.adds, report.unchanged) == (91, 1)
        assert await env.has_exactly([*_BEFORE, *new, "user-300"])


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", _KINDS)
async def test_attributes_are_carried_over(tmp_path: Path, kind: str) -> None:
    """An ID that is sent again has its attributes and tags."""
    async with sync_env(tmp_path) as env:
        await env.sync(["a"])
        member = Member("b", attributes={"n": 1})
        await _interrupt(env, [member], kind=kind, mode=Mode.ADD)
        await env.sync([Member("c", attributes={"n": 2})], mode=Mode.ADD)
        assert env.sandbox.members("vip")["b"].attributes == {"n": 1}
        assert (await env.sync(["a", member, Member("c", attributes={"n": 2})])).changes == 0


@pytest.mark.sample(2)
@pytest.mark.parametrize("then", [Mode.MIRROR, Mode.ADD, Mode.REMOVE, Mode.RESYNC])
async def test_untracked_removals_are_carried_over(tmp_path: Path, then: Mode) -> None:
    """An ID that only Batch has is no recorded member meanwhile. Its removal is completed all the same."""
    async with sync_env(tmp_path) as env:
        await env.sync(["a", "b"])
        env.fill(["a", "b", "web", "kept"])
        await _interrupt(env, ["web"], kind="reset", mode=Mode.REMOVE)
        await _settle(env)
        assert (await _plan(env, ["a"], mode=Mode.ADD)).members_before == 2
        assert "web" in env.members
        source = ["z"] if then is Mode.REMOVE else ["a", "b"]
        report = await env.sync(source, mode=then, drift_patience=0)
        assert report.untracked_removals == 1 + (then is Mode.REMOVE)
        assert env.members == {"a", "b", "kept"}
        assert (await env.sync(["a", "b"], drift_patience=0)).changes == 0


async def test_rollback_undoes_what_was_interrupted(tmp_path: Path) -> None:
    """A wrong removal that was interrupted is not completed, also of IDs that only Batch has."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(200)))
        env.fill([*ids(range(200)), "web"])
        await _interrupt(env, [*ids(range(30)), "web"], kind="reset", mode=Mode.REMOVE)
        before = (await env.runs())[1].run
        async with env.client() as client:
            await env.call("rollback", client, "vip", before, chunk_size=1000, drift_patience=0)
        assert env.members == {*ids(range(200)), "web"}
        await env.sync(ids([5]), mode=Mode.REMOVE, drift_patience=0)
        assert env.members == {*ids(range(5), range(6, 200)), "web"}


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", _KINDS)
async def test_rollback_to_an_interrupted_run_completes_it(tmp_path: Path, kind: str) -> None:
    """The members after a run are those that it was to leave."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(200)))
        await _interrupt(env, ids(range(10), range(200, 210)), kind=kind, mode=Mode.REMOVE)
        run = (await env.runs())[0].run
        async with env.client() as client:
            await env.call("rollback", client, "vip", run, chunk_size=1000)
        assert await env.has_exactly(ids(range(10, 200)))


@pytest.mark.parametrize("mode", [Mode.REPLACE, Mode.ROLLBACK])
async def test_run_without_effect_decides_nothing(tmp_path: Path, mode: Mode) -> None:
    """A replace or a rollback that Batch certainly did not carry out leaves what was intended before."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(150)))
        await _interrupt(env, ids(range(5), [900]), kind="reset", mode=Mode.REMOVE)
        await _settle(env)
        env.sandbox.fail_next("429", operation="replace" if mode is Mode.REPLACE else "update")
        async with env.client(**ONCE) as client:
            if mode is Mode.REPLACE:
                work = env.sync(ids(range(140)), client=ONCE, mode=mode, chunk_size=1000)
            else:
                work = env.call("rollback", client, "vip", 1, chunk_size=1000)
            with pytest.raises(SendError):
                await work
        plan = await _plan(env, ["user-9"], mode=Mode.REMOVE)
        assert (plan.removes, plan.untracked_removals, plan.carried) == (6, 1, 6)


async def test_adopted_members_end_what_was_intended(tmp_path: Path) -> None:
    """What a source of all members states is certain, so that no later list changes it."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(50)))
        await _interrupt(env, ids(range(5)), kind="reset", mode=Mode.REMOVE)
        await _settle(env)
        async with env.client() as client:
            await env.call("adopt", client, "vip", ids(range(50)))
        report = await env.sync(ids([9]), mode=Mode.REMOVE)
        assert report.removes == 1
        assert await env.has_exactly(ids(range(9), range(10, 50)))
