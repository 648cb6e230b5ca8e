from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from aiobatch.sync import StateError

from ...helpers.sweep import examples
from .power_loss import Disk, Operation, build_recorder, read_log
from .test_killed_journal import Rounds

_LOSSES = examples(8, 50, full=150)
_ROUNDS = 2


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Operation]]:
    """Run the process twice, so that the second one opens a state, and record its operations."""
    work = tmp_path_factory.mktemp("power")
    recorder = build_recorder(work)
    if recorder is None:
        pytest.skip("a C compiler is missing: apt-get install gcc libc6-dev")
    directory, log = work / "disk", work / "log"
    directory.mkdir()
    env = {"LD_PRELOAD": str(recorder), "POWER_LOSS_DIRECTORY": str(directory), "POWER_LOSS_LOG": str(log)}
    for first in (0, _ROUNDS):
        command = [sys.executable, "-m", "tests.sync.crash.journal_process", str(directory / "state.duckdb")]
        subprocess.run(
            [*command, str(first), str(_ROUNDS)], check=True, capture_output=True, env=os.environ | env
        )
    return directory, read_log(log)


@pytest.mark.sweep
def test_operations_are_recorded(disk: tuple[Path, list[Operation]]) -> None:
    """The log has writes and syncs of the log file and of the state, and a sync of the directory."""
    directory, operations = disk
    synced = {Path(operation.fields[0]).name for operation in operations if operation.kind == "S"}
    assert {"state.duckdb", "state.duckdb.wal", directory.name} <= synced


@pytest.mark.sample(2)
@pytest.mark.parametrize("loss", range(_LOSSES))
def test_state_survives_a_loss_of_power(
    disk: tuple[Path, list[Operation]], loss: int, tmp_path: Path
) -> None:
    """Whatever pages reached the disk, the state opens, has all printed transitions, and settles exactly.

    DuckDB's checkpoint overwrites one block in place. Half of such a block on disk is refused, never read.
    """
    directory, operations = disk
    random = Random(loss)
    replayed = Disk(directory)
    for operation in operations[: random.randint(1, len(operations))]:
        replayed.apply(operation)
    replayed.lose_power(tmp_path / "disk", random)
    printed = [line.split() for line in replayed.printed.decode().splitlines()]
    allowed = {None, "damaged"} if replayed.is_rewriting("state.duckdb") else {None}
    assert _check(tmp_path / "disk" / "state.duckdb", printed) in allowed


def _check(path: Path, printed: list[list[str]]) -> str | None:
    """Check a state. Return the reason if it is refused."""
    try:
        Rounds(path).check(printed, 0)
    except StateError as error:
        return error.reason
    return None
