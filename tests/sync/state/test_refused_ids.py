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


def test_refused_ids_are_excluded_for_a_week(state: State) -> None:
    """An ID that was refused is not planned for a week."""
    with state:
        _refuse(state, ["u1"])
        assert _planned(state) == (1, 1)
        assert _planned(state, Mode.ADD) == (1, 1)
        state.now = lambda: NOON + dt.timedelta(days=7)
        assert _planned(state) == (2, 0)
        _refuse(state, ["u2"])
        assert _planned(state) == (1, 1)


def test_times_of_a_wrong_clock_expire(state: State) -> None:
    """An ID that was refused while the clock was years ahead is sent again once the clock is right."""
    with state:
        state.now = lambda: NOON + dt.timedelta(days=3650)
        _refuse(state, ["u1"])
        assert _planned(state) == (1, 1)
        state.now = lambda: NOON
        assert _planned(state) == (2, 0)
        _refuse(state, ["u1"])
        assert _planned(state) == (1, 1)


@pytest.mark.parametrize("outcome", [RunOutcome.FAILED, RunOutcome.INTERRUPTED])
def test_failed_run_records_no_refused_ids(state: State, outcome: RunOutcome) -> None:
    """If a run failed, the IDs may not be the cause."""
    with state:
        _refuse(state, ["u1"], outcome)
        assert _planned(state) == (2, 0)


def test_restating_modes_send_refused_ids_again(state: State) -> None:
    """A replace and a resync send refused IDs again, and an adoption clears them."""
    with state:
        _refuse(state, ["u1"])
        assert _planned(state, Mode.REPLACE) == _planned(state, Mode.RESYNC) == (2, 0)
        adopt(state, plan(state, ["u3"], Mode.ADOPT))
        assert _planned(state) == (2, 0)
        _refuse(state, ["u1"])
        sync(state, ["u1", "u3"], Mode.RESYNC)
        sync(state, ["u3"])
        assert _planned(state) == (2, 0)


def test_forget_clears_refused_ids(state: State) -> None:
    """Forgetting an audience drops all its tables."""
    with state:
        _refuse(state, ["u1"])
        forget(state, vip(state))
        assert _planned(state) == (2, 0)
