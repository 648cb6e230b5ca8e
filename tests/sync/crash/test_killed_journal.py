from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from aiobatch.sync.state._chunks import ChunkState
from aiobatch.sync.state._history import RunEnding
from aiobatch.sync.state._journal import Journal
from aiobatch.sync.state._state import State

from ..state.states import members, open_state, sync, vip
from .journal_process import settle, source

_KILLS = 12
_FIRST_LOAD = """
import os, signal, sys
from pathlib import Path
from tests.sync.state.states import open_state, sync
state = open_state(Path(sys.argv[1]))
sync(state, [f"user-{i}" for i in range(int(sys.argv[2]))], size=10_000)
os.kill(os.getpid(), signal.SIGKILL)
"""


class _Rounds:
    """Runs of the process, one after the other, each killed; and what the state must believe between them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.believed: set[str] = set()

    def run_and_kill(self, seed: int, after_lines: int, pause: float) -> list[list[str]]:
        """Start a process, let it say some lines, kill it a moment later, and return all that it said."""
        command = [sys.executable, "-m", "tests.sync.crash.journal_process", str(self.path), str(seed)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(after_lines)]
            time.sleep(pause)
            process.kill()
            lines += process.stdout.readlines()
        assert process.returncode == -signal.SIGKILL
        return [line.split() for line in lines if line.endswith("\n")]

    def check(self, said: list[list[str]], seed: int) -> None:
        """Compare the state with what the process said before it died, and settle it."""
        closed = sum(words[0] == "closed" for words in said)
        with open_state(self.path) as state:
            journal = Journal.resume(state, vip(state))
            believed = members(state)
            if journal is None:  # between two runs: the last close may have been on disk before it was said
                assert believed in ([self._after(seed, closed), set(source(seed + closed))])
            else:
                assert believed == self._after(seed, closed)
                _check_said(journal, said)
                believed = _settle(state, journal, believed)
            self.believed = believed

    def _after(self, seed: int, closed: int) -> set[str]:
        """Return the members after so many runs."""
        return set(source(seed + closed - 1)) if closed else self.believed


def _check_said(journal: Journal, said: list[list[str]]) -> None:
    """Whatever step was said to be on disk is; a chunk may be further, never behind."""
    order = [ChunkState.PLANNED, ChunkState.SENDING, ChunkState.SENT, ChunkState.APPLIED]
    for step, run, *ns in said:
        if int(run) == journal.run and step in order:
            for n in ns:
                chunk = journal.chunks[int(n)]
                assert order.index(chunk.state) >= order.index(ChunkState(step))
                assert (chunk.token == f"vip:update:t{n}") == (chunk.state in order[2:])


def _settle(state: State, journal: Journal, believed: set[str]) -> set[str]:
    """Settle an open run, and return what must be believed then: what was, and the applied chunks."""
    settle(journal)
    for chunk in journal.in_state(ChunkState.APPLIED):
        actions = journal.actions(chunk.n)
        assert believed.isdisjoint(actions.add)
        assert believed.issuperset(actions.remove)
        believed = (believed | set(actions.add)) - set(actions.remove)
    journal.close(RunEnding())
    assert members(state) == believed
    return believed


@pytest.mark.parametrize("ids", [300, 300_000])
def test_a_first_load_survives_a_kill_before_any_checkpoint(tmp_path: Path, ids: int) -> None:
    """What a first load made of its own actions is there after a SIGKILL, and can be changed."""
    path = tmp_path / "state.duckdb"
    done = subprocess.run([sys.executable, "-c", _FIRST_LOAD, str(path), str(ids)], check=False)
    assert done.returncode == -signal.SIGKILL
    with open_state(path) as state:
        assert vip(state).members == ids
        sync(state, [f"user-{i}" for i in range(1, ids + 1)], size=10_000)
    with open_state(path) as state:
        assert members(state) == {f"user-{i}" for i in range(1, ids + 1)}


def test_a_state_survives_being_killed_at_any_moment(tmp_path: Path) -> None:
    """After SIGKILL, whenever it comes, the state opens, holds what was said and settles exactly."""
    rounds, random = _Rounds(tmp_path / "state.duckdb"), Random(1)
    for kill in range(_KILLS):
        said = rounds.run_and_kill(kill * 1000, random.randint(1, 60), random.uniform(0, 0.08))
        rounds.check(said, kill * 1000)
