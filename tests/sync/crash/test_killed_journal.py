from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from aiobatch.models import IndexingToken
from aiobatch.sync.state._chunks import ChunkState
from aiobatch.sync.state._history import RunEnding
from aiobatch.sync.state._journal import Journal
from aiobatch.sync.state._state import State

from ...helpers.sweep import examples
from ..state.states import members, open_state, sync, vip
from .journal_process import settle, source

_KILLS = examples(3, 10, full=24)
_FIRST_LOAD = """
import os, signal, sys
from pathlib import Path
from tests.sync.state.states import open_state, sync
state = open_state(Path(sys.argv[1]))
sync(state, [f"user-{i}" for i in range(int(sys.argv[2]))], size=10_000)
os.kill(os.getpid(), signal.SIGKILL)
"""


class Rounds:
    """Runs of the process, each of them killed, and the members that the state must have between them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recorded: set[str] = set()

    def run_and_kill(self, seed: int, after_lines: int, pause: float) -> list[list[str]]:
        """Start a process, kill it a moment after it has printed some lines, and return all lines."""
        command = [
            sys.executable,
            "-m",
            "tests.sync.crash.journal_process",
            str(self.path),
            str(seed),
            "1000",
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(after_lines)]
            time.sleep(pause)
            process.kill()
            lines += process.stdout.readlines()
        assert process.returncode == -signal.SIGKILL
        return [line.split() for line in lines if line.endswith("\n")]

    def check(self, printed: list[list[str]], seed: int) -> None:
        """Compare the state with what the process printed, and settle it."""
        closed = sum(words[0] == "closed" for words in printed)
        with open_state(self.path) as state:
            journal = Journal.resume(state, vip(state))
            recorded = members(state)
            if journal is None:  # between two runs: the last close may be on disk and not printed
                assert recorded in ([self._after(seed, closed), set(source(seed + closed))])
            else:
                assert recorded == self._after(seed, closed)
                _check_printed(journal, printed)
                recorded = _settle(state, journal, recorded)
            self.recorded = recorded

    def _after(self, seed: int, closed: int) -> set[str]:
        """Return the members after this many runs."""
        return set(source(seed + closed - 1)) if closed else self.recorded


def _check_printed(journal: Journal, printed: list[list[str]]) -> None:
    """Check that each printed transition is on disk. A chunk may be further, never behind."""
    order = [ChunkState.PLANNED, ChunkState.SENDING, ChunkState.SENT, ChunkState.APPLIED]
    for step, run, *ns in printed:
        if int(run) == journal.run and step in order:
            for n in ns:
                chunk = journal.chunks[int(n)]
                assert order.index(chunk.state) >= order.index(ChunkState(step))
                assert (chunk.token == IndexingToken("vip", f"t{n}", "update")) == (chunk.state in order[2:])


def _settle(state: State, journal: Journal, recorded: set[str]) -> set[str]:
    """Settle an open run, and return the members that the applied chunks must lead to."""
    settle(journal)
    for chunk in journal.in_state(ChunkState.APPLIED):
        actions = journal.actions(chunk.n)
        assert recorded.isdisjoint(actions.add)
        assert recorded.issuperset(actions.remove)
        recorded = (recorded | set(actions.add)) - set(actions.remove)
    journal.close(RunEnding())
    assert members(state) == recorded
    return recorded


@pytest.mark.sample(1)
# A row group has 122,880 rows: DuckDB writes a full one past the write-ahead log.
@pytest.mark.parametrize("ids", [300, 130_000])
def test_first_load_survives_a_kill_before_any_checkpoint(tmp_path: Path, ids: int) -> None:
    """The members of a first load are on disk after a SIGKILL, and can be changed."""
    path = tmp_path / "state.duckdb"
    done = subprocess.run([sys.executable, "-c", _FIRST_LOAD, str(path), str(ids)], check=False)
    assert done.returncode == -signal.SIGKILL
    with open_state(path) as state:
        assert vip(state).members == ids
        sync(state, [f"user-{i}" for i in range(1, ids + 1)], size=10_000)
    with open_state(path) as state:
        assert members(state) == {f"user-{i}" for i in range(1, ids + 1)}


def test_state_survives_kills_at_any_moment(tmp_path: Path) -> None:
    """After SIGKILL at any moment, the state opens, has all printed transitions, and settles exactly."""
    rounds, random = Rounds(tmp_path / "state.duckdb"), Random(1)
    for kill in range(_KILLS):
        printed = rounds.run_and_kill(kill * 1000, random.randint(1, 60), random.uniform(0, 0.08))
        rounds.check(printed, kill * 1000)
