from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from aiobatch.cli._exit_codes import ExitCode
from aiobatch.sync import StateUrl

from ..helpers.s3_server import S3Server, faulty
from ..sync.crash.test_killed_sync import FAULTS, moment, source, sync_processes
from ..sync.sync_env import SyncEnv, sync_env, until
from .chaos_env import PROJECT, PROJECT_KEY, REST_KEY, ROOT, ChaosEnv, ids, quick_sandbox, served

PART = "A state on object storage"
EXACT = "At the end, Batch and the state have exactly the source's members"
# Seconds. A taker waits 1.2 times as long.
LEASE = 3.0


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the processes' scratch. They import this package and use these keys."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("BATCH_REST_API_KEY", REST_KEY)
    monkeypatch.setenv("BATCH_PROJECT_KEY", PROJECT_KEY)
    directory = tmp_path / "scratch"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    return directory


@asynccontextmanager
async def _env(directory: Path, url: str, **options: Any) -> AsyncIterator[SyncEnv]:
    """Start a sandbox, and yield an audience whose state is at *url*."""
    async with sync_env(directory, slow_answer=0.05, **options) as env:
        env.target, env.store = PROJECT, StateUrl(url)
        yield env


@pytest.mark.chaos(
    part=PART,
    done="a fifth of the store's requests are refused or cut, or lose their answer, during several syncs",
    holds=f"each sync succeeds, and the next one of the same source makes no call. {EXACT}",
)
def test_unreliable_store_loses_nothing(chaos_env: ChaosEnv, s3: S3Server, s3_url: str) -> None:
    """A sync that reads and writes its state through a faulty network succeeds."""
    members = ids(chaos_env.case.size(3_000, 30_000))
    syncs = chaos_env.case.size(2, 10)
    with served(quick_sandbox()) as sandbox, faulty(s3, 0.2) as store:
        for number in range(syncs):
            wanted = members[number * len(members) // 100 :]
            argv = ["sync", "vip", str(chaos_env.write(wanted)), "--create", "--state", s3_url]
            output = chaos_env.run(sandbox.url, *argv, **store.environ)
            assert output.code == ExitCode.DONE, output.err
            assert set(sandbox.members("vip")) == set(wanted)
        calls = sandbox.operation_counts["update"]
        assert chaos_env.run(sandbox.url, *argv, **store.environ).code == ExitCode.DONE
        assert sandbox.operation_counts["update"] == calls
        verified = chaos_env.run(sandbox.url, "verify", "vip", "--state", s3_url, **store.environ)
        assert verified.code == ExitCode.DONE, verified.err
    assert store.faults is not None
    chaos_env.case.add_fact(f"{syncs} syncs, {store.faults.count} faulty answers, {calls} write calls")


@pytest.mark.sweep
@pytest.mark.chaos(
    part=PART,
    done="syncs are killed (-9), their disk is deleted, and a tenth of the store's requests fail",
    holds=f"the next run, on another machine, resumes it. {EXACT}, and the run after it makes no call",
)
async def test_killed_syncs_without_a_disk_end_exact(
    chaos_env: ChaosEnv,
    s3: S3Server,
    s3_url: str,
    tmp_path: Path,
    scratch: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing that a run needs is on the disk of the process that was killed."""
    random, completed, killed, kills = Random(1), 0, 0, chaos_env.case.size(2, 100)
    with faulty(s3, 0.1) as store:
        for name, value in store.environ.items():
            monkeypatch.setenv(name, value)
        async with (
            _env(tmp_path, s3_url, faults=FAULTS) as env,
            sync_processes(env, lease=LEASE) as processes,
        ):
            while killed < kills:
                wanted = source(completed)
                outcome = await processes.sync(wanted, when=moment(random))
                await asyncio.to_thread(_empty, scratch)
                if outcome == "done":
                    assert await env.has_exactly(wanted)
                    completed += 1
                elif outcome is not None:
                    assert outcome.startswith("LostLeaseError")  # on a busy machine
                killed += outcome is None
            wanted = source(completed)
            assert await processes.sync(wanted) == "done"
            assert await env.has_exactly(wanted)
            writes = env.writes
            assert await processes.sync(wanted) == "done"
            assert env.writes == writes
        assert store.faults is not None
        assert store.faults.count > 0
    chaos_env.case.add_fact(
        f"{killed} runs killed, {completed} succeeded between them, {store.faults.count:,} faulty answers"
    )


def _empty(directory: Path) -> None:
    shutil.rmtree(directory)
    directory.mkdir()


@pytest.mark.chaos(
    part=PART,
    done="the holder of the lease is stopped (SIGSTOP) for two leases, while another process completes a run",
    holds=f"it sends nothing after SIGCONT, and ends with a LostLeaseError. {EXACT} of the other process",
    short=False,
)
async def test_a_frozen_holder_sends_nothing(
    chaos_env: ChaosEnv, s3_url: str, tmp_path: Path, scratch: Path
) -> None:
    """A holder that lost its lease while it was stopped notices that before it sends."""
    async with (
        _env(tmp_path, s3_url) as env,
        sync_processes(env, lease=LEASE) as first,
        sync_processes(env, lease=LEASE) as second,
    ):
        assert await first.sync(source(0)) == "done"
        running = asyncio.create_task(first.sync(source(1), when=(20, 0.0), by=signal.SIGSTOP))
        writes = env.writes
        await until(lambda: env.writes >= writes + 20)
        assert await second.sync(source(2)) == "done"
        await asyncio.sleep(LEASE)
        writes = env.writes
        os.kill(first.child, signal.SIGCONT)
        outcome = await running
        assert outcome is not None
        assert outcome.startswith("LostLeaseError"), outcome
        assert env.writes == writes
        assert await env.has_exactly(source(2))
    chaos_env.case.add_fact(f"{writes:,} write calls, none of them after SIGCONT")


@pytest.mark.chaos(
    part=PART,
    done="many processes start a sync of one audience at once, each as on a machine of its own",
    holds="one proceeds. The others send nothing, and name the process that holds the lease",
    short=False,
)
async def test_one_of_many_processes_proceeds(
    chaos_env: ChaosEnv, s3_url: str, tmp_path: Path, scratch: Path
) -> None:
    """Conditional writes decide who holds the lease."""
    racers = chaos_env.case.size(20, 50)
    async with _env(tmp_path, s3_url) as env, AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(sync_processes(env, lease=60.0)) for _ in range(racers)]
        env.time.halt()  # the winner waits until time goes on
        running = [asyncio.create_task(racer.sync(source(1))) for racer in processes]
        async with asyncio.timeout(300):
            while sum(task.done() for task in running) < racers - 1:
                await asyncio.wait(
                    [task for task in running if not task.done()], return_when="FIRST_COMPLETED"
                )
        env.time.go_on()
        outcomes = [str(outcome) for outcome in await asyncio.gather(*running)]
        assert outcomes.count("done") == 1
        (winner,) = (
            racer.child for racer, outcome in zip(processes, outcomes, strict=True) if outcome == "done"
        )
        named = re.compile(
            rf"LockedError: .*LEASE' is locked by process {winner} of \S+ on \S+, since \S+ \(sync vip\)"
        )
        assert [outcome for outcome in outcomes if outcome != "done" and not named.match(outcome)] == []
        assert await env.has_exactly(source(1))
    chaos_env.case.add_fact(f"{racers} processes: 1 succeeded, {racers - 1} were refused")
