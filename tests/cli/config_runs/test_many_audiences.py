"""A state of 1,000 audiences, as docs/reference/support.md promises, and a config of 500."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from weakref import WeakSet

import attrs
import pytest

from aiobatch import Project
from aiobatch.cli import ExitCode
from aiobatch.sandbox import PROJECT_KEY, REST_API_KEY, Sandbox
from aiobatch.sync import RunOutcome
from aiobatch.sync.run._audience_run import AudienceRun
from aiobatch.sync.state._history import RunEnding
from aiobatch.sync.state._journal import Journal
from aiobatch.sync.state._state import State
from aiobatch.sync.state._targets import TargetKey

from ...helpers.sweep import examples
from ...sync.state.states import apply_all, plan
from ..conftest import Run
from ..reports import users, write
from .configs import configure

_COUNT = examples(30, 200, full=1_000)
_OPEN = 3
_TEMPORARY = "SELECT count(*) FROM duckdb_tables() WHERE temporary"
# A file that each audience left open would exceed the bound.
_CONFIGURED, _JOBS, _FILES = examples(50, 50, full=500), 3, 36


def _count_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


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


def _configure(count: int) -> None:
    """Write a config of audiences, each with a source of its own."""
    audiences = (
        f'[audiences.a{number}]\nsource = "a{number}.csv"\nprojects = ["main"]\n' for number in range(count)
    )
    configure("".join(audiences))
    for number in range(count):
        write(users(range(number, number + 20)), f"a{number}.csv")


@attrs.define
class _Held:
    """What a process holds at the end of each audience.

    Attributes:
        runs: The runs that are still in memory.
        files: Open files, sockets among them.
        live: The runs in memory.
        tables: Temporary tables and views of the state.
    """

    runs: WeakSet[AudienceRun] = attrs.field(factory=WeakSet)
    files: list[int] = attrs.field(factory=list)
    live: list[int] = attrs.field(factory=list)
    tables: list[int] = attrs.field(factory=list)

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Note it when each run ends."""
        enter, leave = AudienceRun.__aenter__, AudienceRun.__aexit__

        async def entered(run: AudienceRun) -> AudienceRun:
            self.runs.add(run)
            return await enter(run)

        async def left(run: AudienceRun, *error: Any) -> None:
            await leave(run, *error)
            thread = run.context.state
            self.tables.append((await thread.run(thread.state.row, _TEMPORARY))[0])
            self.files.append(await thread.run(_count_files))
            self.live.append(len(self.runs))

        monkeypatch.setattr(AudienceRun, "__aenter__", entered)
        monkeypatch.setattr(AudienceRun, "__aexit__", left)


@pytest.mark.sweep
@pytest.mark.skipif(sys.platform != "linux", reason="counts the files in /proc")
@pytest.mark.usefixtures("workdir", "config_keys")
def test_config_of_many_audiences_holds_a_bounded_number_of_things(
    run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many audiences a config has, a run holds the files, tables and runs of those at work."""
    _configure(_CONFIGURED)
    held = _Held()
    held.watch(monkeypatch)
    before = _count_files()
    result = run("run", "--jobs", str(_JOBS))
    assert result.code == ExitCode.DONE
    assert [row[2] for row in result.rows] == ["done"] * _CONFIGURED
    assert len(held.files) == _CONFIGURED
    assert max(held.live) <= _JOBS
    assert max(held.tables) <= 2 * _JOBS
    assert max(held.files) <= before + _FILES
    assert len(sandbox.members("a3")) == 20
