"""What is left by processes that were really killed."""

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

import attrs
import pytest

from aiobatch.sync import RunOutcome

from ..sync_env import World, ids, until, world

FAULTS = {"503": 0.1, "reset": 0.1, "lost": 0.1, "slow": 0.05}
KILLS = 15
# Of these, those that left a run to settle; on a busy machine many come before there is one.
CUT_SHORT = 5


def source(seed: int) -> list[str]:
    """Return what the source holds: from one to the next some sixty chunks change."""
    return ids(Random(seed).sample(range(1000), 600))


def moment(random: Random) -> tuple[int, float]:
    """Draw when to kill: mostly while chunks are sent, sometimes before or after."""
    if random.random() < 0.3:
        return 0, random.uniform(0.0, 0.5)
    return random.randrange(1, 50), random.uniform(0.0, 0.01)


async def cut_short(here: World) -> int:
    """Count the runs that did not come to their end."""
    return sum(run.outcome in {None, RunOutcome.INTERRUPTED} for run in await here.runs())


@attrs.define
class Victims:
    """Runs syncs in processes, one after the other, and ends them by signals."""

    here: World
    process: asyncio.subprocess.Process
    ended: list[int] = attrs.field(factory=list)

    async def sync(
        self,
        wanted: Sequence[str] | None,
        *,
        wait: bool = True,
        file_size: int | None = None,
        when: tuple[int, float] | None = None,
        by: signal.Signals = signal.SIGKILL,
    ) -> str | None:
        """Sync, or settle where there is nothing wanted; return what the process said last, if it could.

        Args:
            wanted: The source.
            wait: Whether to wait for tokens.
            file_size: Bytes that no file may exceed.
            when: The process gets a signal so many updates, and then so many seconds, after its start.
            by: The signal.
        """
        job = {
            "url": self.here.sandbox.url,
            "state": str(self.here.state),
            "source": wanted,
            "wait": wait,
            "file_size": file_size,
        }
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job).encode() + b"\n")
        child, words = int(await self._line()), self._line()
        signalling = asyncio.create_task(self._signal(child, when, by))
        said = await words
        ending = said if said.startswith("ended ") else await self._line()
        signalling.cancel()
        self.ended.append(int(ending.removeprefix("ended ")))
        return None if said == ending else said

    async def _signal(self, child: int, when: tuple[int, float] | None, by: signal.Signals) -> None:
        if when is not None:
            wanted = self.here.sandbox.operation_counts["update"] + when[0]
            await until(lambda: self.here.sandbox.operation_counts["update"] >= wanted)
            await asyncio.sleep(when[1])
            os.kill(child, by)

    async def _line(self) -> str:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        assert line, "the process that forks has died"
        return line.decode().strip()


@asynccontextmanager
async def victims(here: World) -> AsyncIterator[Victims]:
    """Start the process that forks."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.sync.crash.sync_process",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**20,
    )
    try:
        yield Victims(here, process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


async def test_a_sync_survives_being_killed_at_any_moment(quick_path: Path) -> None:
    """However often SIGKILL comes, the run that ends at last leaves exactly the source, here and there."""
    random = Random(1)
    async with world(quick_path, faults=FAULTS, slow_answer=0.05) as here, victims(here) as them:
        completed = 0
        while them.ended.count(-signal.SIGKILL) < KILLS or await cut_short(here) < CUT_SHORT:
            wanted = source(completed)
            said = await them.sync(wanted, when=moment(random))
            if said is not None:
                assert said == "done"
                assert await here.has_exactly(wanted)
                completed += 1
        assert await them.sync(source(completed)) == "done"
        assert await here.has_exactly(source(completed))
        history = await here.runs()
        assert {run.outcome for run in history} <= {RunOutcome.DONE, RunOutcome.INTERRUPTED}
        for run in history:
            assert run.applied is not None
            assert run.applied <= run.adds + run.removes
            assert (run.applied == run.adds + run.removes) or run.outcome is RunOutcome.INTERRUPTED


async def test_a_sync_that_is_terminated_ends_in_order(quick_path: Path) -> None:
    """After SIGTERM a run says that it was interrupted; the next ones go on from there."""
    random = Random(2)
    async with world(quick_path, faults=FAULTS, slow_answer=0.05) as here, victims(here) as them:
        interrupted = 0
        for round_ in range(8):
            said = await them.sync(source(round_), when=moment(random), by=signal.SIGTERM)
            assert said is not None
            assert said == "done" or said.startswith("InterruptedRunError")
            interrupted += said != "done"
        assert interrupted
        assert await them.sync(source(99)) == "done"
        assert await here.has_exactly(source(99))
        assert set(them.ended) == {0}


async def test_tokens_that_nobody_waits_for_survive_a_kill(quick_path: Path) -> None:
    """A run that only sends can be killed as well: a settle brings what it sent to its end."""
    random = Random(3)
    async with world(quick_path, faults=FAULTS, slow_answer=0.05) as here, victims(here) as them:
        await them.sync(source(0))
        for round_ in range(1, 7):
            await them.sync(source(round_), wait=False, when=moment(random))
            assert await them.sync(None) == "settled"
            history = await here.runs()
            assert all(run.settled for run in history)
            assert await here.believed() == here.members
        assert await them.sync(source(99)) == "done"
        assert await here.has_exactly(source(99))


async def test_a_full_disk_loses_nothing(quick_path: Path) -> None:
    """Wherever the state runs out of room, the error says so, and the next run with room goes on."""
    async with world(quick_path, faults=FAULTS, slow_answer=0.05) as here, victims(here) as them:
        assert await them.sync(source(0)) == "done"
        failed = 0
        for round_, room in enumerate((1_000, 4_000, 8_000, 16_000, 32_000, 64_000), 1):
            said = await them.sync(source(round_), file_size=room)
            assert said is not None
            assert said == "done" or "the disk is full" in said
            failed += said != "done"
            assert await them.sync(source(round_)) == "done"
            assert await here.has_exactly(source(round_))
        assert failed


@pytest.mark.parametrize("same_state", [True, False])
async def test_a_second_process_is_refused_at_once(tmp_path: Path, same_state: bool) -> None:
    """While one process syncs an audience, another one is told so and sends nothing, whatever its state."""
    async with world(tmp_path) as here:
        (tmp_path / "other").mkdir()
        there = here if same_state else World(here.sandbox, tmp_path / "other")
        async with victims(here) as first, victims(there) as second:
            await first.sync(source(0))
            here.time.halt()  # what the first one sends now is not applied before we say so
            writes = here.writes
            running = asyncio.create_task(first.sync(source(1)))
            await until(lambda: here.writes > writes)
            said = await second.sync(source(2))
            assert said is not None
            assert re.match(
                r"LockedError: .* is held by process \d+ of \S+ on \S+, since \S+ \(sync vip\)", said
            )
            here.time.go_on()
            assert await running == "done"
        assert await here.has_exactly(source(1))


@pytest.fixture(autouse=True)
def _on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processes find this package wherever the tests run."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
