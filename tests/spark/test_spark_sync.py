"""A sync of a DataFrame does what a local sync of the same rows does, and only the driver sends."""

from __future__ import annotations

import asyncio
import random
import re
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest

from aiobatch import AudienceClient, InvalidInputError
from aiobatch.sandbox import PROJECT_KEY, REST_API_KEY
from aiobatch.spark import plan_audience, sync_audience
from aiobatch.sync import GuardError, GuardPolicy, Mode, Plan, SourceError, SyncEngine, SyncReport

from ..sync.cluster.parts import Frame, Row, random_rows
from ..sync.sync_env import PROJECT, SyncEnv, until
from .sessions import COLUMNS, frame_of, through

_SAME = ("staged", "source_digest", "adds", "removes", "attribute_changes", "untracked_removals", "unchanged")
_ACCOUNTING = ("read", "kept", "duplicate", "rejected", "reasons", "lint", "attribute_lint")


async def sync(env: SyncEnv, df: Any, **options: Any) -> SyncReport:
    """Sync the audience with a frame."""
    columns = options.pop("columns", COLUMNS)
    async with env.client() as client:
        options = {"chunk_size": 50, **options}
        return await sync_audience(
            client, "vip", df, state=env.state, options=env.options(**options), **columns
        )


async def both_plans(env: SyncEnv, df: Any, rows: list[Row], mode: Mode) -> tuple[Plan, Plan]:
    """Return the plan of Spark and that of a local engine."""
    options = env.options(mode=mode)
    async with env.client() as client:
        ours = await plan_audience(client, "vip", df, state=env.state, options=options, **COLUMNS)
        with duckdb.connect() as connection:
            source = Frame.of(connection, rows).whole()
            async with SyncEngine(state=env.state, options=options) as engine:
                return ours, await engine.plan(client, "vip", source)


def changed(seed: int) -> list[Row]:
    """Return rows that differ in part from the first ones."""
    some = random.Random(seed)
    return [*(row for row in random_rows(0) if some.random() < 0.9), *random_rows(seed, count=40)]


async def test_plans_are_those_of_the_local_engine(spark: Any, env: SyncEnv) -> None:
    """Counts, digest, reasons and lint are equal, with duplicates in several partitions. So are members."""
    first = await sync(env, frame_of(spark, random_rows(0)))
    assert first.adds == len(env.members) > 50
    for seed, mode in enumerate((Mode.ADD, Mode.REMOVE, Mode.MIRROR, Mode.MIRROR), start=1):
        rows = changed(seed)
        df = frame_of(spark, rows, partitions=seed)
        ours, theirs = await both_plans(env, df, rows, mode)
        assert [getattr(ours, name) for name in _SAME] == [getattr(theirs, name) for name in _SAME]
        assert [getattr(ours.report, name, None) for name in _ACCOUNTING] == [
            getattr(theirs.report, name, None) for name in _ACCOUNTING
        ]
        assert ours.decision == theirs.decision
        report = await sync(env, df, mode=mode)
        assert report.applied == ours.changes
        assert env.members == await env.believed()
    with duckdb.connect() as connection:
        writes = env.writes
        again = await env.sync(Frame.of(connection, changed(4)).whole())
        assert (again.calls, env.writes) == (0, writes)
    assert not list(env.directory.rglob("runs/0/**/*.parquet"))


async def test_a_task_that_fails_once_counts_once(spark: Any, env: SyncEnv) -> None:
    """Spark starts the task again, and its rows are counted once."""

    def fail_once() -> None:
        from pyspark import TaskContext

        if TaskContext.get().attemptNumber() == 0:
            msg = "the executor is lost"
            raise RuntimeError(msg)

    rows = random_rows(1)
    report = await sync(env, through(frame_of(spark, rows), fail_once))
    with duckdb.connect() as connection:
        local = await env.sync(Frame.of(connection, rows).whole())
    assert [getattr(report, name, None) for name in _ACCOUNTING] == [
        getattr(local, name, None) for name in _ACCOUNTING
    ]
    assert local.calls == 0


async def test_a_failed_job_sends_nothing(spark: Any, env: SyncEnv) -> None:
    """The error has no text of Spark, which may contain an ID. The audience is as before."""

    def fail() -> None:
        msg = "user-4711 is odd"
        raise RuntimeError(msg)

    await sync(env, frame_of(spark, random_rows(1)))
    before, writes = env.members, env.writes
    with pytest.raises(SourceError, match="the job failed") as caught:
        await sync(env, through(frame_of(spark, changed(1)), fail))
    assert "4711" not in str(caught.value)
    assert (env.members, env.writes) == (before, writes)
    typed = frame_of(spark, [("a", 1, None)]).selectExpr("1.5D AS uid", "age", "tags")
    with pytest.raises(SourceError, match="column 'uid' has the type DOUBLE"):
        await sync(env, typed)
    assert env.writes == writes


async def test_the_guard_refuses_before_a_call(spark: Any, env: SyncEnv) -> None:
    """The guard decides on the driver."""
    await sync(env, frame_of(spark, random_rows(1)))
    writes = env.writes
    guard = GuardPolicy(max_removals=1)
    with pytest.raises(GuardError, match="the guard refused the plan"):
        await sync(env, frame_of(spark, random_rows(1)[:10]), guard=guard)
    with pytest.raises(GuardError):
        await sync(env, frame_of(spark, []), guard=guard)
    assert env.writes == writes


async def test_what_is_refused_starts_no_job(spark: Any, env: SyncEnv) -> None:
    """A local state, a missing column, a stream and other modes are refused before Spark works."""
    df, tracker = frame_of(spark, random_rows(1)), spark.sparkContext.statusTracker()
    jobs = tracker.getJobIdsForGroup(None)

    async def refused(match: str, df: Any = df, state: Any = None, **arguments: Any) -> None:
        columns = COLUMNS | {
            name: arguments.pop(name) for name in list(arguments) if name in {*COLUMNS, "buckets"}
        }
        async with env.client() as client:
            with pytest.raises(InvalidInputError, match=match):
                await sync_audience(
                    client, "vip", df, state=state or env.state, options=env.options(**arguments), **columns
                )

    await refused("state must be a URL", state=str(env.directory / "state.duckdb"))
    await refused("no single column 'nope'", id_column="nope")
    await refused("no column 'nope'", attributes=["nope"])
    await refused("Spark supports the modes mirror, add, remove", mode=Mode.REPLACE)
    await refused("no file of rejected rows", rejects=env.rejects)
    await refused("buckets must be", buckets=0)
    await refused("df must be a DataFrame of Spark, not list", df=["u1"])
    await refused("df is a stream", df=spark.readStream.format("rate").load())
    env.target = PROJECT
    await refused("does not accept tags")
    assert tracker.getJobIdsForGroup(None) == jobs
    assert not env.writes


async def test_cancelling_cancels_the_job(spark: Any, env: SyncEnv) -> None:
    """Nothing is left: no job, no lock, no call."""
    tracker = spark.sparkContext.statusTracker()
    slow = through(frame_of(spark, random_rows(1)), lambda: time.sleep(600))
    running = asyncio.create_task(sync(env, slow))
    await until(lambda: bool(tracker.getActiveJobsIds()))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(lambda: not tracker.getActiveJobsIds())
    assert not env.writes
    report = await sync(env, frame_of(spark, random_rows(1)))
    assert report.applied == len(env.members)


async def test_an_open_run_is_settled_first(spark: Any, env: SyncEnv) -> None:
    """Any process can settle what Spark planned. A sync that adds compares with the settled members."""
    sent = await sync(env, frame_of(spark, random_rows(1)), wait=False)
    assert sent.outcome == "sent"
    added = await sync(env, frame_of(spark, changed(1)), mode=Mode.ADD, wait=False)
    assert added.settled_run == sent.run
    async with env.client() as client:
        run = await env.call("settle", client, "vip")
    assert run.settled
    assert env.members == await env.believed()


async def test_the_number_of_tasks_changes_nothing(spark: Any, env: SyncEnv) -> None:
    """A client of another API, one bucket or many, and integers as IDs."""
    env.target = PROJECT
    df = spark.range(100, numPartitions=2).selectExpr("id AS user_id", "'x' AS `odd``.name`")
    columns: dict[str, Any] = {"attributes": {"odd`.name": "odd"}}
    digests = set()
    for buckets in (1, 7):
        async with env.client() as client:
            await _created(client)
            plan = await plan_audience(
                client, "vip", df, state=env.state, options=env.options(), buckets=buckets, **columns
            )
        digests.add((plan.source_digest, plan.adds))
    assert len(digests) == 1
    assert {adds for _, adds in digests} == {100}


async def _created(client: AudienceClient) -> None:
    try:
        await client.view("vip")
    except Exception:  # noqa: BLE001 - it is created only once
        await client.create("vip")


async def test_the_program_of_the_guide_runs(
    spark: Any, env: SyncEnv, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The program of docs/howto/spark.md syncs a table to the sandbox."""
    page = (Path(__file__).parents[2] / "docs" / "howto" / "spark.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    environment = {"REST_API_KEY": REST_API_KEY, "PROJECT_KEY": PROJECT_KEY, "BASE_URL": env.sandbox.url}
    for name, value in environment.items():
        monkeypatch.setenv(f"BATCH_{name}", value)
    program = program.replace("s3://crm/aiobatch", str(env.state)).replace("crm.users", "users")
    program = program.replace("asyncio.run(main())", "")
    rows = spark.range(50).selectExpr("concat('u', id) AS user_id", "'gold' AS plan", "id < 40 AS is_vip")
    rows.createOrReplaceTempView("users")
    names: dict[str, Any] = {}
    exec(program, names)  # noqa: S102 - a program of this repository
    await names["main"]()
    assert capsys.readouterr().out == "40 0\n"
    env.target = PROJECT
    assert len(env.members) == 40
