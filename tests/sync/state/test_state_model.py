"""The state, its journal and its history against a model in Python, whatever the order of what happens."""

from __future__ import annotations

import collections
import contextlib
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aiobatch.models import IndexingToken
from aiobatch.sync._options import RESTATING_MODES, Mode
from aiobatch.sync._sql import KEY
from aiobatch.sync.state._chunks import OPEN, ChunkState, ChunkTransition
from aiobatch.sync.state._diff import PlanRequest, make_plan
from aiobatch.sync.state._history import RunEnding, RunOutcome, list_runs
from aiobatch.sync.state._journal import Journal
from aiobatch.sync.state._repair import adopt, stage_rollback
from aiobatch.sync.state._run_changes import Actions
from aiobatch.sync.state._schema import members_table
from aiobatch.sync.state._state import State
from aiobatch.sync.state.partitions._digests import Digests, read_digests
from aiobatch.sync.state.partitions._keys import salt_of

from ...helpers.sweep import examples
from .states import ANYTHING, in_partitions_of, members, open_state, plan, vip

TOKEN = IndexingToken.parse("vip:update:t")
SOURCES = st.sets(st.sampled_from([f"u{i}" for i in range(20)]))
MODES = st.sampled_from([Mode.MIRROR, Mode.ADD, Mode.REMOVE, Mode.REPLACE, Mode.RESYNC])


class StateModel(RuleBasedStateMachine):
    """Any sequence of operations on a state. The model is sets of IDs."""

    state: State
    journal: Journal | None = None

    @initialize(rows=st.sampled_from([2, 1000]))
    def _make(self, rows: int) -> None:
        self.stack = contextlib.ExitStack()
        self.stack.enter_context(in_partitions_of(rows))
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "state.duckdb"
        self.state = open_state(self.path)
        self.recorded: set[str] = set()
        self.ever: set[str] = set()
        self.refused: set[str] = set()
        self.unknown: set[str] = set()
        self.malformed: set[str] = set()
        self.after: dict[int, set[str]] = {}
        self.actions: dict[int, Actions] = {}

    def teardown(self) -> None:
        """Close the state."""
        self.state.close()
        self.directory.cleanup()
        self.stack.close()

    def _begin(self, made_with: PlanRequest | None, source: set[str], mode: Mode) -> None:
        made = (
            plan(self.state, source, mode, size=20 if mode is Mode.REPLACE else 3)
            if made_with is None
            else make_plan(self.state, vip(self.state), made_with)
        )
        self.planned_after = made.members_after
        self.journal = Journal.begin(self.state, made)
        self.actions = {n: self.journal.actions(n) for n in self.journal.chunks}
        ids = [i for actions in self.actions.values() for i in (*actions.add, *actions.remove)]
        assert len(ids) == len(set(ids)) == made.changes
        assert made.calls == len(self.journal.chunks)

    @precondition(lambda self: self.journal is None)
    @rule(source=SOURCES, mode=MODES)
    def begin(self, source: set[str], mode: Mode) -> None:
        """Begin a run. Its actions lead from the recorded members to what the mode requires."""
        if mode is Mode.REPLACE and not source:
            return
        certain = self.recorded - self.unknown
        self._begin(None, source, mode)
        add = {i for actions in self.actions.values() for i in actions.add}
        remove = {i for actions in self.actions.values() for i in actions.remove}
        expected = {
            Mode.MIRROR: (source - certain - self.refused, self.recorded - source),
            Mode.ADD: (source - certain - self.refused, set()),
            Mode.REMOVE: (set(), source),
            Mode.REPLACE: (source, set()),
            Mode.RESYNC: (source, self.ever - source),
        }[mode]
        assert (add, remove) == expected

    @precondition(lambda self: self.journal is None and self.after)
    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        """Begin a run that leads back to the members after an earlier one."""
        run = data.draw(st.sampled_from(sorted(self.after)))
        staged = stage_rollback(self.state, vip(self.state), run)
        request = PlanRequest(
            mode=Mode.ROLLBACK, source="run", staged=staged, overrides=ANYTHING, chunk_size=3
        )
        self._begin(request, set(), Mode.ROLLBACK)
        add = {i for actions in self.actions.values() for i in actions.add}
        remove = {i for actions in self.actions.values() for i in actions.remove}
        # An ID of unknown outcome that Batch refuses later was never a member.
        assert (self.recorded | add) - remove | self.malformed == self.after[run] | self.malformed
        assert self.unknown <= add | remove

    @precondition(lambda self: self.journal is None)
    @rule(source=SOURCES)
    def adopt(self, source: set[str]) -> None:
        """Adopt a source."""
        made = plan(self.state, source, Mode.ADOPT)
        run = adopt(self.state, made)
        self.recorded = set(source)
        self.refused.clear()
        self.unknown.clear()
        assert run.members_after == made.members_after == len(source)
        self.ever |= source
        self.after[run.run] = set(source)

    @precondition(lambda self: self.journal is not None and self.journal.in_state(ChunkState.PLANNED, *OPEN))
    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        """Record any allowed transition of a chunk."""
        assert self.journal is not None
        chunk = data.draw(st.sampled_from(self.journal.in_state(ChunkState.PLANNED, *OPEN)))
        steps = {
            ChunkState.PLANNED: [ChunkState.SENDING],
            ChunkState.SENDING: [
                ChunkState.SENDING,
                ChunkState.SENT,
                ChunkState.FAILED,
                ChunkState.REFUSED,
                ChunkState.UNKNOWN,
            ],
            ChunkState.SENT: [
                ChunkState.SENDING,
                ChunkState.APPLIED,
                ChunkState.APPLIED,
                ChunkState.REPLACED,
            ],
        }[chunk.state]
        step = data.draw(st.sampled_from(steps))
        self.journal.record(
            [ChunkTransition(n=chunk.n, state=step, token=TOKEN if step is ChunkState.SENT else None)]
        )

    @precondition(lambda self: self.journal is not None)
    @rule()
    def split(self) -> None:
        """Halve a chunk."""
        assert self.journal is not None
        for chunk in self.journal.in_state(ChunkState.SENDING):
            if chunk.size > 1 and self.journal.mode is not Mode.REPLACE:
                halves = [self.journal.actions(n) for n in self.journal.split(chunk.n)]
                self.actions |= {n: self.journal.actions(n) for n in self.journal.chunks}
                whole = self.actions[chunk.n]
                assert sorted(whole.add) == sorted(i for half in halves for i in half.add)
                assert sorted(whole.remove) == sorted(i for half in halves for i in half.remove)

    @precondition(lambda self: self.journal is not None)
    @rule()
    def close(self) -> None:
        """Close a run. Without open chunks, its applied changes become the members."""
        assert self.journal is not None
        was_open = self.journal.open_chunks()
        run = self.journal.close(RunEnding(outcome=RunOutcome.DONE))
        assert run.settled is not bool(was_open)
        if run.settled:
            self._settled(self.journal)
            self.journal = None

    def _settled(self, journal: Journal) -> None:
        if journal.mode in RESTATING_MODES:
            self.refused.clear()
        had_members, ends = bool(self.recorded), collections.defaultdict[ChunkState, list[Actions]](list)
        for chunk in journal.chunks.values():
            ends[chunk.state].append(self.actions[chunk.n])
        self._applied(journal.mode, ends[ChunkState.APPLIED], had_members=had_members)
        for actions in (*ends[ChunkState.REPLACED], *ends[ChunkState.FAILED]):
            self.ever |= set(actions.add)
        for actions in ends[ChunkState.REFUSED]:
            forgotten = self.unknown & {*actions.add, *actions.remove}
            self.refused |= set(actions.add)
            self.malformed |= forgotten
            self.recorded -= forgotten
            self.unknown -= forgotten
        for actions in ends[ChunkState.UNKNOWN]:
            if journal.mode is Mode.REPLACE:
                self.unknown |= self.recorded
            self.unknown |= {*actions.add, *actions.remove}
        self.recorded |= self.unknown
        self.ever |= self.unknown
        self.after[journal.run] = set(self.recorded)
        if set(ends) <= {ChunkState.APPLIED, ChunkState.SPLIT}:
            assert len(self.recorded) == self.planned_after

    def _applied(self, mode: Mode, chunks: list[Actions], *, had_members: bool) -> None:
        for actions in chunks:
            if mode is Mode.REPLACE:
                self.recorded, self.unknown = set(), set()
            self.recorded = (self.recorded | set(actions.add)) - set(actions.remove)
            self.unknown -= {*actions.add, *actions.remove}
            self.ever |= set(actions.add)
            if had_members:  # a run that begins with none needs no record of its removals
                self.ever |= set(actions.remove)

    @rule()
    def reopen(self) -> None:
        """Reopen the file, as a new process would."""
        self.state.close()
        self.state = open_state(self.path)
        if self.journal is not None:
            again = Journal.resume(self.state, vip(self.state))
            assert again is not None
            assert again.chunks == self.journal.chunks
            self.journal = again

    @invariant()
    def _members_are_what_is_applied(self) -> None:
        assert members(self.state) == self.recorded
        assert vip(self.state).open_run == (None if self.journal is None else self.journal.run)

    @invariant()
    def _stored_digests_are_those_of_the_members(self) -> None:
        audience = vip(self.state)
        self.state.rows(
            f"CREATE OR REPLACE TEMP VIEW real_keys AS SELECT {KEY} AS key, fingerprint FROM {{members}}",
            salt=salt_of(self.state),
            members=members_table(audience.key),
        )
        for partitions in (1, 2, 4, 8):
            stored = read_digests(self.state, audience, partitions)
            assert stored in (None, Digests.of_keys(self.state, "real_keys", partitions))

    @invariant()
    def _history_adds_up(self) -> None:
        runs = [run for run in list_runs(self.state, limit=1000) if run.settled]
        assert [run.run for run in runs] == sorted(self.after, reverse=True)
        for run in runs:
            assert run.members_after == len(self.after[run.run])


TestStateModel = StateModel.TestCase
TestStateModel.settings = settings(
    max_examples=examples(4, 15, full=40), stateful_step_count=25, deadline=None
)
