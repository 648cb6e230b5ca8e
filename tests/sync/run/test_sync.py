from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from aiobatch import AudienceNotFoundError, InvalidInputError, Member
from aiobatch.sync import (
    AudienceGoneError,
    GuardError,
    GuardPolicy,
    LockedError,
    Mode,
    Overrides,
    Phase,
    RunOutcome,
    Source,
    SourceError,
    SyncProgress,
    UnknownMembersError,
    sync_audience,
)

from ..sync_env import INSTALLS, IOS, PROJECT, ids, sync_env, until


async def test_sync_sends_all_then_the_difference_then_nothing(tmp_path: Path) -> None:
    """The calls of a mirror are those of what changed, and each run is in the history."""
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
    """The hook gets each phase in order, and all numbers at the end."""
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


async def test_exception_of_the_hook_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Exceptions of on_progress are logged, and the run continues."""

    def fail(progress: SyncProgress) -> None:
        raise ZeroDivisionError

    async with sync_env(tmp_path) as env, env.client() as client:
        report = await sync_audience(
            client, "vip", ["a"], state=env.state, options=env.options(), on_progress=fail
        )
        assert report.outcome is RunOutcome.DONE
        assert "on_progress raised" in caplog.text


async def test_missing_audience_fails_before_the_source_is_read(tmp_path: Path) -> None:
    """Without `create` nothing is created, and the source is not opened."""
    async with sync_env(tmp_path) as env:
        for source in (tmp_path / "missing.csv", ["a"]):
            with pytest.raises(AudienceNotFoundError):
                await env.sync(source, create=False)
        assert env.writes == 0
        assert await env.runs() == []


async def test_failing_source_changes_nothing(tmp_path: Path) -> None:
    """No audience is created and nothing is sent if the source cannot be read to its end."""
    async with sync_env(tmp_path) as env:
        with pytest.raises(SourceError) as caught:
            await env.sync(tmp_path / "missing.csv")
        assert (env.writes, await env.runs()) == (0, [])
        assert caught.value.report.outcome is RunOutcome.FAILED
        assert "Nothing was sent" in caught.value.report.error


async def test_unknown_members_stop_a_first_run(tmp_path: Path) -> None:
    """An audience with unrecorded members must be adopted or replaced."""
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


async def test_existing_empty_audience_is_filled(tmp_path: Path) -> None:
    """No state is needed for an audience without members."""
    async with sync_env(tmp_path) as env:
        async with env.client() as client:
            token = await client.create("vip")
            assert token is not None
            await client.await_applied(token)
        report = await env.sync(["a"], create=False)
        assert (report.adds, env.sandbox.operation_counts["create"]) == (1, 1)


@pytest.mark.sample(2)
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
async def test_refused_plan_sends_nothing(tmp_path: Path, source: list[str], options: dict[str, Any]) -> None:
    """A refused plan leaves members, state and history as they were."""
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


async def test_refused_plan_creates_no_audience(tmp_path: Path) -> None:
    """An empty source creates no audience."""
    async with sync_env(tmp_path) as env:
        with pytest.raises(GuardError):
            await env.sync([])
        assert env.writes == 0
        report = await env.sync([], overrides=Overrides(allow_empty=True))
        assert (report.outcome, report.counted, env.writes) == (RunOutcome.DONE, 0, 1)


async def test_override_applies_to_one_run(tmp_path: Path) -> None:
    """The next run needs an override of its own."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(200)))
        await env.sync(ids(range(100)), overrides=Overrides(allow_removals=100))
        assert await env.has_exactly(ids(range(100)))
        with pytest.raises(GuardError):
            await env.sync(ids(range(10)))


async def test_guard_counts_unrecorded_members_of_a_replace(tmp_path: Path) -> None:
    """Members that Batch counts and the state does not record are removals as well."""
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


async def test_changed_id_rules_are_refused(tmp_path: Path) -> None:
    """IDs that are trimmed differently from the members are refused, unless all are restated."""
    async with sync_env(tmp_path) as env:
        await env.sync(["a"])
        writes = env.writes
        with pytest.raises(InvalidInputError, match="follow the ID rules `custom_ids trim=yes"):
            await env.sync(["a ", "b"], trim=False)
        assert env.writes == writes
        await env.sync(["a ", "b"], trim=False, mode=Mode.RESYNC)
        await env.sync(["a ", "b", "c"], trim=False)
        assert await env.has_exactly(["a ", "b", "c"])


async def test_replace_must_fit_one_call(tmp_path: Path) -> None:
    """A source with more IDs than one call takes cannot be a replace."""
    async with sync_env(tmp_path) as env:
        await env.sync(["a"])
        with pytest.raises(InvalidInputError, match="mode mirror"):
            await env.sync(ids(range(11)), mode=Mode.REPLACE)
        await env.sync(ids(range(10)), mode=Mode.REPLACE)
        assert await env.has_exactly(ids(range(10)))
        assert env.sandbox.operation_counts["replace"] == 1


async def test_add_and_remove_keep_other_members(tmp_path: Path) -> None:
    """The modes add and remove do not touch members outside the source."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(20)))
        added = await env.sync(ids(range(15, 25)), mode=Mode.ADD)
        assert (added.adds, added.removes) == (5, 0)
        removed = await env.sync(ids(range(3)), mode=Mode.REMOVE)
        assert (removed.adds, removed.removes) == (0, 3)
        assert await env.has_exactly(ids(range(3, 25)))


async def test_remove_sends_ids_that_the_state_does_not_record(tmp_path: Path) -> None:
    """An ID that another program added is removed, though the state does not know that it is a member."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(20)))
        env.sandbox.write_behind_back("vip", add=["stranger", "other"])
        removed = await env.sync(["stranger", "user-1", "absent"], mode=Mode.REMOVE)
        assert (removed.removes, removed.untracked_removals, removed.unchanged) == (1, 2, 0)
        assert env.members == {"user-0", *ids(range(2, 20)), "other"}
        again = await env.sync(["stranger", "user-1", "absent"], mode=Mode.REMOVE)
        assert (again.untracked_removals, again.calls, again.applied) == (3, 1, 3)


async def test_add_sends_ids_that_the_state_does_not_record(tmp_path: Path) -> None:
    """An ID to add that another program added already is sent, and only recorded members are not."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(20)))
        env.sandbox.write_behind_back("vip", add=["stranger"])
        added = await env.sync(["stranger", "user-1"], mode=Mode.ADD)
        assert (added.adds, added.unchanged, added.applied) == (1, 1, 1)
        assert await env.has_exactly([*ids(range(20)), "stranger"])


async def test_guard_limits_what_an_opt_out_list_removes(tmp_path: Path) -> None:
    """Members that only Batch counts are removals, too, as many as there may be."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(100)))
        env.fill(ids(range(200)))
        with pytest.raises(GuardError, match="90 removals are 45") as caught:
            await env.sync(ids(range(110, 200)), mode=Mode.REMOVE)
        assert caught.value.options == {"allow_removals": 90}
        assert len(env.members) == 200


async def test_attributes_and_tags_are_sent(tmp_path: Path) -> None:
    """Attributes and tags are sent with their ID, and a change of them alone is sent again."""
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
async def test_unsupported_columns_fail_before_reading(
    tmp_path: Path, target: Any, columns: dict[str, Any]
) -> None:
    """Attributes for 1.0, or tags for any version but 1.1, are refused."""
    async with sync_env(tmp_path) as env:
        env.target = target
        with pytest.raises(InvalidInputError, match="does not accept"):
            await env.sync(Source.parse(tmp_path / "missing.csv", **columns))
        assert env.sandbox.request_count == 0


async def test_ids_of_another_type_are_refused(tmp_path: Path) -> None:
    """Batch would refuse each ID of another type than the audience's."""
    async with sync_env(tmp_path) as env:
        env.target = IOS
        await env.sync(["a"])
        with pytest.raises(InvalidInputError, match="holds custom_ids, not advertising_ids"):
            await env.sync(tmp_path / "missing.csv", id_type="advertising_ids")


async def test_deleted_audience_is_not_created_from_a_difference(tmp_path: Path) -> None:
    """If the state records members and Batch has no such audience, the run fails."""
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


async def test_second_run_of_an_audience_is_locked(tmp_path: Path) -> None:
    """A second run fails at once, with the same state or another."""
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


async def test_default_state_is_in_the_data_directory(tmp_path: Path) -> None:
    """Without a path the state is in the user's data directory."""
    async with sync_env(tmp_path) as env, env.client() as client:
        await sync_audience(client, "vip", ["a"], options=env.options())
        assert (tmp_path / "data" / "aiobatch" / "state.duckdb").exists()
