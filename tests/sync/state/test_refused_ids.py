"""What the state remembers of ids that Batch refused."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from aiobatch.sync._options import Mode
from aiobatch.sync._plan import Plan
from aiobatch.sync.state._chunks import ChunkState
from aiobatch.sync.state._history import RunEnding, RunOutcome
from aiobatch.sync.state._journal import Journal
from aiobatch.sync.state._repair import adopt, forget
from aiobatch.sync.state._state import State

from ..steps import mark_refused, mark_sending
from .states import plan, sync, vip

NOON = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)


@pytest.fixture(name="state")
def _state(tmp_path: Path) -> State:
    return State.open(
        tmp_path / "state.duckdb", what="test", memory_limit="200MB", threads=1, now=lambda: NOON
    )


def _refuse(state: State, source: list[str], outcome: RunOutcome = RunOutcome.DONE) -> None:
    """Do a run in which Batch refuses everything."""
    journal = Journal.begin(state, plan(state, source, size=1))
    for chunk in journal.in_state(ChunkState.PLANNED):
        mark_sending(journal, [chunk.n])
        mark_refused(journal, chunk.n, "Batch refused it")
    journal.close(RunEnding(outcome=outcome))


def _planned(state: State, mode: Mode = Mode.MIRROR) -> tuple[int, int]:
    """Return how many of two ids would be added, and how many not for having been refused."""
    made: Plan = plan(state, ["u1", "u2"], mode)
    return made.adds, made.refused_before


def test_what_was_refused_is_remembered_for_a_week(state: State) -> None:
    """An id that was refused is not planned; after a week it is tried again."""
    with state:
        _refuse(state, ["u1"])
        assert _planned(state) == (1, 1)
        assert _planned(state, Mode.ADD) == (1, 1)
        state.now = lambda: NOON + dt.timedelta(days=7)
        assert _planned(state) == (2, 0)
        _refuse(state, ["u2"])
        assert _planned(state) == (1, 1)


def test_what_a_wrong_clock_noted_is_not_remembered_for_ever(state: State) -> None:
    """An id that was refused while the clock ran years ahead is tried again once the clock is right."""
    with state:
        state.now = lambda: NOON + dt.timedelta(days=3650)
        _refuse(state, ["u1"])
        assert _planned(state) == (1, 1)
        state.now = lambda: NOON
        assert _planned(state) == (2, 0)
        _refuse(state, ["u1"])
        assert _planned(state) == (1, 1)


@pytest.mark.parametrize("outcome", [RunOutcome.FAILED, RunOutcome.INTERRUPTED])
def test_only_a_run_that_ended_well_remembers(state: State, outcome: RunOutcome) -> None:
    """Where a run failed the fault may be in no id."""
    with state:
        _refuse(state, ["u1"], outcome)
        assert _planned(state) == (2, 0)


def test_whoever_states_all_members_anew_asks_again(state: State) -> None:
    """Neither a replace nor a resync leaves out what was refused, and an adoption forgets it."""
    with state:
        _refuse(state, ["u1"])
        assert _planned(state, Mode.REPLACE) == _planned(state, Mode.RESYNC) == (2, 0)
        adopt(state, plan(state, ["u3"], Mode.ADOPT))
        assert _planned(state) == (2, 0)
        _refuse(state, ["u1"])
        sync(state, ["u1", "u3"], Mode.RESYNC)
        sync(state, ["u3"])
        assert _planned(state) == (2, 0)


def test_a_forgotten_audience_remembers_nothing(state: State) -> None:
    """Forgetting takes all tables of an audience away."""
    with state:
        _refuse(state, ["u1"])
        forget(state, vip(state))
        assert _planned(state) == (2, 0)
