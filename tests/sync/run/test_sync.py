from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from aiobatch import AudienceNotFoundError, InvalidInputError, Member, SyncError
from aiobatch.sync import (
    AudienceGoneError,
    Basis,
    GuardError,
    GuardPolicy,
    LockedError,
    Mode,
    OpenRunError,
    Overrides,
    Phase,
    Plan,
    RunOutcome,
    Source,
    SourceError,
    StalePlanError,
    SyncProgress,
    UnknownMembersError,
    sync_audience,
)

from ..sync_env import INSTALLS, IOS, ONCE, PROJECT, ids, sync_env, until


async def test_a_sync_sends_all_then_the_difference_then_nothing(tmp_path: Path) -> None:
    """A mirror is a diff: the calls are those of what changed, and each run is in the history."""
    async with sync_env(tmp_path) as env:
        first = await env.sync(ids(range(95)))
        assert (first.outcome, first.adds, first.calls, first.counted) == (RunOutcome.DONE, 95, 10, 95)
        second = await env.sync(ids(range(5, 105)))
        assert (second.adds, second.removes, second.calls, second.members_after) == (10, 5, 2, 100)
        third = await env.sync(ids(range(5, 105)))
        assert (third.changes, third.calls, third.outcome, third.counted) == (0, 0, RunOutcome.DONE, 100)
        assert env.sandbox.operation_counts["update"] == 12
        assert [run.outcome for run in await env.runs()] == [RunOutcome.DONE] * 3
        assert await env.has_exactly(ids(range(5, 105)))


async def test_progress_goes_through_all_phases(tmp_path: Path) -> None:
    """Whoever listens hears each phase in order, and at last all numbers."""
    async with sync_env(tmp_path, indexing_delay=0.1) as env:
        await env.sync(ids(range(30)))
        phases = list(dict.fromkeys(told.phase for told in env.progress))
        assert phases == [
            Phase.READING,
            Phase.PLANNING,
            Phase.CREATING,
            Phase.SENDING,
            Phase.WAITING,
            Phase.CHECKING,
        ]
        last = env.progress[-1]
        assert (last.read, last.total, last.sent, last.applied, last.calls) == (30, 30, 30, 30, 3)
        assert last.planned_calls == 3


async def test_a_hook_that_raises_harms_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What on_progress raises is logged, and the run goes on."""

    def fail(progress: SyncProgress) -> None:
        raise ZeroDivisionError

    async with sync_env(tmp_path) as env, env.client() as client:
        report = await sync_audience(
            client, "vip", ["a"], state=env.state, options=env.options(), on_progress=fail
        )
        assert report.outcome is RunOutcome.DONE
        assert "on_progress raised" in caplog.text


async def test_a_missing_audience_is_an_error_before_the_source_is_read(tmp_path: Path) -> None:
    """Without `create` nothing is made, and not even the source is opened."""
    async with sync_env(tmp_path) as env:
        for source in (tmp_path / "missing.csv", ["a"]):
            with pytest.raises(AudienceNotFoundError):
                await env.sync(source, create=False)
        assert env.writes == 0
        assert await env.runs() == []


async def test_a_source_that_fails_leaves_everything_as_it_was(tmp_path: Path) -> None:
    """No audience is made and nothing is sent for a source that cannot be read to its end."""
    async with sync_env(tmp_path) as env:
        with pytest.raises(SourceError) as caught:
            await env.sync(tmp_path / "missing.csv")
        assert (env.writes, await env.runs()) == (0, [])
        assert caught.value.report.outcome is RunOutcome.FAILED
        assert "Nothing was sent" in caught.value.report.error


async def test_members_that_nobody_told_stop_a_first_run(tmp_path: Path) -> None:
    """An audience with members and no state of ours is adopted or replaced, never guessed at."""
    async with sync_env(tmp_path) as env:
        await env.sync(["a"])
        env.state.unlink()
        for mode in (Mode.MIRROR, Mode.ADD, Mode.REMOVE):
            with pytest.raises(UnknownMembersError, match=r"no record of.*engine\.adopt"):
                await env.sync(["b"], mode=mode)
        assert env.members == {"a"}
        report = await env.sync(["b"], mode=Mode.REPLACE)
        assert (report.calls, report.outcome) == (1, RunOutcome.DONE)
        assert await env.has_exactly(["b"])


async def test_an_audience_that_is_there_and_empty_is_filled(tmp_path: Path) -> None:
    """No state is needed where there are no members."""
    async with sync_env(tmp_path) as env:
        async with env.client() as client:
            token = await client.create("vip")
            assert token is not None
            await client.await_applied(token)
        report = await env.sync(["a"], create=False)
        assert (report.adds, env.sandbox.operation_counts["create"]) == (1, 1)


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ([], {"overrides": Overrides(allow_removals=1000)}),
        (ids(range(60)), {}),
        (ids(range(60)), {"overrides": Overrides(allow_removals=139)}),
        (ids(range(190)), {"guard": GuardPolicy(max_removals=9)}),
        (ids(range(9)), {"mode": Mode.REPLACE}),
    ],
)
async def test_the_guard_speaks_before_the_first_call(
    tmp_path: Path, source: list[str], options: dict[str, Any]
) -> None:
    """A refused plan sends nothing and leaves members, state and history as they were."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(200)))
        writes, runs = env.writes, await env.runs()
        with pytest.raises(GuardError, match="Nothing was sent") as caught:
            await env.sync(source, **options)
        assert (env.writes, await env.runs()) == (writes, runs)
        assert await env.has_exactly(ids(range(200)))
        report = caught.value.report
        assert (report.outcome, report.run, report.calls) == (RunOutcome.REFUSED, None, 0)
        assert report.read == len(source)


async def test_the_guard_speaks_before_an_audience_is_made(tmp_path: Path) -> None:
    """An empty source makes no audience either."""
    async with sync_env(tmp_path) as env:
        with pytest.raises(GuardError):
            await env.sync([])
        assert env.writes == 0
        report = await env.sync([], overrides=Overrides(allow_empty=True))
        assert (report.outcome, report.counted, env.writes) == (RunOutcome.DONE, 0, 1)


async def test_an_override_is_for_one_run(tmp_path: Path) -> None:
    """What the guard is told once it has forgotten with the next run."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(200)))
        await env.sync(ids(range(100)), overrides=Overrides(allow_removals=100))
        assert await env.has_exactly(ids(range(100)))
        with pytest.raises(GuardError):
            await env.sync(ids(range(10)))


async def test_the_guard_counts_members_that_a_replace_would_remove_unseen(tmp_path: Path) -> None:
    """Members that Batch counts and we do not know are removals as well."""
    async with sync_env(tmp_path) as env:
        await env.sync(["a"])
        env.state.unlink()
        env.fill(ids(range(150)))
        with pytest.raises(GuardError, match="149 removals are") as caught:
            await env.sync(["a"], mode=Mode.REPLACE)
        assert (caught.value.removals, caught.value.members) == (149, 150)
        assert caught.value.options == {"allow_removals": 149}
        await env.sync(["a"], mode=Mode.REPLACE, overrides=Overrides(allow_removals=149))
        assert await env.has_exactly(["a"])


async def test_an_audience_keeps_to_one_contract_of_its_ids(tmp_path: Path) -> None:
    """Ids that are trimmed otherwise than the members were are refused, unless all are stated anew."""
    async with sync_env(tmp_path) as env:
        await env.sync(["a"])
        writes = env.writes
        with pytest.raises(InvalidInputError, match="follow the ID rules `custom_ids trim=yes"):
            await env.sync(["a ", "b"], trim=False)
        assert env.writes == writes
        await env.sync(["a ", "b"], trim=False, mode=Mode.RESYNC)
        await env.sync(["a ", "b", "c"], trim=False)
        assert await env.has_exactly(["a ", "b", "c"])


async def test_a_replace_is_one_call(tmp_path: Path) -> None:
    """A source of more ids than one call takes cannot be a replace."""
    async with sync_env(tmp_path) as env:
        await env.sync(["a"])
        with pytest.raises(InvalidInputError, match="mode mirror"):
            await env.sync(ids(range(11)), mode=Mode.REPLACE)
        await env.sync(ids(range(10)), mode=Mode.REPLACE)
        assert await env.has_exactly(ids(range(10)))
        assert env.sandbox.operation_counts["replace"] == 1


async def test_add_and_remove_leave_the_others_alone(tmp_path: Path) -> None:
    """The modes add and remove say nothing of members that the source does not have."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(20)))
        added = await env.sync(ids(range(15, 25)), mode=Mode.ADD)
        assert (added.adds, added.removes) == (5, 0)
        removed = await env.sync(ids(range(3)), mode=Mode.REMOVE)
        assert (removed.adds, removed.removes) == (0, 3)
        assert await env.has_exactly(ids(range(3, 25)))


async def test_a_plan_expects_the_rate_that_was_learned(tmp_path: Path) -> None:
    """After a 429 the client keeps to a rate of its own, and the plan counts on that."""
    async with sync_env(tmp_path) as env, env.client() as client:
        await sync_audience(client, "vip", ["a"], state=env.state, options=env.options())
        env.sandbox.fail_next("429")
        plan = await env.call("plan", client, "vip", ids(range(1000)))
        assert client.rate_limit is not None
        assert plan.basis is Basis.RATE
        assert plan.seconds == plan.report.expected_seconds == 2 * plan.calls / client.rate_limit


async def test_a_plan_sends_nothing(tmp_path: Path) -> None:
    """A plan names what a run would do, and makes not even the audience."""
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


async def test_a_plan_of_a_refused_run_says_so(tmp_path: Path) -> None:
    """The guard's verdict is part of a plan, not an error of planning."""
    async with sync_env(tmp_path) as env, env.client() as client:
        plan = await env.call("plan", client, "vip", [])
        assert not plan.verdict.allowed
        with pytest.raises(GuardError):
            await env.call("apply", client, plan, [])
        assert env.writes == 0


async def test_a_plan_is_applied_as_it_was_saved(tmp_path: Path) -> None:
    """What was planned, written and read again is what is done."""
    async with sync_env(tmp_path) as env, env.client() as client:
        plan = await env.call("plan", client, "vip", ["a", "b"])
        saved = Plan.from_json(plan.to_json())
        report = await env.call("apply", client, saved, ["b", "a"])
        assert (report.adds, report.outcome) == (2, RunOutcome.DONE)
        assert await env.has_exactly(["a", "b"])


async def test_a_plan_is_refused_when_anything_has_moved(tmp_path: Path) -> None:
    """A moved source, state, mode or target makes a plan stale, and nothing is sent."""
    async with sync_env(tmp_path) as env, env.client() as client:
        await env.sync(["a"])
        plan = await env.call("plan", client, "vip", ["a", "b"])
        writes = env.writes
        with pytest.raises(StalePlanError, match="source"):
            await env.call("apply", client, plan, ["a", "c"])
        with pytest.raises(StalePlanError, match="mode"):
            await env.call("apply", client, plan, ["a", "b"], mode=Mode.ADD)
        async with env.client(target=IOS) as other:
            with pytest.raises(StalePlanError, match="another app or project"):
                await env.call("apply", other, plan, ["a", "b"])
        assert env.writes == writes
        await env.sync(["a", "x"])
        with pytest.raises(StalePlanError, match="state has moved"):
            await env.call("apply", client, plan, ["a", "b"])
        assert env.members == {"a", "x"}


async def test_neither_a_plan_nor_its_application_steps_over_an_open_run(tmp_path: Path) -> None:
    """A run of unknown outcome is settled by a sync: a plan sends nothing, and an old one is stale."""
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


async def test_attributes_and_tags_arrive(tmp_path: Path) -> None:
    """What a source says of an id goes with it, and a change of it alone is sent again."""
    async with sync_env(tmp_path) as env:
        env.target = INSTALLS
        people = [Member("a", attributes={"age": 1}, tags=["x"]), Member("b", attributes={"age": 2}), "c"]
        await env.sync(people)
        members = env.sandbox.members("vip")
        assert (dict(members["a"].attributes), members["a"].tags) == ({"age": 1}, ("x",))
        assert (dict(members["b"].attributes), members["c"].attributes) == ({"age": 2}, {})
        report = await env.sync([*people[:1], Member("b", attributes={"age": 3}), "c"])
        assert (report.attribute_changes, report.changes) == (1, 1)
        assert dict(env.sandbox.members("vip")["b"].attributes) == {"age": 3}


@pytest.mark.parametrize(
    ("target", "columns"),
    [(IOS, {"attributes": ["age"]}), (IOS, {"tags_column": "t"}), (PROJECT, {"tags_column": "t"})],
)
async def test_columns_that_the_version_does_not_take_are_refused_before_reading(
    tmp_path: Path, target: Any, columns: dict[str, Any]
) -> None:
    """A source with attributes for 1.0, or tags for anything but 1.1, is a mistake of its columns."""
    async with sync_env(tmp_path) as env:
        env.target = target
        with pytest.raises(InvalidInputError, match="does not accept"):
            await env.sync(Source.parse(tmp_path / "missing.csv", **columns))
        assert env.sandbox.request_count == 0


async def test_ids_of_another_type_than_the_audience_holds_are_refused(tmp_path: Path) -> None:
    """Batch would refuse each of them, one by one."""
    async with sync_env(tmp_path) as env:
        env.target = IOS
        await env.sync(["a"])
        with pytest.raises(InvalidInputError, match="holds custom_ids, not advertising_ids"):
            await env.sync(tmp_path / "missing.csv", id_type="advertising_ids")


async def test_a_deleted_audience_is_not_made_anew_from_a_difference(tmp_path: Path) -> None:
    """Where we know members and Batch has no such audience, someone has to decide."""
    async with sync_env(tmp_path) as env:
        await env.sync(["a"])
        async with env.client() as client:
            token = await client.delete("vip")
            assert token is not None
            await client.await_applied(token)
        writes = env.writes
        with pytest.raises(AudienceGoneError, match=r"engine\.forget"):
            await env.sync(["a", "b"])
        assert env.writes == writes


async def test_one_audience_takes_one_run_at_a_time(tmp_path: Path) -> None:
    """A second run is refused at once, whether it uses the same state or another."""
    async with sync_env(tmp_path) as env:
        env.time.halt()
        first = asyncio.create_task(env.sync(["a"]))
        await until(lambda: bool(env.progress))
        with pytest.raises(LockedError, match="sync vip"):
            await env.sync(["b"])
        async with env.client() as client:
            with pytest.raises(LockedError, match="sync vip"):
                await sync_audience(
                    client, "vip", ["b"], state=tmp_path / "other.duckdb", options=env.options()
                )
        env.time.go_on()
        assert (await first).outcome is RunOutcome.DONE
        assert await env.has_exactly(["a"])


async def test_the_state_has_a_place_of_its_own_where_none_is_named(tmp_path: Path) -> None:
    """Without a path the state is in the user's data directory."""
    async with sync_env(tmp_path) as env, env.client() as client:
        await sync_audience(client, "vip", ["a"], options=env.options())
        assert (tmp_path / "data" / "aiobatch" / "state.duckdb").exists()
