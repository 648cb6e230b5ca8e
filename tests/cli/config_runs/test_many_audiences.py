"""A state of 1,000 audiences, as docs/reference/support.md promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiobatch import Project
from aiobatch.cli import ExitCode
from aiobatch.sandbox import PROJECT_KEY, REST_API_KEY, Sandbox
from aiobatch.sync import RunOutcome
from aiobatch.sync.state._history import RunEnding
from aiobatch.sync.state._journal import Journal
from aiobatch.sync.state._state import State
from aiobatch.sync.state._targets import TargetKey

from ...helpers.sweep import examples
from ...sync.state.states import apply_all, plan
from ..conftest import Run

_COUNT = examples(30, 200, full=1_000)
_OPEN = 3


def _fill(path: Path) -> None:
    """Give each audience a finished run, and leave the runs of the last ones open."""
    target = TargetKey.of(Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY))
    with State.open(path, what="test") as state:
        for number in range(_COUNT):
            journal = Journal.begin(state, plan(state, ["u1", "u2"], target=target, name=f"a{number}"))
            apply_all(journal)
            if number < _COUNT - _OPEN:
                journal.close(RunEnding(outcome=RunOutcome.DONE, calls=1, retries=0))


@pytest.mark.usefixtures("workdir")
def test_one_state_holds_many_audiences(run: Run, sandbox: Sandbox) -> None:
    """Status, runs, settle and forget work within the default memory, and forget leaves the others."""
    state = ("--state", "state.duckdb")
    _fill(Path("state.duckdb"))
    rows = run("status", *state).rows
    assert len(rows) == _COUNT
    assert [row[5] for row in rows].count("done") == _COUNT - _OPEN
    assert len(run("status", *state, "--max-age", "26h").err.splitlines()) == _OPEN
    settled = run("settle", *state)
    assert settled.code == ExitCode.DONE
    assert [row[2] for row in settled.rows] == ["APPLIED"] * _OPEN
    assert run("forget", "a7", "--yes", *state).code == ExitCode.DONE
    assert len(run("status", *state).rows) == _COUNT - 1
    assert len(run("runs", *state, "--limit", "5").rows) == 5
