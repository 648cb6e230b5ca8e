from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aiobatch.sync._errors import OpenRunError, StalePlanError, StateError, UnknownRunError
from aiobatch.sync._options import Mode
from aiobatch.sync._plan import Plan
from aiobatch.sync.state._chunks import ChunkState, ChunkTransition
from aiobatch.sync.state._diff import PlanRequest, make_plan
from aiobatch.sync.state._history import RunEnding, RunOutcome, list_runs
from aiobatch.sync.state._journal import Journal
from aiobatch.sync.state._repair import adopt, forget, stage_rollback
from aiobatch.sync.state._schema import ADDED_TABLES
from aiobatch.sync.state._state import State
from aiobatch.sync.state._targets import get_or_create_audience

from ..steps import mark_sending, mark_sent
from .states import ANYTHING, APP, apply_all, in_partitions_of, members, open_state, plan, sync, vip


@pytest.fixture(name="state")
def _state(tmp_path: Path) -> Iterator[State]:
    with open_state(tmp_path / "state.duckdb") as state:
        yield state


def _rollback(state: State, run: int) -> Plan:
    """Plan the way back to a run."""
    request = PlanRequest(
        mode=Mode.ROLLBACK,
        source=f"run {run}",
        staged=stage_rollback(state, vip(state), run),
        overrides=ANYTHING,
    )
    return make_plan(state, vip(state), request)


def _back(state: State, run: int) -> set[str]:
    """Roll back to a run, and return the members."""
    journal = Journal.begin(state, _rollback(state, run))
    apply_all(journal)
    journal.close(RunEnding(outcome=RunOutcome.DONE))
    return members(state)


def test_adopt_sets_the_members_and_sends_nothing(state: State) -> None:
    """The members are the source's IDs, the plan has no calls, and the next mirror has no changes."""
    made = plan(state, ["u1", "u2"], Mode.ADOPT)
    run = adopt(state, made)
    assert (made.calls, made.adds) == (0, 2)
    assert (run.mode, run.outcome, run.calls, run.members_after) == (Mode.ADOPT, RunOutcome.DONE, 0, 2)
    assert vip(state).known
    assert plan(state, ["u1", "u2"]).changes == 0


def test_second_adopt_replaces_the_members(state: State) -> None:
    """Members that are not in the second source are removed, and an earlier plan is stale."""
    sync(state, ["u1", "u2"])
    stale = plan(state, ["u9"], Mode.ADOPT)
    adopt(state, plan(state, {"u2": {"age": 1}, "u3": None}, Mode.ADOPT))
    assert members(state) == {"u2", "u3"}
    with pytest.raises(StalePlanError):
        adopt(state, stale)
    made = plan(state, ["u1"], Mode.ADOPT)
    Journal.begin(state, plan(state, ["u4"]))
    with pytest.raises(OpenRunError):
        adopt(state, made)


def test_adopting_nothing_makes_an_audience_known(state: State) -> None:
    """An audience that was adopted as empty is known to be empty."""
    adopt(state, plan(state, [], Mode.ADOPT))
    assert (vip(state).known, vip(state).members) == (True, 0)


def test_forget_deletes_everything(state: State) -> None:
    """Members, history and open chunks of the audience are deleted. Another audience keeps its own."""
    other = adopt(state, plan(state, ["u1"], Mode.ADOPT, name="other"))
    sync(state, ["u1"])
    journal = Journal.begin(state, plan(state, ["u2"]))
    mark_sending(journal, [0])
    forget(state, vip(state))
    assert [audience.key for audience in state.audiences()] == [other.key]
    assert list_runs(state) == [other]
    counts = [state.row("SELECT count(*) FROM {table}", table=table) for table in ("chunks", "marks")]
    assert counts == [(0,), (0,)]
    tables = {name for (name,) in state.rows("SELECT table_name FROM duckdb_tables() WHERE NOT temporary")}
    kept = {f"members_{other.key}", f"past_{other.run}"}
    assert tables == {"aiobatch_state", "audiences", "runs", "chunks", "marks", *ADDED_TABLES, *kept}
    assert (vip(state).known, sync(state, ["u3"]).run) == (False, journal.run + 1)


def test_rollback_undoes_everything_since(state: State) -> None:
    """Adds, removes, a replace, an adoption and another rollback are undone."""
    wanted = {
        sync(state, ["u1", "u2"]).run: {"u1", "u2"},
        sync(state, ["u2", "u3"]).run: {"u2", "u3"},
        sync(state, ["u4"], Mode.REPLACE).run: {"u4"},
        sync(state, ["u1", "u5"], Mode.ADD).run: {"u1", "u4", "u5"},
        adopt(state, plan(state, ["u1", "u6"], Mode.ADOPT)).run: {"u1", "u6"},
        sync(state, ["u1"], Mode.REMOVE).run: {"u6"},
    }
    for run in reversed(wanted):
        assert _back(state, run) == wanted[run]
    for run, then in wanted.items():
        assert _back(state, run) == then


def test_rollback_sends_only_the_difference(state: State) -> None:
    """A rollback sends the difference, and nothing if there is none. It does not restore attributes."""
    first = sync(state, {"u1": {"age": 1}, "u2": None}).run
    second = sync(state, {"u1": {"age": 2}, "u3": None}).run
    made = _rollback(state, first)
    assert (made.adds, made.removes, made.attribute_changes, made.staged) == (1, 1, 0, 2)
    assert _rollback(state, second).changes == 0


def test_rollback_to_an_empty_audience(state: State) -> None:
    """An audience that was emptied and filled again can be rolled back to empty, and to before."""
    full, empty = sync(state, ["u1", "u2"]).run, sync(state, []).run
    sync(state, ["u7"])
    assert _back(state, empty) == set()
    sync(state, ["u8"])
    assert _back(state, full) == {"u1", "u2"}


def test_rollback_needs_a_run_of_this_audience_and_no_open_run(state: State) -> None:
    """Another audience's run is an error, and so is an open run."""
    run = sync(state, ["u1"]).run
    other = get_or_create_audience(state, APP, "other")
    with pytest.raises(UnknownRunError, match=f"'other': it has no run {run}"):
        stage_rollback(state, other, run)
    Journal.begin(state, plan(state, ["u2"]))
    with pytest.raises(OpenRunError):
        stage_rollback(state, vip(state), run)


def test_resync_sends_all_and_removes_untracked_ids(state: State) -> None:
    """All IDs are sent again, and all others that were ever sent are removed."""
    sync(state, ["u1", "u2", "gone"])
    sync(state, {"u1": None, "u2": None, "u3": None})
    journal = Journal.begin(state, plan(state, ["u1", "u2", "u3", "maybe"]))
    mark_sending(journal, [0])
    mark_sent(journal, 0, "vip:update:t")
    journal.record([ChunkTransition(n=0, state=ChunkState.REPLACED)])
    journal.close(RunEnding(outcome=RunOutcome.REPLACED))
    made = plan(state, ["u1", "u2", "new"], Mode.RESYNC, size=10)
    assert (made.adds, made.resends, made.removes, made.untracked_removals, made.calls) == (1, 2, 1, 2, 1)
    journal = Journal.begin(state, made)
    actions = journal.actions(0)
    assert set(actions.remove) == {"u3", "gone", "maybe"}
    assert set(actions.add) == {"u1", "u2", "new"}
    apply_all(journal)
    run = journal.close(RunEnding(outcome=RunOutcome.DONE))
    assert members(state) == {"u1", "u2", "new"}
    assert _back(state, run.run - 1) == {"u1", "u2", "u3"}


def test_resync_without_a_history_sends_the_source(state: State) -> None:
    """Without recorded members, the source is sent and nothing is removed."""
    made = plan(state, ["u1", "u2"], Mode.RESYNC)
    assert (made.adds, made.removes, made.untracked_removals) == (2, 0, 0)


def _create_half(state: State) -> None:
    with state.transaction():
        state.rows("CREATE TABLE half (id VARCHAR)")
        state.rows("DELETE FROM nowhere")


def test_known_tables_are_those_of_the_file(state: State) -> None:
    """Whatever creates, renames, drops or rolls back tables, the state knows which ones it has."""

    def check() -> None:
        names = {name for (name,) in state.rows("SELECT table_name FROM duckdb_tables() WHERE NOT temporary")}
        found = {name for name in {*names, *seen} if state.has_table(name)}
        seen.update(names)
        assert found == names

    seen: set[str] = {"nowhere"}
    check()
    sync(state, ["u1", "u2"])
    check()
    sync(state, ["u3"], Mode.REPLACE)
    check()
    with in_partitions_of(1):
        sync(state, ["u4"])
    check()
    with pytest.raises(StateError):
        _create_half(state)
    check()
    forget(state, vip(state))
    check()
