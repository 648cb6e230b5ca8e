from __future__ import annotations

import datetime as dt
import getpass
import pickle
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiobatch.sync._errors import UnknownRunError
from aiobatch.sync._options import Mode
from aiobatch.sync.state import _run_changes
from aiobatch.sync.state._history import (
    RunEnding,
    RunOutcome,
    last_successes,
    list_runs,
    show_run,
)
from aiobatch.sync.state._journal import Journal
from aiobatch.sync.state._repair import adopt, stage_rollback
from aiobatch.sync.state._run_changes import runs_with_changes
from aiobatch.sync.state._state import State

from ..steps import mark_applied, mark_sending, mark_sent
from .states import apply_all, open_state, plan, sync, vip

NOON = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)


@pytest.fixture(name="state")
def _state(tmp_path: Path) -> Iterator[State]:
    with open_state(tmp_path / "state.duckdb") as state:
        yield state


def test_run_records_who_what_when_and_how_much(state: State) -> None:
    """The history contains the planned numbers, the actual ones, and the duration."""
    sync(state, {"u1": None, "u2": None, "u3": {"age": 1}})
    state.now = lambda: NOON
    journal = Journal.begin(state, plan(state, {"u3": {"age": 2}, "u4": None}))
    apply_all(journal)
    state.now = lambda: NOON + dt.timedelta(seconds=90)
    run = journal.close(RunEnding(outcome=RunOutcome.DONE, calls=2, retries=1))
    assert run == show_run(state, journal.run)
    assert (run.audience, run.source, run.mode) == ("vip", "users.csv", Mode.MIRROR)
    assert run.who == f"{getpass.getuser()}@{socket.gethostname()}"
    assert (run.staged, run.adds, run.removes, run.attribute_changes) == (2, 1, 2, 1)
    assert (run.members_before, run.members_after, run.applied, run.refused) == (3, 2, 4, 0)
    assert (run.planned_calls, run.calls, run.retries) == (2, 2, 1)
    assert (run.started, run.ended, run.seconds) == (NOON, NOON + dt.timedelta(seconds=90), 90.0)


def test_open_run_has_no_end(state: State) -> None:
    """An open run has no outcome, no end and no seconds."""
    run = show_run(state, Journal.begin(state, plan(state, ["u1"])).run)
    assert (run.settled, run.outcome, run.ended, run.seconds) == (False, None, None, None)


def test_clock_that_is_set_back_gives_zero_seconds(state: State) -> None:
    """A run never takes less than 0 seconds, and such a run does not affect estimates."""
    state.now = lambda: NOON
    journal = Journal.begin(state, plan(state, ["u1"]))
    apply_all(journal)
    state.now = lambda: NOON - dt.timedelta(hours=1)
    assert journal.close(RunEnding(outcome=RunOutcome.DONE, calls=1, retries=0)).seconds == 0
    assert plan(state, ["u2"]).seconds is None


def test_late_settlement_keeps_the_recorded_end(state: State) -> None:
    """A later settlement keeps the outcome, the error and the calls of the run's own end."""
    journal = Journal.begin(state, plan(state, ["u1"]))
    mark_sending(journal, [0])
    journal.close(RunEnding(outcome=RunOutcome.FAILED, error="503", calls=3, retries=2))
    apply_open = Journal.resume(state, vip(state))
    assert apply_open is not None
    mark_sent(apply_open, 0, "vip:update:t")
    mark_applied(apply_open, [0])
    run = apply_open.close(RunEnding())
    assert (run.outcome, run.error, run.calls, run.retries) == (RunOutcome.FAILED, "503", 3, 2)


def test_runs_are_listed_latest_first(state: State) -> None:
    """All runs, those of one audience, or the latest few."""
    runs = [sync(state, [f"u{i}"]).run for i in range(3)]
    assert [run.run for run in list_runs(state)] == runs[::-1]
    assert [run.run for run in list_runs(state, key=vip(state).key, limit=2)] == runs[:0:-1]
    assert list_runs(state, key="another") == []
    assert list_runs(state, name="vip") == list_runs(state)
    assert list_runs(state, name="another") == []


def test_unknown_run_is_an_error(state: State) -> None:
    """The error names the run, and can be pickled."""
    with pytest.raises(UnknownRunError, match="has no run 7") as info:
        show_run(state, 7)
    copy = pickle.loads(pickle.dumps(info.value))  # noqa: S301  # our own
    assert (copy.run, copy.audience) == (7, None)


def test_last_success_is_a_done_run(state: State) -> None:
    """Neither a failed run nor an adoption is a success."""
    key = vip(state).key
    assert last_successes(state) == {}
    adopt(state, plan(state, ["u1"], Mode.ADOPT))
    Journal.begin(state, plan(state, ["u2"])).close(RunEnding(outcome=RunOutcome.FAILED))
    assert last_successes(state) == {}
    done = sync(state, ["u3"])
    assert last_successes(state) == {key: done.ended}


def test_runs_without_changes_do_not_count_as_retained(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that mostly finds nothing to do can roll back as many changes as any other."""
    monkeypatch.setattr(_run_changes, "KEEP_RUNS", 2)
    key = vip(state).key
    runs = []
    for people in (["u1"], ["u2"], ["u2"], ["u2"], ["u3"], ["u3"]):
        journal = Journal.begin(state, plan(state, people, Mode.ADD))
        apply_all(journal)
        runs.append(journal.close(RunEnding(outcome=RunOutcome.DONE)).run)
    assert runs_with_changes(state, key) == [runs[4], runs[1]]
    tables = {name for (name,) in state.rows("SELECT table_name FROM duckdb_tables()")}
    assert {name for name in tables if name.startswith("past_")} == {f"past_{runs[4]}", f"past_{runs[1]}"}
    for run, members in ((runs[0], ["u1"]), (runs[2], ["u1", "u2"]), (runs[5], ["u1", "u2", "u3"])):
        table = stage_rollback(state, vip(state), run)
        assert sorted(id_ for (id_,) in state.rows("SELECT id FROM {table}", table=table)) == members


def test_only_the_latest_changes_are_retained(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older runs lose their changes and keep their numbers. A rollback to them is an error."""
    monkeypatch.setattr(_run_changes, "KEEP_RUNS", 2)
    runs = []
    for i in range(5):
        journal = Journal.begin(state, plan(state, [f"u{i}"]))
        apply_all(journal)
        runs.append(journal.close(RunEnding(outcome=RunOutcome.DONE)).run)
    key = vip(state).key
    assert runs_with_changes(state, key) == runs[:2:-1]
    assert len(list_runs(state)) == 5
    assert show_run(state, runs[0]).changes_retained is False
    tables = {name for (name,) in state.rows("SELECT table_name FROM duckdb_tables()")}
    assert {f"past_{run}" for run in runs[:3]}.isdisjoint(tables)
    stage_rollback(state, vip(state), runs[2])
    with pytest.raises(UnknownRunError, match=f"changes of run {runs[2]} .* Choose run {runs[2]} or") as info:
        stage_rollback(state, vip(state), runs[1])
    assert vars(pickle.loads(pickle.dumps(info.value))) == vars(info.value)  # noqa: S301  # our own
