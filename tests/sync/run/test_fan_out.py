from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from aiobatch import AudienceClient, AudienceNotFoundError, InvalidInputError
from aiobatch.sync import (
    GuardError,
    InterruptedRunError,
    LockedError,
    Mode,
    Overrides,
    Plan,
    RunOutcome,
    SourceError,
    StateError,
    SyncEngine,
    SyncReport,
)
from aiobatch.sync.run._audience_run import AudienceRun
from aiobatch.sync.sources import _stage

from ..sync_env import ANDROID, INSTALLS, IOS, PROJECT, SyncEnv, ids, sync_env


@asynccontextmanager
async def opened(env: SyncEnv, *targets: Any) -> AsyncIterator[tuple[SyncEngine, list[AudienceClient]]]:
    """Open an engine, and a client of each target."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(env.client(target=target)) for target in targets]
        engine = SyncEngine(state=env.state, options=env.options(), on_progress=env.progress.append)
        yield await stack.enter_async_context(engine), clients


def done(outcomes: list[SyncReport | Exception]) -> list[SyncReport]:
    """Return the reports, all of which must be there."""
    reports = [outcome for outcome in outcomes if isinstance(outcome, SyncReport)]
    assert len(reports) == len(outcomes), outcomes
    return reports


async def tables(engine: SyncEngine) -> set[str]:
    """Return the temporary tables and views that are left."""
    thread = engine._thread
    assert thread is not None
    rows = await thread.run(
        thread.state.rows,
        "SELECT table_name FROM duckdb_tables() WHERE temporary UNION "
        "SELECT view_name FROM duckdb_views() WHERE temporary AND NOT internal",
    )
    return {name for (name,) in rows}


async def test_source_is_read_once_for_many_targets(tmp_path: Path) -> None:
    """Both apps get the same members from an iterator, and no temporary table is left."""
    async with sync_env(tmp_path) as env, opened(env, IOS, ANDROID) as (engine, clients):
        source = iter(ids(range(35)))
        reports = done(await engine.sync_many(clients, "vip", source))
        assert [(report.read, report.adds, report.calls) for report in reports] == [(35, 35, 4)] * 2
        assert set(env.sandbox.members("vip", scope="1.x")) == set(ids(range(35)))
        assert set(env.sandbox.members("vip", scope="1.x-android")) == set(ids(range(35)))
        assert await tables(engine) <= {"ranges", "within"}


async def test_progress_contains_the_target_number(tmp_path: Path) -> None:
    """Progress of several targets differs in its `target`."""
    async with sync_env(tmp_path) as env, opened(env, IOS, ANDROID) as (engine, clients):
        done(await engine.sync_many(clients, "vip", ["a"]))
        applied = {told.target: told.applied for told in env.progress}
        assert applied == {0: 1, 1: 1}


async def test_each_target_gets_its_own_difference(tmp_path: Path) -> None:
    """Members that one target has already are not sent to it again."""
    async with sync_env(tmp_path) as env, opened(env, IOS, ANDROID) as (engine, clients):
        done(await engine.sync_many(clients[:1], "vip", ids(range(30))))
        reports = done(await engine.sync_many(clients, "vip", ids(range(31))))
        assert [report.adds for report in reports] == [1, 31]


async def test_failing_target_does_not_stop_the_others(tmp_path: Path) -> None:
    """The outcome of a failing target is its error, and the others are synced."""
    async with sync_env(tmp_path) as env, opened(env, IOS, ANDROID, PROJECT) as (engine, clients):
        done(await engine.sync_many([clients[1]], "vip", ids(range(200))))
        await clients[0].create("vip")
        options = env.options(create=False, overrides=Overrides(allow_removals=10))
        outcomes = await engine.sync_many(clients, "vip", ids(range(50)), options=options)
        assert isinstance(outcomes[0], SyncReport)
        assert outcomes[0].adds == 50
        assert isinstance(outcomes[1], GuardError)
        assert outcomes[1].report.outcome is RunOutcome.REFUSED
        assert isinstance(outcomes[2], AudienceNotFoundError)


async def test_same_target_twice_is_locked(tmp_path: Path) -> None:
    """An audience takes one run at a time, within one process as well."""
    async with sync_env(tmp_path) as env, opened(env, IOS, IOS) as (engine, clients):
        first, second = await engine.sync_many(clients, "vip", ["a"])
        assert sorted([type(first), type(second)], key=str) == sorted([SyncReport, LockedError], key=str)


async def test_failing_source_fails_all_targets(tmp_path: Path) -> None:
    """If the source cannot be read, nothing is sent to any target."""
    async with sync_env(tmp_path) as env, opened(env, IOS, ANDROID) as (engine, clients):
        outcomes = await engine.sync_many(clients, "vip", tmp_path / "missing.csv")
        assert [type(outcome) for outcome in outcomes] == [SourceError, SourceError]
        assert env.writes == 0


async def test_targets_with_different_id_types_need_an_explicit_type(tmp_path: Path) -> None:
    """Install IDs and custom IDs cannot come from one source without an explicit type."""
    async with sync_env(tmp_path) as env, opened(env, ANDROID, INSTALLS) as (engine, clients):
        outcomes = await engine.sync_many(clients, "vip", ["a"])
        assert [type(outcome) for outcome in outcomes] == [InvalidInputError, InvalidInputError]
        assert env.writes == 0


async def test_several_audiences_share_a_state(tmp_path: Path) -> None:
    """Concurrent runs in one state each give their audience its own members."""
    async with sync_env(tmp_path) as env, opened(env, PROJECT) as (engine, clients):
        sources = {f"audience-{n}": ids(range(n * 10, n * 10 + 45)) for n in range(5)}
        async with asyncio.TaskGroup() as group:
            for name, source in sources.items():
                group.create_task(engine.sync_many(clients, name, source))
        assert all(set(env.sandbox.members(name)) == set(source) for name, source in sources.items())
        assert engine._thread is not None
        assert engine._thread.running == {}


async def test_cancelling_one_audience_does_not_interrupt_others(tmp_path: Path) -> None:
    """Interrupting the statement of one audience never hits another's."""
    async with sync_env(tmp_path) as env, opened(env, PROJECT) as (engine, clients):
        tasks = [
            asyncio.create_task(engine.sync_many(clients, f"audience-{n}", ids(range(300)))) for n in range(8)
        ]
        for n, task in enumerate(tasks):
            await asyncio.sleep(0.01)
            if n % 2:
                task.cancel()
        for n, task in enumerate(tasks):
            if n % 2:
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                done(await task)
                assert set(env.sandbox.members(f"audience-{n}")) == set(ids(range(300)))


@pytest.mark.sample(1)
@pytest.mark.parametrize("step", ["prepare", "plan", "send"])
async def test_run_cancelled_from_inside_does_not_stop_the_others(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If code within a run cancels its task, the outcome is an error, and the next run finishes it."""
    real = getattr(AudienceRun, step)
    is_first = True

    async def cancelled(run: AudienceRun, *args: Any, **options: Any) -> Any:
        nonlocal is_first
        if is_first:
            is_first = False
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        return await real(run, *args, **options)

    async with sync_env(tmp_path) as env, opened(env, IOS, ANDROID) as (engine, clients):
        monkeypatch.setattr(AudienceRun, step, cancelled)
        lost, report = await engine.sync_many(clients, "vip", ids(range(35)))
        assert isinstance(lost, InterruptedRunError)
        assert str(lost).startswith("Audience 'vip': the run was cancelled. The next run resumes it.")
        assert isinstance(report, SyncReport)
        assert report.outcome is RunOutcome.DONE

        done(await engine.sync_many(clients, "vip", ids(range(35))))
        assert set(env.sandbox.members("vip", scope="1.x")) == set(ids(range(35)))
        assert set(env.sandbox.members("vip", scope="1.x-android")) == set(ids(range(35)))


async def test_broken_state_is_the_outcome_of_each_target(tmp_path: Path) -> None:
    """A state that cannot be read any more is returned as the outcome, not raised."""
    async with sync_env(tmp_path) as env, opened(env, IOS, ANDROID) as (engine, clients):
        await engine.name_targets({})
        thread = engine._thread
        assert thread is not None
        await thread.run(thread.state.rows, "DROP TABLE audiences")
        outcomes = await engine.sync_many(clients, "vip", ["a"])
        assert [type(outcome) for outcome in outcomes] == [StateError, StateError]
        assert env.writes == 0


async def test_plans_of_many_targets_send_nothing(tmp_path: Path) -> None:
    """All plans come from one reading, a refused one has its decision, and no temporary table is left."""
    async with sync_env(tmp_path) as env, opened(env, IOS, ANDROID) as (engine, clients):
        options = env.options()
        done(await engine.sync_many(clients[:1], "vip", ids(range(35)), options=options))
        writes = env.writes
        source = iter(ids(range(5, 40)))
        plans = await engine.plan_many(clients, "vip", source, options=options)
        assert [(one.adds, one.removes) for one in plans if isinstance(one, Plan)] == [(5, 5), (35, 0)]
        empty = await engine.plan_many(clients, "vip", iter([]), options=options)
        assert [one.decision.allowed for one in empty if isinstance(one, Plan)] == [False, False]
        assert env.writes == writes
        assert await tables(engine) <= {"ranges", "within"}


@pytest.mark.parametrize(("mode", "skips"), [(Mode.MIRROR, True), (Mode.ADD, True), (Mode.REMOVE, False)])
async def test_members_are_not_searched_for_repeated_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Mode, skips: bool
) -> None:
    """A source that equals the members has no ID twice. One that only has as many rows is searched."""
    searched: list[bool] = []
    find = _stage._find_repeated

    def note(*args: Any) -> bool:
        searched.append(find(*args))
        return searched[-1]

    monkeypatch.setattr(_stage, "_find_repeated", note)
    path = tmp_path / "users.csv"
    async with sync_env(tmp_path) as env, opened(env, PROJECT) as (engine, [client]):
        path.write_text("\n".join(["user_id", *ids(range(20))]))
        await engine.sync(client, "vip", path)
        assert searched == [False]
        options = env.options(mode=mode)
        assert (await engine.plan(client, "vip", path, options=options)).staged == 20
        assert len(searched) == (1 if skips else 2)
        path.write_text("\n".join(["user_id", *ids(range(19), [3])]))
        plan = await engine.plan(client, "vip", path, options=options)
        assert (plan.staged, plan.report.duplicate, searched[-1]) == (19, 1, True)
