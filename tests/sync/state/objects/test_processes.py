"""Processes that share a state on object storage: each has a machine of its own, and no disk survives."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import pytest

from aiobatch.sync import StateUrl

from ....helpers.s3_server import S3Server, faulty
from ....helpers.sweep import examples
from ...crash.test_killed_sync import FAULTS, moment, source, sync_processes
from ...sync_env import sync_env, until

# Seconds. A taker waits 1.2 times as long.
LEASE = 3.0
KILLS = examples(2, 10, full=100)
RACERS = examples(20, 20, full=50)


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make this package importable in the processes, and put their scratch into a directory."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[4]))
    directory = tmp_path / "scratch"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    return directory


@pytest.fixture
def faulty_s3(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """Return an S3 server that refuses or cuts a tenth of the requests."""
    with faulty(s3, 0.1) as server:
        for name, value in server.environ.items():
            monkeypatch.setenv(name, value)
        yield server


async def test_members_are_exact_after_kills(
    faulty_s3: S3Server, s3_url: str, tmp_path: Path, scratch: Path
) -> None:
    """Kill at any moment, delete the scratch, and lose answers of the store: the next run is exact."""
    random, completed, killed = Random(1), 0, 0
    async with sync_env(tmp_path, faults=FAULTS, slow_answer=0.05) as env:
        env.store = StateUrl(s3_url)
        async with sync_processes(env, lease=LEASE) as processes:
            while killed < KILLS:
                wanted = source(completed)
                said = await processes.sync(wanted, when=moment(random))
                await asyncio.to_thread(_empty, scratch)
                if said == "done":
                    assert await env.has_exactly(wanted)
                    completed += 1
                elif said is not None:
                    assert said.startswith("LostLeaseError")  # on a busy machine
                killed += said is None
            wanted = source(completed)
            assert await processes.sync(wanted) == "done"
            assert await env.has_exactly(wanted)
            writes = env.writes
            assert await processes.sync(wanted) == "done"
            assert env.writes == writes
        assert faulty_s3.faults is not None
        assert faulty_s3.faults.count > 0


def _empty(directory: Path) -> None:
    shutil.rmtree(directory)
    directory.mkdir()


@pytest.mark.sweep
async def test_a_frozen_holder_sends_nothing(s3_url: str, tmp_path: Path) -> None:
    """A holder is stopped for two leases while another process completes its run. It sends nothing more."""
    async with sync_env(tmp_path, slow_answer=0.05) as env:
        env.store = StateUrl(s3_url)
        async with (
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
            said = await running
            assert said is not None
            assert said.startswith("LostLeaseError"), said
            assert env.writes == writes
        assert await env.has_exactly(source(2))


@pytest.mark.sweep
async def test_one_of_many_processes_proceeds(s3_url: str, tmp_path: Path) -> None:
    """Of many processes that start at once, one syncs, and the others name it."""
    async with sync_env(tmp_path) as env, AsyncExitStack() as stack:
        env.store = StateUrl(s3_url)
        racers = [await stack.enter_async_context(sync_processes(env, lease=60.0)) for _ in range(RACERS)]
        env.time.halt()  # the winner waits until time goes on
        running = [asyncio.create_task(racer.sync(source(1))) for racer in racers]
        async with asyncio.timeout(300):
            while sum(task.done() for task in running) < RACERS - 1:
                await asyncio.wait(
                    [task for task in running if not task.done()], return_when="FIRST_COMPLETED"
                )
        env.time.go_on()
        said = [str(one) for one in await asyncio.gather(*running)]
        assert said.count("done") == 1
        (winner,) = (racer.child for racer, one in zip(racers, said, strict=True) if one == "done")
        named = re.compile(
            rf"LockedError: .*LEASE' is locked by process {winner} of \S+ on \S+, since \S+ \(sync vip\)"
        )
        assert [one for one in said if one != "done" and not named.match(one)] == []
        assert await env.has_exactly(source(1))
