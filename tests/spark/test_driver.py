"""A driver that is killed, and a million IDs, with the state in S3."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

from aiobatch import AudienceClient
from aiobatch.spark import plan_audience, sync_audience
from aiobatch.sync import Source, StateUrl, SyncEngine, SyncOptions
from aiobatch.sync.sources._location import ArrowSource
from aiobatch.sync.state.objects import _lease

from ..sync.sync_env import INSTALLS, QUICK, SyncEnv

ROOT = Path(__file__).parents[2]
# Seconds. A taker waits 1.2 times as long.
LEASE = 6.0


async def killed_at(moment: str, job: dict[str, Any]) -> None:
    """Start a driver, and kill it when it prints a line that starts with *moment*."""
    driver = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"{__package__}.driver_process",
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    assert driver.stdin is not None
    assert driver.stdout is not None
    driver.stdin.write(json.dumps(job).encode())
    driver.stdin.write_eof()
    try:
        async with asyncio.timeout(600):
            while not (line := (await driver.stdout.readline()).decode()).startswith(moment):
                assert line, "the driver ended too early"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(driver.pid, signal.SIGKILL)
        await driver.wait()


@pytest.mark.parametrize(
    "moment", ["reading", "planning", "creating", "sending False", "sending True", "waiting", "checking"]
)
async def test_a_killed_driver_leaves_what_the_next_run_needs(
    moment: str, spark: Any, env: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kill it in each phase, and before and after the first change counts. The next sync is exact."""
    monkeypatch.setattr(_lease, "TIME_TO_LIVE", LEASE)
    retry = attrs.evolve(QUICK["retry"], request_timeout=LEASE / 3)
    job = {"lease": LEASE, "url": env.sandbox.url, "state": str(env.state)}
    await killed_at(moment, job | {"numbers": [0, 300]})
    numbers = range(100, 320)
    frame = spark.range(100, 320).selectExpr("concat('u', id) AS id")
    wanted = {f"u{number}" for number in numbers}
    options = env.options(guard=attrs.evolve(SyncOptions().guard, small_audience=1000))
    async with AudienceClient(INSTALLS, base_url=env.sandbox.url, **QUICK | {"retry": retry}) as client:
        await sync_audience(client, "vip", frame, state=env.state, options=options)
        assert env.members == wanted == await env.believed()
        async with SyncEngine(state=env.state, options=options) as engine:
            report = await engine.sync(client, "vip", sorted(wanted))
            assert report.calls == 0


async def test_a_million_ids(spark: Any, env: SyncEnv) -> None:
    """Plan and digest are those of the local engine. Another process settles what Spark planned."""
    env.store = StateUrl("s3://bucket/million/state")
    odd = "CASE WHEN id % 1000 = 1 THEN '' WHEN id % 1000 = 2 THEN concat('x', chr(1)) "
    odd += "WHEN id % 100 = 3 THEN concat('u', id % 500000) WHEN id % 100 = 4 THEN concat(' ü€😀', id, ' ') "
    million = spark.range(1_000_000, numPartitions=8).selectExpr(
        f"{odd} ELSE concat('u', id) END AS id", "CAST(id % 90 AS INT) AS age"
    )
    options = env.options(chunk_size=10_000, timeout=600.0)
    columns: dict[str, Any] = {"attributes": ["age"]}
    async with env.client() as client:
        some = million.where("age > 84").selectExpr("id", "age % 89 AS age")
        sending = attrs.evolve(options, wait=False)
        await sync_audience(client, "vip", some, state=env.state, options=sending, **columns)
        run = await env.call("settle", client, "vip")
        assert run.whole
        ours = await plan_audience(client, "vip", million, state=env.state, options=options, **columns)
        async with SyncEngine(state=env.state, options=options) as engine:
            source = Source(location=ArrowSource(table=million), **columns)
            theirs = await engine.plan(client, "vip", source)
    assert (ours.source_digest, ours.adds, ours.attribute_changes) == (
        theirs.source_digest,
        theirs.adds,
        theirs.attribute_changes,
    )
    assert (ours.report.read, ours.staged, ours.report.rejected) == (1_000_000, 993_000, 2_000)
    assert ours.attribute_changes > 10_000
