from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any

import pytest

from aiobatch.sync._errors import LockedError, StateError
from aiobatch.sync._options import Mode
from aiobatch.sync.state import _status
from aiobatch.sync.state._history import RunEnding, RunOutcome
from aiobatch.sync.state._journal import Journal
from aiobatch.sync.state._repair import adopt, forget
from aiobatch.sync.state._schema import MEMBERS, members_table
from aiobatch.sync.state._state import State, sibling_path
from aiobatch.sync.state._status import read_status, take_status, write_status

from ..steps import mark_sending
from .states import APP, open_state, plan, sync


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "state.duckdb"


def test_status_shows_audiences_and_runs(path: Path) -> None:
    """A closed state has members, open IDs, the last success, the last outcome, and the latest runs."""
    with open_state(path) as state:
        done = sync(state, ["u1", "u2"])
        journal = Journal.begin(state, plan(state, [f"u{i}" for i in range(9)]))
        mark_sending(journal, [1])
        journal.close(RunEnding(outcome=RunOutcome.INTERRUPTED))
        adopt(state, plan(state, ["u1"], Mode.ADOPT, name="another"))
    status = read_status(path)
    another, vip_status = status.audiences
    assert (another.audience, another.open_run, another.open_ids) == ("another", None, {})
    assert (another.known, another.last_success, another.outcome) == (True, None, "done")
    assert (vip_status.members, vip_status.open_run) == (2, journal.run)
    assert vip_status.open_ids == {"dropped": 4, "sending": 3}
    assert vip_status.last_success == done.ended
    assert (vip_status.last_run, vip_status.outcome) == (journal.run, "interrupted")
    assert vip_status.target == another.target == status.runs[0].target == APP.label
    assert [run.run for run in status.runs] == [another.last_run, journal.run, done.run]
    assert status.live is False


def test_many_audiences_need_little_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members are counted a few tables at a time, because each holds a block of the memory limit."""
    with open_state(path) as state:
        adopt(state, plan(state, ["u"], Mode.ADOPT))
        (run,) = state.rows("SELECT * FROM runs")
        columns = ", ".join("?" * len(run))
        with state.transaction():
            for number in range(60):
                key, name = APP.audience_key(f"a{number}"), f"a{number}"
                state.rows("INSERT INTO audiences VALUES (?, ?, ?, 1, true, NULL)", [key, APP.digest, name])
                values = [number + 2, key, name, *run[3:-1], False]
                state.rows(f"INSERT INTO runs VALUES ({columns})", values)
                state.rows(MEMBERS, members=members_table(key))
                row = "INSERT INTO {members} SELECT 'u' || range, range FROM range(?)"
                state.rows(row, [number], members=members_table(key))
    rows, counted = State.rows, []

    def note(self: State, template: str, *args: Any, **tables: str) -> Any:
        counted.append(template.count("count(*) FROM members"))
        return rows(self, template, *args, **tables)

    monkeypatch.setattr(State, "rows", note)
    members = {one.audience: one.members for one in read_status(path).audiences}
    assert members == {"vip": 1} | {f"a{number}": number for number in range(60)}
    assert (sum(counted), max(counted)) == (61, 25)
    with open_state(path) as state:
        forget(state, state.audience_by_key(APP.audience_key("a7")))
        assert len(take_status(state).audiences) == 60


def test_audience_without_a_run_is_not_shown(path: Path) -> None:
    """A plan that was not applied, or that failed, is not shown."""
    with open_state(path) as state:
        plan(state, ["u1"])
    status = read_status(path)
    assert (status.audiences, status.runs) == ((), ())


def test_status_of_a_running_process_is_read_from_its_file(path: Path) -> None:
    """While a run has the state open, the status is what it wrote last, to a private file."""
    with open_state(path) as state:
        with pytest.raises(LockedError):
            read_status(path)
        journal = Journal.begin(state, plan(state, ["u1", "u2"], size=1))
        mark_sending(journal, [0])
        status = take_status(state, running=[journal])
        write_status(path, status)
        read = read_status(path)
    assert read.live
    assert (read.audiences, read.runs) == (status.audiences, status.runs)
    assert read.audiences[0].open_ids == {"planned": 1, "sending": 1}
    assert stat.S_IMODE(sibling_path(path, ".status.json").stat().st_mode) == 0o600
    assert b"u1" not in sibling_path(path, ".status.json").read_bytes()


def test_status_file_of_a_dead_run_is_ignored(path: Path) -> None:
    """Once the state is not locked, it is read itself."""
    with open_state(path) as state:
        sync(state, ["u1", "u2"])
        write_status(path, take_status(state))
        sync(state, ["u1"])
    assert read_status(path).audiences[0].members == 1


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 1}', '{"format": 2}', '{"format": 2, "written": 3}']
)
def test_invalid_status_file_is_ignored(path: Path, text: str) -> None:
    """Without a valid status file, the error is that of the lock."""
    sibling_path(path, ".status.json").write_text(text)
    with open_state(path), pytest.raises(LockedError):
        read_status(path)


def test_status_that_cannot_be_written_is_an_error(path: Path) -> None:
    """A directory in the place of the draft is an error of the state."""
    sibling_path(path, ".status.json.tmp").mkdir()
    with open_state(path) as state, pytest.raises(StateError, match="status file cannot be written"):
        write_status(path, take_status(state))


def test_status_has_only_the_latest_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long history is not written again and again."""
    monkeypatch.setattr(_status, "_RUNS", 1)
    with open_state(path) as state:
        last = [sync(state, [name]).run for name in ("u1", "u2")][-1]
        assert [run.run for run in take_status(state).runs] == [last]


def test_status_of_many_audiences_takes_no_more_statements(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run writes its status every few seconds, in the thread that it needs itself."""
    statements: list[str] = []
    inner = State.rows

    def counting(state: State, template: str, *args: Any, **tables: str) -> list[tuple[Any, ...]]:
        statements.append(template)
        return inner(state, template, *args, **tables)

    taken = []
    with open_state(path) as state:
        for name in ("vip", "trial", "churned"):
            adopt(state, plan(state, ["u1"], Mode.ADOPT, name=name))
            with monkeypatch.context() as patch:
                patch.setattr(State, "rows", counting)
                take_status(state)
            taken.append(len(statements))
            statements.clear()
    assert taken[0] == taken[1] == taken[2]


def test_link_at_the_draft_of_the_status_is_an_error(path: Path, tmp_path: Path) -> None:
    """The error names the link, and its target keeps its content."""
    target = tmp_path / "target"
    target.write_text("precious")
    with open_state(path) as state:
        draft = sibling_path(path, ".status.json.tmp")
        draft.symlink_to(target)
        with pytest.raises(StateError, match=re.escape(draft.name)):
            write_status(path, take_status(state))
    assert target.read_text() == "precious"
