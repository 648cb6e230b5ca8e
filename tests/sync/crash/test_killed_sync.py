"""Syncs in processes that are killed at random moments."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest

from aiobatch.sync import RunOutcome

from ...helpers.sweep import examples
from ..sync_env import SyncEnv, ids, sync_env, until

FAULTS = {"503": 0.1, "reset": 0.1, "lost": 0.1, "slow": 0.05}
KILLS = examples(6, 15, full=30)
# How many of them must leave a run to settle. On a busy machine many kills come before a run begins.
CUT_SHORT = examples(2, 10)
ROUNDS = examples(3, 8)
# Bytes that no file may exceed: enough for the lock file, for some transactions, and for all of them.
FILE_SIZES = (1_000, 8_000, 64_000, 4_000, 16_000, 32_000)[: examples(3, 6)]


def source(seed: int) -> list[str]:
    """Return the IDs of a source. From one seed to the next, some sixty chunks change."""
    return ids(Random(seed).sample(range(1000), 600))


def moment(random: Random) -> tuple[int, float]:
    """Return when to kill: usually while chunks are sent, sometimes before or after."""
    if random.random() < 0.3:
        return 0, random.uniform(0.0, 0.5)
    return random.randrange(1, 50), random.uniform(0.0, 0.01)


async def cut_short(env: SyncEnv) -> int:
    """Return how many runs did not end well."""
    return sum(run.outcome in {None, RunOutcome.INTERRUPTED} for run in await env.runs())


@attrs.define
class SyncProcesses:
    """Runs syncs in processes, one after the other, and sends them signals.

    Attributes:
        env: The audience.
        process: The process that forks.
        lease: Seconds that leases last, on a machine for each process. None: there are none.
        ended: The exit codes.
        child: The process that syncs.
    """

    env: SyncEnv
    process: asyncio.subprocess.Process
    lease: float | None = None
    ended: list[int] = attrs.field(factory=list)
    child: int = 0

    async def sync(
        self,
        wanted: Sequence[str] | None,
        *,
        wait: bool = True,
        file_size: int | None = None,
        when: tuple[int, float] | None = None,
        by: signal.Signals = signal.SIGKILL,
        **how: Any,
    ) -> str | None:
        """Sync in a new process. Return its last line, or None if it was killed before.

        Args:
            wanted: The IDs of the source. None to settle only.
            wait: Whether to wait for tokens.
            file_size: Bytes that no file may exceed.
            when: Send the signal after this many updates, and then this many seconds.
            by: The signal.
            **how: What else `sync_process` reads: the operation, its mode, when to die.
        """
        job = how | {
            "url": self.env.sandbox.url,
            "state": str(self.env.state),
            "source": wanted,
            "wait": wait,
            "file_size": file_size,
            "lease": self.lease,
        }
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job).encode() + b"\n")
        self.child, words = int(await self._line()), self._line()
        signalling = asyncio.create_task(self._signal(self.child, when, by))
        said = await words
        ending = said if said.startswith("ended ") else await self._line()
        signalling.cancel()
        self.ended.append(int(ending.removeprefix("ended ")))
        return None if said == ending else said

    async def _signal(self, child: int, when: tuple[int, float] | None, by: signal.Signals) -> None:
        if when is not None:
            wanted = self.env.sandbox.operation_counts["update"] + when[0]
            await until(lambda: self.env.sandbox.operation_counts["update"] >= wanted)
            await asyncio.sleep(when[1])
            os.kill(child, by)

    async def _line(self) -> str:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        assert line, "the process that forks has died"
        return line.decode().strip()


@asynccontextmanager
async def sync_processes(env: SyncEnv, *, lease: float | None = None) -> AsyncIterator[SyncProcesses]:
    """Start the process that forks a child for each sync."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.sync.crash.sync_process",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**20,
    )
    try:
        yield SyncProcesses(env, process, lease)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


async def test_sync_is_exact_after_kills_at_any_moment(quick_path: Path) -> None:
    """However often SIGKILL comes, the run that completes leaves exactly the source in Batch and state."""
    random = Random(1)
    async with sync_env(quick_path, faults=FAULTS, slow_answer=0.05) as env, sync_processes(env) as processes:
        completed = 0
        while processes.ended.count(-signal.SIGKILL) < KILLS or await cut_short(env) < CUT_SHORT:
            wanted = source(completed)
            said = await processes.sync(wanted, when=moment(random))
            if said is not None:
                assert said == "done"
                assert await env.has_exactly(wanted)
                completed += 1
        assert await processes.sync(source(completed)) == "done"
        assert await env.has_exactly(source(completed))
        history = await env.runs()
        assert {run.outcome for run in history} <= {RunOutcome.DONE, RunOutcome.INTERRUPTED}
        for run in history:
            assert run.applied is not None
            assert run.applied <= run.adds + run.removes
            assert (run.applied == run.adds + run.removes) or run.outcome is RunOutcome.INTERRUPTED


async def test_sigterm_interrupts_a_run_and_the_next_resumes_it(quick_path: Path) -> None:
    """After SIGTERM a run reports that it was interrupted, and the next runs resume it."""
    random = Random(2)
    async with sync_env(quick_path, faults=FAULTS, slow_answer=0.05) as env, sync_processes(env) as processes:
        interrupted = 0
        for round_ in range(ROUNDS + 1):
            said = await processes.sync(source(round_), when=moment(random), by=signal.SIGTERM)
            assert said is not None
            assert said == "done" or said.startswith("InterruptedRunError")
            interrupted += said != "done"
        assert interrupted or ROUNDS < 8  # a few signals may all come too late
        assert await processes.sync(source(99)) == "done"
        assert await env.has_exactly(source(99))
        assert set(processes.ended) == {0}


@pytest.mark.sweep
async def test_settle_completes_runs_that_were_killed_while_sending(quick_path: Path) -> None:
    """After a kill of a run that does not wait for its tokens, a settle completes what it sent."""
    random = Random(3)
    async with sync_env(quick_path, faults=FAULTS, slow_answer=0.05) as env, sync_processes(env) as processes:
        await processes.sync(source(0))
        for round_ in range(1, ROUNDS):
            await processes.sync(source(round_), wait=False, when=moment(random))
            assert await processes.sync(None) == "settled"
            history = await env.runs()
            assert all(run.settled for run in history)
            assert await env.believed() == env.members
        assert await processes.sync(source(99)) == "done"
        assert await env.has_exactly(source(99))


async def test_full_disk_loses_nothing(quick_path: Path) -> None:
    """Wherever the state runs out of space, the error reports it, and the next run with space resumes it."""
    async with sync_env(quick_path, faults=FAULTS, slow_answer=0.05) as env, sync_processes(env) as processes:
        assert await processes.sync(source(0)) == "done"
        failed = 0
        for round_, room in enumerate(FILE_SIZES, 1):
            said = await processes.sync(source(round_), file_size=room)
            assert said is not None
            assert said == "done" or "the disk is full" in said
            failed += said != "done"
            assert await processes.sync(source(round_)) == "done"
            assert await env.has_exactly(source(round_))
        assert failed


@pytest.mark.sample(1)
@pytest.mark.parametrize("same_state", [True, False])
async def test_second_process_fails_at_once(tmp_path: Path, same_state: bool) -> None:
    """While one process syncs an audience, another one fails and sends nothing, whatever its state file."""
    async with sync_env(tmp_path) as env:
        (tmp_path / "other").mkdir()
        other = env if same_state else SyncEnv(env.sandbox, tmp_path / "other")
        async with sync_processes(env) as first, sync_processes(other) as second:
            await first.sync(source(0))
            env.time.halt()  # the first process waits until time goes on
            writes = env.writes
            running = asyncio.create_task(first.sync(source(1)))
            await until(lambda: env.writes > writes)
            said = await second.sync(source(2))
            assert said is not None
            assert re.match(
                r"LockedError: .* is locked by process \d+ of \S+ on \S+, since \S+ \(sync vip\)", said
            )
            env.time.go_on()
            assert await running == "done"
        assert await env.has_exactly(source(1))
