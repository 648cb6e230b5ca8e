from __future__ import annotations

import asyncio
from pathlib import Path

import attrs
import pytest

from aiobatch import AudienceNotFoundError, InvalidInputError, SyncError
from aiobatch.sync import (
    Basis,
    GuardError,
    Mode,
    OpenRunError,
    Plan,
    RunOutcome,
    StalePlanError,
    SyncEngine,
    SyncOptions,
    SyncReport,
    sync_audience,
)

from ..sync_env import IOS, ONCE, ids, sync_env


async def test_plan_estimates_with_the_learned_rate(tmp_path: Path) -> None:
    """After a 429 the client limits its rate, and the plan's estimate uses that rate."""
    async with sync_env(tmp_path) as env, env.client() as client:
        await sync_audience(client, "vip", ["a"], state=env.state, options=env.options())
        env.sandbox.fail_next("429")
        plan = await env.call("plan", client, "vip", ids(range(1000)))
        assert client.rate_limit is not None
        assert plan.basis is Basis.RATE
        assert plan.seconds == plan.report.expected_seconds == 2 * plan.calls / client.rate_limit


async def test_plan_sends_nothing(tmp_path: Path) -> None:
    """A plan contains what a run would do, and creates no audience."""
    async with sync_env(tmp_path) as env, env.client() as client:
        plan = await env.call("plan", client, "vip", ["a"])
        assert (plan.adds, plan.report.outcome, plan.report.calls, plan.report.run) == (
            1,
            RunOutcome.PLANNED,
            1,
            None,
        )
        with pytest.raises(AudienceNotFoundError):
            await env.call("plan", client, "vip", ["a"], create=False)
        assert env.writes == 0


async def test_plan_contains_the_guards_refusal(tmp_path: Path) -> None:
    """The guard's decision is part of a plan, not an error of planning."""
    async with sync_env(tmp_path) as env, env.client() as client:
        plan = await env.call("plan", client, "vip", [])
        assert not plan.decision.allowed
        with pytest.raises(GuardError):
            await env.call("apply", client, plan, [])
        assert env.writes == 0


async def test_saved_plan_is_applied(tmp_path: Path) -> None:
    """A plan that was saved and loaded is applied with its own source and options."""
    source, path = tmp_path / "users.csv", tmp_path / "plan.json"
    source.write_text("id\na\nb\n", encoding="utf-8")
    async with sync_env(tmp_path) as env, env.client() as client:
        plan = await env.call("plan", client, "vip", source)
        await asyncio.to_thread(plan.save, path)
        saved = await asyncio.to_thread(Plan.load, path)
        assert saved.state == str(env.state)
        async with SyncEngine(state=env.state) as engine:
            report = await engine.apply(client, saved)
        assert (report.adds, report.outcome) == (2, RunOutcome.DONE)
        assert await env.has_exactly(["a", "b"])


async def test_plan_without_source_needs_one(tmp_path: Path) -> None:
    """A plan takes another source with the same IDs. One that keeps no source is refused without it."""
    async with sync_env(tmp_path) as env, env.client() as client:
        plan = attrs.evolve(await env.call("plan", client, "vip", ["a", "b"]), source=None)
        with pytest.raises(InvalidInputError, match="keeps no source"):
            await env.call("apply", client, Plan.from_json(plan.to_json()))
        report = await env.call("apply", client, plan, ["b", "a"])
        assert report.outcome == RunOutcome.DONE


async def test_stale_plan_is_refused(tmp_path: Path) -> None:
    """A changed source, state, mode or target makes a plan stale, and nothing is sent."""
    async with sync_env(tmp_path) as env, env.client() as client:
        await env.sync(["a"])
        plan = await env.call("plan", client, "vip", ["a", "b"])
        writes = env.writes
        with pytest.raises(StalePlanError, match="source"):
            await env.call("apply", client, plan, ["a", "c"])
        with pytest.raises(StalePlanError, match="mode"):
            await env.call(
                "apply", client, attrs.evolve(plan, options=SyncOptions(mode=Mode.ADD)), ["a", "b"]
            )
        async with env.client(target=IOS) as other:
            with pytest.raises(StalePlanError, match="another app or project"):
                await env.call("apply", other, plan, ["a", "b"])
        assert env.writes == writes
        await env.sync(["a", "x"])
        with pytest.raises(StalePlanError, match="state has moved"):
            await env.call("apply", client, plan, ["a", "b"])
        assert env.members == {"a", "x"}


async def test_plan_and_apply_refuse_an_open_run(tmp_path: Path) -> None:
    """Only a sync settles a run of unknown outcome. A plan fails, and an older plan is stale."""
    async with sync_env(tmp_path) as env, env.client() as client:
        await env.sync(["a"])
        plan = await env.call("plan", client, "vip", ["a", "b"])
        env.sandbox.fail_next("lost", operation="update")
        with pytest.raises(SyncError):
            await env.sync(["a", "c"], client=ONCE)
        writes = env.writes
        with pytest.raises(StalePlanError, match="is not settled"):
            await env.call("apply", client, plan, ["a", "b"])
        with pytest.raises(OpenRunError):
            await env.call("plan", client, "vip", ["a", "b"])
        assert env.writes == writes


async def test_plans_of_several_targets_are_applied_together(tmp_path: Path) -> None:
    """The source is read once for all plans, and a stale one does not stop the others."""
    async with sync_env(tmp_path) as env, env.client() as web, env.client(target=IOS) as ios:
        clients = [web, ios]
        async with SyncEngine(state=env.state, options=env.options()) as engine:
            planned = await engine.plan_many(clients, "vip", ids(range(12)))
            plans = [one for one in planned if isinstance(one, Plan)]
            assert [one.adds for one in plans] == [12, 12]
            await engine.sync(ios, "vip", ids(range(3)))
            done, stale = await engine.apply_many(clients, plans)
            assert isinstance(done, SyncReport)
            assert (done.outcome, done.adds) == (RunOutcome.DONE, 12)
            assert isinstance(stale, StalePlanError)
            for wrong in ([], plans[:1], [plans[0], attrs.evolve(plans[1], audience="other")]):
                with pytest.raises(InvalidInputError, match="plans must"):
                    await engine.apply_many(clients, wrong)
