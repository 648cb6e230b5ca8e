from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiobatch.models import IndexingToken
from aiobatch.sync._errors import GuardError, JournalError, OpenRunError, StalePlanError
from aiobatch.sync._options import Mode
from aiobatch.sync.state import _run_changes
from aiobatch.sync.state._chunks import Chunk, ChunkState, ChunkTransition
from aiobatch.sync.state._diff import PlanRequest, make_plan
from aiobatch.sync.state._history import RunEnding, RunOutcome
from aiobatch.sync.state._journal import Journal
from aiobatch.sync.state._state import State

from ..steps import mark_applied, mark_refused, mark_sending, mark_sent
from .states import apply_all, members, open_state, plan, stage, sync, vip

TOKEN = IndexingToken.parse("vip:update:t0")
DONE = RunEnding(outcome=RunOutcome.DONE, calls=1, retries=0)
ENDED = {
    ChunkState.APPLIED,
    ChunkState.REFUSED,
    ChunkState.FAILED,
    ChunkState.REPLACED,
    ChunkState.SPLIT,
    ChunkState.DROPPED,
}


@pytest.fixture(name="state")
def _state(tmp_path: Path) -> Iterator[State]:
    with open_state(tmp_path / "state.duckdb") as state:
        yield state


def _resume(state: State) -> Journal:
    """Read the open journal from disk."""
    journal = Journal.resume(state, vip(state))
    assert journal is not None
    return journal


def test_chunks_are_disjoint_and_full_and_remove_first(state: State) -> None:
    """Five removes and three adds in calls of three are three chunks, with the removes in the first ones."""
    sync(state, [f"old{i}" for i in range(5)])
    journal = Journal.begin(state, plan(state, ["new1", "new2", "new3"]))
    actions = [journal.actions(n) for n in range(3)]
    assert [(len(each.add), len(each.remove)) for each in actions] == [(0, 3), (1, 2), (2, 0)]
    assert [chunk.removes for chunk in journal.in_state(ChunkState.PLANNED)] == [3, 2, 0]
    assert {i for each in actions for i in each.remove} == {f"old{i}" for i in range(5)}
    assert {i for each in actions for i in each.add} == {"new1", "new2", "new3"}


def test_chunk_has_attributes_and_tags(state: State) -> None:
    """Adds and changes have the source's attributes and tags. IDs without any have none."""
    sync(state, ["u2"])
    stage(state, {"u1": {"age": 3}, "u2": {"age": 4}, "u3": None}, tags=["a", "b"])
    made = make_plan(state, vip(state), PlanRequest(mode=Mode.MIRROR, source="users.csv"))
    actions = Journal.begin(state, made).actions(0)
    assert sorted(actions.add) == ["u1", "u2", "u3"]
    assert actions.attributes == {"u1": '{"age":3}', "u2": '{"age":4}'}
    assert actions.tags == {"u1": ["a", "b"], "u2": ["a", "b"], "u3": ["a", "b"]}


def test_close_applies_the_applied_chunks(state: State) -> None:
    """Of three chunks, the applied one changes the members, and the one that was never sent is dropped."""
    journal = Journal.begin(state, plan(state, [f"u{i}" for i in range(9)]))
    mark_sending(journal, [0, 1])
    mark_sent(journal, 0, "vip:update:t")
    mark_applied(journal, [0])
    journal.record([ChunkTransition(n=1, state=ChunkState.FAILED, reason="403")])
    applied = set(journal.actions(0).add)
    run = journal.close(RunEnding(outcome=RunOutcome.FAILED, error="403", calls=2, retries=1))
    assert members(state) == applied
    assert (run.applied, run.members_after, run.settled, run.outcome) == (3, 3, True, RunOutcome.FAILED)


def test_open_chunks_keep_a_run_open(state: State) -> None:
    """A chunk of unknown outcome survives the close and the process. Once settled, the whole run counts."""
    journal = Journal.begin(state, plan(state, [f"u{i}" for i in range(6)]))
    mark_sending(journal, [0])
    run = journal.close(RunEnding(outcome=RunOutcome.INTERRUPTED, calls=1, retries=0))
    assert (run.settled, run.outcome) == (False, RunOutcome.INTERRUPTED)
    again = _resume(state)
    assert [chunk.n for chunk in again.open_chunks()] == [0]
    assert again.counts() == {ChunkState.SENDING: 3, ChunkState.DROPPED: 3}
    ids = set(again.actions(0).add)
    mark_sending(again, [0])
    mark_sent(again, 0, "vip:update:t")
    mark_applied(again, [0])
    settled = again.close(RunEnding())
    assert (settled.settled, settled.outcome, settled.calls) == (True, RunOutcome.INTERRUPTED, 1)
    assert members(state) == ids
    assert Journal.resume(state, vip(state)) is None


def test_tokens_and_reasons_survive(state: State) -> None:
    """The token and the reason of a transition are read back."""
    journal = Journal.begin(state, plan(state, [f"u{i}" for i in range(9)]))
    mark_sending(journal, [0, 1, 2])
    mark_sent(journal, 0, "vip:update:t0")
    mark_sent(journal, 1, "vip:update:t1")
    mark_applied(journal, [1])
    mark_refused(journal, 2, "malformed")
    assert _resume(state).chunks == journal.chunks
    assert journal.chunks[0].token == TOKEN
    assert (journal.chunks[1].token, journal.chunks[2].reason) == (
        IndexingToken.parse("vip:update:t1"),
        "malformed",
    )


def test_transitions_are_recorded_atomically(state: State) -> None:
    """Transitions of several chunks, and several of one, are recorded together or not at all."""
    journal = Journal.begin(state, plan(state, [f"u{i}" for i in range(6)]))
    sending, sent = (
        ChunkTransition(n=0, state=ChunkState.SENDING),
        ChunkTransition(n=0, state=ChunkState.SENT, token=TOKEN),
    )
    journal.record([sending, sent, ChunkTransition(n=1, state=ChunkState.SENDING)])
    assert [chunk.state for chunk in _resume(state).chunks.values()] == ["sent", "sending"]
    with pytest.raises(JournalError):
        journal.record(
            [ChunkTransition(n=0, state=ChunkState.APPLIED), ChunkTransition(n=1, state=ChunkState.APPLIED)]
        )
    assert _resume(state).chunks == journal.chunks
    assert journal.chunks[0].state is ChunkState.SENT


def test_refused_chunk_is_halved_until_the_id_is_found(state: State) -> None:
    """Bisecting ends at the one ID that is refused, and all others are applied."""
    ids = [f"u{i}" for i in range(7)]
    journal = Journal.begin(state, plan(state, ids, size=10))
    while planned := journal.in_state(ChunkState.PLANNED):
        chunk = planned[0]
        mark_sending(journal, [chunk.n])
        if "u3" not in journal.actions(chunk.n).add:
            mark_sent(journal, chunk.n, f"vip:update:t{chunk.n}")
            mark_applied(journal, [chunk.n])
        elif chunk.size > 1:
            journal.split(chunk.n)
            assert _resume(state).chunks == journal.chunks
        else:
            mark_refused(journal, chunk.n, "malformed")
    run = journal.close(DONE)
    assert members(state) == set(ids) - {"u3"}
    assert (run.applied, run.refused) == (6, 1)


def test_halves_keep_their_removes(state: State) -> None:
    """The halves of a chunk of removes and adds contain its actions, each once."""
    sync(state, ["u1", "u2", "u3"])
    journal = Journal.begin(state, plan(state, ["u4", "u5"], size=10))
    mark_sending(journal, [0])
    first, second = journal.split(0)
    assert sorted(journal.actions(first).remove + journal.actions(second).remove) == ["u1", "u2", "u3"]
    assert sorted(journal.actions(first).add + journal.actions(second).add) == ["u4", "u5"]


def test_one_id_and_a_replace_cannot_be_split(state: State) -> None:
    """One ID cannot be halved. Halves of a replace would replace each other."""
    for ids, mode in ((["u1"], Mode.MIRROR), (["u1", "u2"], Mode.REPLACE)):
        journal = Journal.begin(state, plan(state, ids, mode))
        mark_sending(journal, [0])
        with pytest.raises(JournalError, match="cannot be split"):
            journal.split(0)
        journal.record([ChunkTransition(n=0, state=ChunkState.FAILED)])
        journal.close(DONE)


def test_replace_replaces_the_members(state: State) -> None:
    """An applied replace makes its IDs the members. A failed one changes nothing."""
    sync(state, ["u1", "u2"])
    journal = Journal.begin(state, plan(state, ["u2", "u3"], Mode.REPLACE))
    mark_sending(journal, [0])
    journal.record([ChunkTransition(n=0, state=ChunkState.FAILED)])
    generation = vip(state).generation
    journal.close(RunEnding(outcome=RunOutcome.FAILED))
    assert (members(state), vip(state).generation) == ({"u1", "u2"}, generation)
    sync(state, ["u2", "u3"], Mode.REPLACE)
    assert members(state) == {"u2", "u3"}


def test_fingerprints_of_applied_ids_are_recorded(state: State) -> None:
    """Attributes that were applied are not sent again. Others are."""
    sync(state, {"u1": {"age": 1}, "u2": None})
    journal = Journal.begin(state, plan(state, {"u1": {"age": 2}, "u2": {"age": 2}}, size=1))
    apply_all(journal)
    journal.close(DONE)
    assert plan(state, {"u1": {"age": 2}, "u2": {"age": 2}}).changes == 0
    assert plan(state, {"u1": {"age": 2}, "u2": {"age": 1}}).attribute_changes == 1


def test_run_begins_only_with_a_valid_plan(state: State) -> None:
    """A refused plan, a stale plan, and a plan while a run is open begin nothing."""
    sync(state, [f"u{i}" for i in range(100)])
    stage(state, [])
    refused = make_plan(state, vip(state), PlanRequest(mode=Mode.MIRROR, source="users.csv"))
    with pytest.raises(GuardError):
        Journal.begin(state, refused)
    stale = plan(state, ["u1"])
    sync(state, ["u2"])
    with pytest.raises(StalePlanError, match="the state has moved"):
        Journal.begin(state, stale)
    made = plan(state, ["u3"])
    Journal.begin(state, made)
    with pytest.raises(OpenRunError):
        Journal.begin(state, made)


def test_run_without_changes_is_in_the_history(state: State) -> None:
    """A run with nothing to do has no calls and ended well."""
    sync(state, ["u1"])
    run = sync(state, ["u1"])
    assert (run.planned_calls, run.applied, run.members_after, run.outcome) == (0, 0, 1, RunOutcome.DONE)


@given(st.sampled_from(sorted(ENDED)), st.sampled_from(ChunkState))
def test_final_states_have_no_transitions(ended: ChunkState, step: ChunkState) -> None:
    """A chunk in a final state stays in it. The error names the chunk and can be pickled."""
    chunk = Chunk(n=7, first=0, past=3, removes=0, state=ended)
    with pytest.raises(JournalError, match=f"chunk 7 is {ended}") as info:
        chunk.after(ChunkTransition(n=7, state=step))
    assert str(pickle.loads(pickle.dumps(info.value))) == str(info.value)  # noqa: S301  # our own


@pytest.mark.parametrize(("state", "token"), [(ChunkState.SENT, None), (ChunkState.REFUSED, TOKEN)])
def test_only_sent_has_a_token(state: ChunkState, token: IndexingToken | None) -> None:
    """A chunk is not SENT without its token, and no other state has one."""
    chunk = Chunk(n=7, first=0, past=3, removes=0, state=ChunkState.SENDING)
    with pytest.raises(JournalError, match="a token comes with the state sent"):
        chunk.after(ChunkTransition(n=7, state=state, token=token))


def test_chunk_with_a_lost_token_is_sent_again() -> None:
    """A chunk whose token Batch no longer knows goes back to SENDING, without it."""
    chunk = Chunk(n=7, first=0, past=3, removes=0, state=ChunkState.SENT, token=TOKEN)
    assert chunk.after(ChunkTransition(n=7, state=ChunkState.SENDING)).token is None


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_removes_of_a_chunk_are_counted(first: int, size: int, removes: int) -> None:
    """For any range, its removes are those of the run's first actions that are in it."""
    expected = len(set(range(first, first + size)) & set(range(removes)))
    assert Chunk.planned(0, first, first + size, removes=removes).removes == expected


@pytest.mark.parametrize("row_group", [0, 8], ids=["large", "small"])
@pytest.mark.parametrize("missing", ["('')", "('u0', 'u5')"], ids=["whole", "gaps"])
def test_first_load_does_not_need_gapless_rows(
    state: State, monkeypatch: pytest.MonkeyPatch, row_group: int, missing: str
) -> None:
    """A first load works if the source's rows are not numbered without a gap, whether it is copied or not."""
    monkeypatch.setattr(_run_changes, "_ROW_GROUP", row_group)
    stage(state, [f"u{i}" for i in range(10)])
    state.rows(f"DELETE FROM staged WHERE id IN {missing}")
    left = {id_ for (id_,) in state.rows("SELECT id FROM staged")}
    request = PlanRequest(mode=Mode.MIRROR, source="users.csv", chunk_size=3)
    journal = Journal.begin(state, make_plan(state, vip(state), request))
    assert sum(len(journal.actions(n).add) for n in journal.chunks) == len(left)
    apply_all(journal)
    journal.close(DONE)
    assert members(state) == left
