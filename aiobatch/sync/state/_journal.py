"""The journal of a run: each transition of a chunk is on disk before it counts.

Removals are sent first, so that people who asked to leave are removed even if the run stops early. Otherwise
the order does not matter, since no ID is in two chunks.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
from typing import Self

import attrs

from ...models import IndexingToken
from .._errors import JournalError
from .._options import RESTATING_MODES, Mode
from .._plan import Plan
from ._audience_snapshots import AudienceSnapshot, record_start
from ._chunks import OPEN, Chunk, ChunkState, ChunkTransition
from ._history import Run, RunEnding, RunOutcome, RunRows, Settlement, end_run, insert_run, show_run
from ._refused_ids import add_refused, clear_refused
from ._run_changes import (
    Actions,
    RunActions,
    apply_changes,
    forget_refused,
    keep_unknown,
    load_first,
    prune_changes,
    record_uncertain,
    write_actions,
)
from ._schema import RUN_CHANGES, actions_table, run_changes_table
from ._state import AudienceRecord, State
from .partitions._digests import Digests, store_digests
from .partitions._intended import forget_intended, forget_others, has_intended, keep_intended

# The final states of chunks of which Batch has nothing. A split chunk lives on in its halves.
_UNSENT = frozenset({ChunkState.PLANNED, ChunkState.DROPPED, ChunkState.SPLIT})
# The final states of chunks of a run of which Batch has everything.
_ALL_APPLIED = frozenset({ChunkState.APPLIED, ChunkState.SPLIT})
_UNSEEN = AudienceSnapshot()


@attrs.define(eq=False)
class Journal:
    """The journal of one run, from `begin` or `resume` to `close`.

    Attributes:
        run: The run's number.
        key: The audience's key.
        audience: The audience's name.
        mode: The run's mode.
        chunks: Number -> chunk, as on disk.
        calls: Write calls of all processes that worked on the run.
    """

    run: int
    key: str
    audience: str
    mode: Mode
    chunks: dict[int, Chunk]
    _state: State
    _actions: RunActions
    _removes: int
    # Whether the audience was empty, and all planned actions are adds.
    _is_load: bool
    calls: int = 0
    # The order of transitions on disk: several may have the same time.
    _seq: int = 0
    # Those of the members, if all chunks are APPLIED. Known to the process that planned the run.
    _digests: Digests | None = None

    @classmethod
    def begin(
        cls,
        state: State,
        plan: Plan,
        rows: RunRows | None = None,
        seen: AudienceSnapshot = _UNSEEN,
    ) -> Self:
        """Record a plan, cut into chunks, before any of it is sent.

        Args:
            state: An open state. The last plan that `make_plan` made in it for this audience is *plan*.
            plan: The plan.
            rows: The rows of its source, for the history. None if they are unknown.
            seen: The audience in Batch. Empty if Batch does not show it yet.

        Raises:
            GuardError: If the guard refuses the plan.
            OpenRunError: If another run of the audience is not settled.
            StalePlanError: If the state has changed since the plan was made.
            StateError: If it could not be written. Nothing was changed.
        """
        plan.enforce()
        record = state.refuse_open_run(plan.key)
        plan.refuse_moved(state.state_id, record.generation)
        removes = plan.removes + plan.untracked_removals
        chunks = _cut(plan, removes)
        # One transaction: after a crash there is the whole run, or none.
        with state.transaction():
            run = insert_run(state, plan, record, rows)
            if chunks:
                record_start(state, plan, seen)
                write_actions(state, key=plan.key, run=run, removes=removes, adds=plan.changes - removes)
                _insert_chunks(state, run, chunks)
        state.ledger.begin(plan.key, run, chunks)
        return cls(
            run=run,
            key=plan.key,
            audience=plan.audience,
            mode=plan.mode,
            chunks={chunk.n: chunk for chunk in chunks},
            state=state,
            actions=RunActions.open(state, run, plan.chunk_size, is_empty=not chunks),
            removes=removes,
            is_load=plan.members_before == 0 < plan.adds == plan.changes,
            digests=plan.digests,
        )

    @classmethod
    def resume(cls, state: State, audience: AudienceRecord) -> Self | None:
        """Return the journal of the run that is not settled. None if all are.

        Chunks that are `planned` were never sent. `close` drops them.
        """
        run = state.audience_by_key(audience.key).open_run
        return None if run is None else cls._load(state, run)

    def in_state(self, *states: ChunkState) -> list[Chunk]:
        """Return the chunks in any of *states*, by number."""
        return [chunk for _, chunk in sorted(self.chunks.items()) if chunk.state in states]

    def open_chunks(self) -> list[Chunk]:
        """Return the chunks to settle first. SENDING has an unknown outcome, SENT has a token to wait for."""
        return self.in_state(*OPEN)

    def counts(self) -> dict[ChunkState, int]:
        """Return the number of IDs by the state of their chunk."""
        counts: collections.Counter[ChunkState] = collections.Counter()
        for chunk in self.chunks.values():
            counts[chunk.state] += chunk.size
        return dict(counts)

    def actions(self, n: int) -> Actions:
        """Return the content of a chunk's request."""
        return self._actions.read(self.chunks[n])

    def record(self, transitions: Iterable[ChunkTransition]) -> None:
        """Write transitions durably: all of them or none.

        Args:
            transitions: The transitions. One chunk may have several.

        Raises:
            JournalError: If a transition is not allowed. Nothing was changed.
            StateError: If they could not be written. Nothing was changed.
        """
        recorded = list(transitions)
        chunks = self._after(recorded)
        self._state.ledger.record(self.key, self.run, recorded)
        with self._state.transaction():
            self._insert(recorded)
        # Only now: memory must never be ahead of the disk.
        self._keep(recorded, chunks)

    def split(self, n: int) -> tuple[int, int]:
        """Halve a chunk that Batch refused, to find the ID that it refuses.

        Args:
            n: The chunk's number. It is SENDING.

        Returns:
            The numbers of the halves, which are PLANNED.

        Raises:
            JournalError: If it has one ID, or is a replace, whose halves would replace each other.
            StateError: If it could not be written. Nothing was changed.
        """
        chunk = self.chunks[n]
        if chunk.size == 1 or self.mode is Mode.REPLACE:
            msg = f"chunk {n} cannot be split"
            raise JournalError(msg)
        recorded = [ChunkTransition(n=n, state=ChunkState.SPLIT)]
        chunks = self._after(recorded)
        middle, new = (chunk.first + chunk.past) // 2, max(self.chunks) + 1
        halves = [
            Chunk.planned(new, chunk.first, middle, removes=self._removes),
            Chunk.planned(new + 1, middle, chunk.past, removes=self._removes),
        ]
        self._state.ledger.record(self.key, self.run, recorded, halves)
        # One transaction: a crash between the two would lose the actions of the chunk.
        with self._state.transaction():
            self._insert(recorded)
            _insert_chunks(self._state, self.run, halves)
        self._keep(recorded, chunks | {half.n: half for half in halves})
        return new, new + 1

    def close(self, ending: RunEnding) -> Run:
        """End the run: drop the chunks that were not sent, and apply those that are APPLIED to the members.

        While chunks are open the run is not settled: `resume` returns it, and its `close` settles it.

        Raises:
            StateError: If it could not be written. Nothing was changed.
        """
        # Chunks that were never sent are not kept for the next run, which reads a newer source.
        drops = [
            ChunkTransition(n=chunk.n, state=ChunkState.DROPPED)
            for chunk in self.in_state(ChunkState.PLANNED)
        ]
        chunks = self._after(drops)
        with self._state.transaction():
            if drops:
                self._insert(drops)
            if self.open_chunks():
                end_run(self._state, self.run, ending)
            else:
                self._record_refused(ending.outcome)
                self._settle(ending)
        self._keep(drops, chunks)
        self._state.ledger.save(self.key)
        return show_run(self._state, self.run)

    def _settle(self, ending: RunEnding) -> None:
        """Apply the run's changes to the members, and delete its journal."""
        state, counts = self._state, self.counts()
        applied, refused = counts.get(ChunkState.APPLIED, 0), counts.get(ChunkState.REFUSED, 0)
        unknown = counts.get(ChunkState.UNKNOWN, 0)
        if self.chunks:
            self._apply(applied=applied, refused=refused, unknown=unknown)
        else:
            self._forget_intended(is_effective=True)
        if applied or unknown:
            state.bump_generation(self.key)
        elif not self.chunks and self.mode is not Mode.RESYNC:
            # Nothing to do means that the members are as recorded. A resync compares with no record.
            state.mark_known(self.key)
        end_run(state, self.run, ending, Settlement(key=self.key, applied=applied, refused=refused))
        # If all chunks are APPLIED, the digests of the members are known, too.
        if applied and self._digests and {chunk.state for chunk in self.chunks.values()} <= _ALL_APPLIED:
            store_digests(state, self.key, self._digests)
        prune_changes(state, self.key)

    def _apply(self, *, applied: int, refused: int, unknown: int) -> None:
        """Apply the run's changes to the members, and delete its actions."""
        state = self._state
        state.rows(RUN_CHANGES, run_changes=run_changes_table(self.run))
        # Before the actions become the members, or are dropped: the view reads them.
        uncertain = (ChunkState.REPLACED, ChunkState.FAILED)
        if self.in_state(*uncertain):
            record_uncertain(state, run=self.run, sent=self._view(*uncertain))
        self._forget_intended(is_effective=bool(applied or unknown))
        is_first = self._is_first_load(applied)
        self._note_changes(is_first=is_first)
        if is_first:
            load_first(state, key=self.key, run=self.run, rows=applied)
        elif applied:
            view = self._view(ChunkState.APPLIED)
            apply_changes(state, key=self.key, run=self.run, mode=self.mode, applied=view)
        if refused:
            forget_refused(state, key=self.key, refused=self._view(ChunkState.REFUSED))
        if unknown:
            sent = self._view(ChunkState.UNKNOWN)
            keep_intended(state, key=self.key, run=self.run, mode=self.mode, sent=sent)
            keep_unknown(state, key=self.key, run=self.run, mode=self.mode, sent=sent)
        state.rows("DROP TABLE IF EXISTS {actions}", actions=actions_table(self.run))
        state.rows("DELETE FROM chunks WHERE run = ?", [self.run])
        state.rows("DELETE FROM marks WHERE run = ?", [self.run])

    def _forget_intended(self, *, is_effective: bool) -> None:
        """Forget what earlier runs left unknown and this run has decided."""
        if has_intended(self._state, self.key):
            decided = self._view(ChunkState.APPLIED, ChunkState.REFUSED, ChunkState.UNKNOWN)
            forget_intended(self._state, key=self.key, decided=decided)
        if is_effective:
            forget_others(self._state, key=self.key, mode=self.mode)

    def _note_changes(self, *, is_first: bool) -> None:
        """Note which members change, or may have changed. A replace changes all of them."""
        touched = [state for state in ChunkState if state not in _UNSENT]
        if self.in_state(*touched):
            is_whole = is_first or self.mode is Mode.REPLACE
            self._state.ledger.note_changes(self.key, None if is_whole else lambda: self._view(*touched))

    def _record_refused(self, outcome: RunOutcome | None) -> None:
        """Record the IDs that Batch refused, if the run ended well. Otherwise they may not be the cause."""
        if self.mode in RESTATING_MODES:
            clear_refused(self._state, self.key)
        if outcome is RunOutcome.DONE and self.in_state(ChunkState.REFUSED):
            add_refused(self._state, self.key, self._view(ChunkState.REFUSED))

    def _is_first_load(self, applied: int) -> bool:
        """Return whether the audience was empty, and all planned actions are adds and APPLIED."""
        return self._is_load and applied == max(chunk.past for chunk in self.chunks.values())

    def _view(self, *states: ChunkState) -> str:
        return self._actions.view(self.in_state(*states))

    @classmethod
    def _load(cls, state: State, run: int) -> Self:
        """Read a run's chunks, and replay their transitions."""
        key, audience, mode, removes, size, is_load = state.row(
            """SELECT key, audience, mode, removes + strays, chunk_size,
                members_before = 0 AND adds > 0 AND removes + attribute_changes + resends + strays = 0
            FROM runs WHERE run = ?""",
            [run],
        )
        ranges = state.rows("SELECT n, first, past FROM chunks WHERE run = ?", [run])
        journal = cls(
            run=run,
            key=key,
            audience=audience,
            mode=Mode(mode),
            chunks={n: Chunk.planned(n, first, past, removes=removes) for n, first, past in ranges},
            state=state,
            actions=RunActions.open(state, run, size, is_empty=not ranges),
            removes=removes,
            is_load=is_load,
        )
        recorded = read_transitions(state, run)
        # Replayed with the same checks as when they were recorded.
        journal._keep(recorded, journal._after(recorded))
        return journal

    def _after(self, transitions: list[ChunkTransition]) -> dict[int, Chunk]:
        """Return the chunks that *transitions* change, as they will be."""
        chunks: dict[int, Chunk] = {}
        for transition in transitions:
            chunk = chunks.get(transition.n) or self.chunks[transition.n]
            chunks[transition.n] = chunk.after(transition)
        return chunks

    def _keep(self, transitions: list[ChunkTransition], chunks: dict[int, Chunk]) -> None:
        self._seq += len(transitions)
        self.calls += sum(one.state is ChunkState.SENDING for one in transitions)
        self.chunks.update(chunks)

    def _insert(self, transitions: list[ChunkTransition]) -> None:
        # Arrays make one statement of any number of transitions: that is what a statement costs.
        self._state.rows(
            """INSERT INTO marks SELECT ?, unnest(?::BIGINT[]), unnest(?::INTEGER[]), unnest(?::VARCHAR[]),
                unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), ?""",
            [
                self.run,
                list(range(self._seq, self._seq + len(transitions))),
                [one.n for one in transitions],
                [one.state.value for one in transitions],
                [None if one.token is None else str(one.token) for one in transitions],
                [one.reason for one in transitions],
                self._state.timestamp(),
            ],
        )


def read_transitions(state: State, run: int) -> list[ChunkTransition]:
    """Return all transitions of a run, in order."""
    rows = state.rows("SELECT n, state, token, reason FROM marks WHERE run = ? ORDER BY seq", [run])
    return [
        ChunkTransition(
            n=n,
            state=ChunkState(chunk_state),
            token=None if token is None else IndexingToken.parse(token),
            reason=reason,
        )
        for n, chunk_state, token, reason in rows
    ]


def _cut(plan: Plan, removes: int) -> list[Chunk]:
    """Return the chunks of a plan, whose first actions are the removals."""
    size = plan.chunk_size
    return [
        Chunk.planned(n, first, min(first + size, plan.changes), removes=removes)
        for n, first in enumerate(range(0, plan.changes, size))
    ]


def _insert_chunks(state: State, run: int, chunks: list[Chunk]) -> None:
    state.rows(
        "INSERT INTO chunks SELECT ?, unnest(?::INTEGER[]), unnest(?::BIGINT[]), unnest(?::BIGINT[])",
        [run, [one.n for one in chunks], [one.first for one in chunks], [one.past for one in chunks]],
    )
