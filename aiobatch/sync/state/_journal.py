"""The journal: every chunk's step is on disk before, or as soon as, it is taken.

Removes come first: who asked to leave is out even of a run that is cut short. Beyond that the order says
nothing, since no id is in two chunks.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
from typing import Final, Self

import attrs

from .._errors import JournalError
from .._options import RESTATING_MODES, Mode
from .._plan import Plan
from ._chunks import OPEN, Chunk, ChunkState, ChunkTransition, removes_within
from ._history import KEEP_RUNS, Run, RunEnding, RunOutcome, end_run, insert_run, prune, settle_run, show_run
from ._members import apply_changes, promote_first_load, record_uncertain
from ._refused_ids import add_refused, clear_refused
from ._schema import CHANGES, PAST, changes_table, past_table, planned_table
from ._state import AudienceRecord, State

_REMOVES: Final = """
INSERT INTO {changes} SELECT row_number() OVER () - 1, action, id, fingerprint, NULL, NULL
FROM {planned} WHERE action IN (0, 4)
"""
# A first load's rows bear numbers, and all threads copy them; to number rows takes one thread alone.
_HAS_NUMBERS: Final = "SELECT 1 FROM duckdb_columns() WHERE table_name = ? AND column_name = 'position'"
_IS_NUMBERED: Final = "SELECT min(position) = 0 AND max(position) = count(*) - 1 FROM {planned}"
_COPY: Final = """
INSERT INTO {changes} SELECT position, action, id, fingerprint, attributes, tags FROM {planned}
"""
_ADDS: Final = """
INSERT INTO {changes} SELECT ? + row_number() OVER () - 1, action, id, fingerprint, attributes, tags
FROM {planned} WHERE action NOT IN (0, 4)
"""
_IDS: Final = "SELECT id FROM {changes} WHERE seq >= ? AND seq < ?"
_PAYLOAD: Final = """
SELECT id, attributes, tags FROM {changes}
WHERE seq >= ? AND seq < ? AND (attributes IS NOT NULL OR tags IS NOT NULL)
"""
_RANGES: Final = """
CREATE OR REPLACE TEMP TABLE ranges AS
SELECT first, first // ? AS block, past
FROM (SELECT unnest(?::BIGINT[]) AS first, unnest(?::BIGINT[]) AS past)
"""
# A range lies within one block, so that the join is on equal numbers and small on one side.
_WITHIN: Final = """
CREATE OR REPLACE TEMP VIEW {view} AS
SELECT c.id, c.action, c.fingerprint FROM {changes} c
JOIN ranges r ON c.seq // {size} = r.block AND c.seq >= r.first AND c.seq < r.past
"""


@attrs.frozen(kw_only=True)
class Actions:
    """What one request says.

    Attributes:
        add: Ids to add.
        remove: Ids to remove.
        attributes: Id to add -> its attributes as canonical JSON, for those that have any.
        tags: Id to add -> its tags, for those that have any.
    """

    add: list[str]
    remove: list[str]
    attributes: dict[str, str]
    tags: dict[str, list[str]]


@attrs.define(eq=False)
class Journal:
    """The journal of one run, from `begin` or `resume` to `close`.

    Attributes:
        run: The run's number.
        key: The audience's key.
        audience: The audience's name.
        mode: The run's mode.
        chunks: Number -> chunk, as on disk.
    """

    run: int
    key: str
    audience: str
    mode: Mode
    chunks: dict[int, Chunk]
    _state: State
    _removes: int
    _chunk_size: int
    _payload: bool
    _seq: int = 0

    @classmethod
    def begin(cls, state: State, plan: Plan) -> Self:
        """Write down what will be sent, cut into chunks, before anything is.

        Args:
            state: An open state, in which `make_plan` made this plan last for its audience.
            plan: The plan.

        Raises:
            GuardError: The guard refuses the plan.
            OpenRunError: Another run of the audience is not settled.
            StalePlanError: The state has moved since the plan was made.
            StateError: It could not be written; nothing was changed.
        """
        plan.enforce()
        plan.refuse_moved(state.state_id, state.refuse_open_run(plan.key).generation)
        removes = plan.removes + plan.untracked_removals
        with state.transaction():
            run = insert_run(state, plan)
            _write_changes(state, run, plan.key, removes)
            _insert_chunks(state, run, _cut_up(plan))
        return cls._load(state, run)

    @classmethod
    def resume(cls, state: State, audience: AudienceRecord) -> Self | None:
        """Return the journal of the run that is not settled; None if all are.

        Chunks that are `planned` were never sent and are dropped at its `close`.

        Args:
            state: An open state.
            audience: The audience, as the state knows it.
        """
        run = state.audience_by_key(audience.key).open_run
        return None if run is None else cls._load(state, run)

    def in_state(self, *states: ChunkState) -> list[Chunk]:
        """Return the chunks in any of *states*, by number."""
        return [chunk for _, chunk in sorted(self.chunks.items()) if chunk.state in states]

    def open_chunks(self) -> list[Chunk]:
        """Return the chunks to settle first: SENDING is of unknown outcome, SENT has a token to wait for."""
        return self.in_state(*OPEN)

    def counts(self) -> dict[ChunkState, int]:
        """Return how many ids are in each state."""
        counts: collections.Counter[ChunkState] = collections.Counter()
        for chunk in self.chunks.values():
            counts[chunk.state] += chunk.size
        return dict(counts)

    def actions(self, n: int) -> Actions:
        """Return what a chunk's request says.

        Args:
            n: The chunk's number.
        """
        chunk = self.chunks[n]
        middle = chunk.first + chunk.removes
        payloads = self._payloads(middle, chunk.past)
        return Actions(
            add=self._ids(middle, chunk.past),
            remove=self._ids(chunk.first, middle) if chunk.removes else [],
            attributes={id_: attributes for id_, attributes, _ in payloads if attributes is not None},
            tags={id_: tags for id_, _, tags in payloads if tags is not None},
        )

    def record(self, transitions: Iterable[ChunkTransition]) -> None:
        """Write down steps, all of them at once and durably, or none.

        Args:
            transitions: The steps; one chunk may take several.

        Raises:
            JournalError: A chunk cannot take its step; nothing was changed.
            StateError: They could not be written; nothing was changed.
        """
        steps = list(transitions)
        moved = self._stepped(steps)
        with self._state.transaction():
            self._insert_marks(steps)
        self._keep(steps, moved)

    def split(self, n: int) -> tuple[int, int]:
        """Halve a chunk that Batch refuses, to find the id that it refuses.

        Args:
            n: The chunk's number; it is SENDING.

        Returns:
            The numbers of the halves, PLANNED.

        Raises:
            JournalError: It has one id, or is a replace, whose halves would replace each other.
            StateError: It could not be written; nothing was changed.
        """
        chunk = self.chunks[n]
        if chunk.size == 1 or self.mode is Mode.REPLACE:
            msg = f"chunk {n} cannot be split"
            raise JournalError(msg)
        steps = [ChunkTransition(n=n, state=ChunkState.SPLIT)]
        moved = self._stepped(steps)
        halves = self._halves(chunk)
        with self._state.transaction():
            self._insert_marks(steps)
            _insert_chunks(self._state, self.run, halves)
        self._keep(steps, moved | {half.n: half for half in halves})
        return halves[0].n, halves[1].n

    def close(self, ending: RunEnding, *, keep_runs: int = KEEP_RUNS) -> Run:
        """End the run: drop what was not sent, and let what is applied become the truth.

        With open chunks the run stays unsettled: `resume` finds it, and its `close` settles it.

        Args:
            ending: How it ended.
            keep_runs: Runs of the audience whose single changes are kept.

        Raises:
            StateError: It could not be written; nothing was changed.
        """
        drops = [
            ChunkTransition(n=chunk.n, state=ChunkState.DROPPED)
            for chunk in self.in_state(ChunkState.PLANNED)
        ]
        moved = self._stepped(drops)
        with self._state.transaction():
            self._insert_marks(drops)
            end_run(self._state, self.run, ending)
            if not self.open_chunks():
                self._note_refused()
                self._settle(keep_runs)
        self._keep(drops, moved)
        return show_run(self._state, self.run)

    def _settle(self, keep_runs: int) -> None:
        """Fold, and clear the journal away."""
        state, counts = self._state, self.counts()
        applied, refused = counts.get(ChunkState.APPLIED, 0), counts.get(ChunkState.REFUSED, 0)
        state.rows(PAST, past=past_table(self.run))
        record_uncertain(state, run=self.run, sent=self._view(ChunkState.REPLACED, ChunkState.FAILED))
        if self._is_first_load(applied):
            promote_first_load(state, key=self.key, run=self.run)
        elif applied:
            apply_changes(
                state, key=self.key, run=self.run, mode=self.mode, applied=self._view(ChunkState.APPLIED)
            )
        state.rows("DROP TABLE IF EXISTS {changes}", changes=changes_table(self.run))
        if applied:
            state.bump_generation(self.key)
        elif not self.chunks and self.mode is not Mode.RESYNC:  # which passes over members that nobody knows
            state.mark_known(self.key)
        settle_run(state, self.run, key=self.key, applied=applied, refused=refused)
        prune(state, self.key, keep=keep_runs)
        state.rows("DELETE FROM chunks WHERE run = ?", [self.run])
        state.rows("DELETE FROM marks WHERE run = ?", [self.run])

    def _note_refused(self) -> None:
        """Remember what Batch refused: of a run that ended well, else the fault may be in no id."""
        if self.mode in RESTATING_MODES:
            clear_refused(self._state, self.key)
        if show_run(self._state, self.run).outcome is RunOutcome.DONE and self.in_state(ChunkState.REFUSED):
            add_refused(self._state, self.key, self._view(ChunkState.REFUSED))

    def _is_first_load(self, applied: int) -> bool:
        """Tell whether all that was planned are adds to nothing, and all of it is applied."""
        adds, members, planned = self._state.row(
            """SELECT adds, members_before, adds + removes + attribute_changes + resends + strays
            FROM runs WHERE run = ?""",
            [self.run],
        )
        return bool(members == 0 < adds == planned == applied)

    @classmethod
    def _load(cls, state: State, run: int) -> Self:
        """Read a run's chunks and take their steps again."""
        key, audience, mode, removes, size = state.row(
            "SELECT key, audience, mode, removes + strays, chunk_size FROM runs WHERE run = ?", [run]
        )
        ranges = state.rows("SELECT n, first, past FROM chunks WHERE run = ?", [run])
        (payload,) = state.row(
            "SELECT count(attributes) + count(tags) > 0 FROM {changes}", changes=changes_table(run)
        )
        journal = cls(
            run=run,
            key=key,
            audience=audience,
            mode=Mode(mode),
            chunks={n: _chunk(n, first, past, removes) for n, first, past in ranges},
            state=state,
            removes=removes,
            chunk_size=size,
            payload=payload,
        )
        rows = state.rows("SELECT n, state, token, reason FROM marks WHERE run = ? ORDER BY seq", [run])
        marks = [
            ChunkTransition(n=n, state=ChunkState(at), token=token, reason=why) for n, at, token, why in rows
        ]
        journal._keep(marks, journal._stepped(marks))
        return journal

    def _stepped(self, marks: list[ChunkTransition]) -> dict[int, Chunk]:
        """Return the chunks that *marks* move, as they will be."""
        moved: dict[int, Chunk] = {}
        for mark in marks:
            moved[mark.n] = (moved.get(mark.n) or self.chunks[mark.n]).step(mark)
        return moved

    def _keep(self, marks: list[ChunkTransition], moved: dict[int, Chunk]) -> None:
        """Take over what is on disk now."""
        self._seq += len(marks)
        self.chunks.update(moved)

    def _insert_marks(self, marks: list[ChunkTransition]) -> None:
        self._state.rows(
            """INSERT INTO marks SELECT ?, unnest(?::BIGINT[]), unnest(?::INTEGER[]), unnest(?::VARCHAR[]),
                unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), ?""",
            [
                self.run,
                list(range(self._seq, self._seq + len(marks))),
                [mark.n for mark in marks],
                [mark.state.value for mark in marks],
                [mark.token for mark in marks],
                [mark.reason for mark in marks],
                self._state.timestamp(),
            ],
        )

    def _halves(self, chunk: Chunk) -> list[Chunk]:
        """Return the two halves of a chunk, under new numbers."""
        middle, n = (chunk.first + chunk.past) // 2, max(self.chunks) + 1
        return [
            _chunk(n, chunk.first, middle, self._removes),
            _chunk(n + 1, middle, chunk.past, self._removes),
        ]

    def _ids(self, first: int, past: int) -> list[str]:
        """Read a range's ids."""
        rows = self._state.rows(_IDS, [first, past], changes=changes_table(self.run))
        return [id_ for (id_,) in rows]

    def _payloads(self, first: int, past: int) -> list[tuple[str, str | None, list[str] | None]]:
        """Read a range's ids, attributes and tags, of those that have any."""
        if not self._payload:
            return []
        rows = self._state.rows(_PAYLOAD, [first, past], changes=changes_table(self.run))
        return [(id_, attributes, tags) for id_, attributes, tags in rows]

    def _view(self, *states: ChunkState) -> str:
        """Make a view of the actions of the chunks in any of *states*, and return its name."""
        chunks = self.in_state(*states)
        ranges = [[chunk.first for chunk in chunks], [chunk.past for chunk in chunks]]
        self._state.rows(_RANGES, [self._chunk_size, *ranges])
        size, changes = str(self._chunk_size), changes_table(self.run)
        self._state.rows(_WITHIN, view="within", changes=changes, size=size)
        return "within"


def _chunk(n: int, first: int, past: int, removes: int) -> Chunk:
    return Chunk(n=n, first=first, past=past, removes=removes_within(first, past, removes))


def _cut_up(plan: Plan) -> list[Chunk]:
    """Cut a plan's changes into its calls."""
    size = plan.chunk_size
    bounds = [(first, min(first + size, plan.changes)) for first in range(0, plan.changes, size)]
    return [_chunk(n, *bound, plan.removes + plan.untracked_removals) for n, bound in enumerate(bounds)]


def _insert_chunks(state: State, run: int, chunks: list[Chunk]) -> None:
    columns = [
        [chunk.n for chunk in chunks],
        [chunk.first for chunk in chunks],
        [chunk.past for chunk in chunks],
    ]
    state.rows(
        "INSERT INTO chunks SELECT ?, unnest(?::INTEGER[]), unnest(?::BIGINT[]), unnest(?::BIGINT[])",
        [run, *columns],
    )


def _write_changes(state: State, run: int, key: str, removes: int) -> None:
    """Copy the planned actions, in the order in which they will be read."""
    changes, planned = changes_table(run), planned_table(key)
    state.rows(CHANGES, changes=changes)
    if _is_numbered(state, planned):
        state.rows(_COPY, changes=changes, planned=planned)
        return
    state.rows(_REMOVES, changes=changes, planned=planned)
    state.rows(_ADDS, [removes], changes=changes, planned=planned)


def _is_numbered(state: State, planned: str) -> bool:
    """Tell whether the planned actions are all adds, numbered from 0 without a gap."""
    return bool(state.rows(_HAS_NUMBERS, [planned]) and state.row(_IS_NUMBERED, planned=planned)[0])
