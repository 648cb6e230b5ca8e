"""The IDs of a run: its actions while it is open, and what it changed when it is settled.

Until a run is settled, the recorded members are the members table *and* the applied chunks of the open run.
To apply all chunks at once, instead of each when it is APPLIED, writes each row once and scans the members
once, however many chunks there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Self

import attrs

from .._options import Mode
from ._chunks import Chunk
from ._schema import (
    ACTIONS,
    MEMBERS,
    UNKNOWN,
    actions_table,
    format_sql,
    members_table,
    planned_table,
    run_changes_table,
)
from ._state import State
from .partitions._digests import clear_digests
from .partitions._keys import can_delete, each_partition

# Runs of an audience whose changes are retained for `rollback` and `resync`. All runs stay in the history.
KEEP_RUNS = 30
# Runs that found nothing to do. A job may start one every few minutes, between two that change something.
NO_OP_RUNS: Final = "(planned_calls = 0 AND applied = 0)"

# Numbers of actions are those of Action: 0 and 4 remove, 1 adds, 2 and 3 send again.
_COPY_REMOVES: Final = """
INSERT INTO {actions} SELECT row_number() OVER () - 1, action, id, fingerprint, NULL, NULL
FROM {planned} WHERE action IN (0, 4)
"""
_COPY_ADDS: Final = """
INSERT INTO {actions} SELECT ? + row_number() OVER () - 1, action, id, fingerprint, attributes, tags
FROM {planned} WHERE action NOT IN (0, 4)
"""
# row_number() runs in one thread. The rows of a first load have numbers, and all threads copy them.
_COPY_NUMBERED: Final = """
INSERT INTO {actions} SELECT position, action, id, fingerprint, attributes, tags FROM {planned}
"""
_HAS_NUMBERS: Final = "SELECT 1 FROM (DESCRIBE {planned}) WHERE column_name = 'position'"
_HAS_NO_GAPS: Final = "SELECT min(position) = 0 AND max(position) = count(*) - 1 FROM {planned}"

_IDS: Final = "SELECT id FROM {actions} WHERE seq >= ? AND seq < ?"
_DETAILS: Final = """
SELECT id, attributes, tags FROM {actions}
WHERE seq >= ? AND seq < ? AND (attributes IS NOT NULL OR tags IS NOT NULL)
"""
_RANGES: Final = """
CREATE OR REPLACE TEMP TABLE ranges AS
SELECT first, first // ? AS block, past
FROM (SELECT unnest(?::BIGINT[]) AS first, unnest(?::BIGINT[]) AS past)
"""
# A range lies within one block, so DuckDB can use a hash join on equal block numbers, with a small side.
_IN_RANGES: Final = """
CREATE OR REPLACE TEMP VIEW {view} AS
SELECT c.id, c.action, c.fingerprint, c.attributes, c.tags FROM {actions} c
JOIN ranges r ON c.seq // {size} = r.block AND c.seq >= r.first AND c.seq < r.past
"""

_RECORD_REMOVED: Final = """
INSERT INTO {run_changes} SELECT id, false, action <> 4 FROM {applied} WHERE action IN (0, 4)
"""
_RECORD_ADDED: Final = f"""
INSERT INTO {{run_changes}} SELECT id, true, true
FROM (SELECT id FROM {{applied}} WHERE action = 1 AND <within>)
ANTI JOIN (SELECT id FROM {{members}} WHERE fingerprint = {UNKNOWN}::UHUGEINT AND <within>) USING (id)
"""
_DELETE_REFUSED: Final = f"""
DELETE FROM {{members}} WHERE fingerprint = {UNKNOWN}::UHUGEINT AND id IN (SELECT id FROM {{refused}})
"""
_RECORD_REPLACED: Final = (
    "INSERT INTO {run_changes} SELECT id, false, true FROM {members} ANTI JOIN {applied} USING (id)"
)
# An ID to add is a member only if its fingerprint is UNKNOWN.
_CHANGED: Final = "SELECT id FROM {applied} WHERE action IN (0, 2<added>)"
# The removal of an ID that was no recorded member records none, whatever came of it.
_SENT: Final = "SELECT id FROM {sent} WHERE action <> 4"
_DELETE: Final = """
DELETE FROM {members} WHERE <within> AND id IN (SELECT id FROM (<ids>) WHERE <within>)
"""
# Fewer rows than one of DuckDB's row groups are copied by one statement, which costs less than several.
_ROW_GROUP: Final = 122_880
_CREATE_KEPT: Final = MEMBERS.replace("{members}", "{members}_kept")
_KEEP: Final = """
INSERT INTO {members}_kept SELECT id, <fingerprint> FROM (SELECT * FROM {members} WHERE <within>)
ANTI JOIN (SELECT id FROM (<ids>) WHERE <within>) USING (id)
"""
_DROP: Final = "DROP TABLE {members}"
_RENAME_KEPT: Final = "ALTER TABLE {members}_kept RENAME TO {members}"
_INSERT: Final = "INSERT INTO {members} SELECT id, fingerprint FROM {applied} WHERE action IN (1, 2)"
_RECORD_UNKNOWN: Final = f"""
INSERT INTO {{run_changes}} SELECT id, true, true FROM ({_SENT}) ANTI JOIN {{members}} USING (id)
UNION ALL SELECT id, false, false FROM {{sent}} WHERE action = 4
"""
_INSERT_UNKNOWN: Final = f"INSERT INTO {{members}} SELECT id, {UNKNOWN}::UHUGEINT FROM ({_SENT})"
_COUNT_UNKNOWN: Final = f"SELECT count(*) FROM {{members}} WHERE fingerprint = {UNKNOWN}::UHUGEINT"
_COUNT_ADDED_AGAIN: Final = f"""
SELECT count(*) FROM (SELECT id FROM {{planned}} WHERE action = 1 AND <within>)
SEMI JOIN (SELECT id FROM {{members}} WHERE fingerprint = {UNKNOWN}::UHUGEINT AND <within>) USING (id)
"""
_INSERT_ALL: Final = "INSERT INTO {members} SELECT id, fingerprint FROM {applied}"


@attrs.frozen(kw_only=True)
class Actions:
    """The content of one request.

    Attributes:
        add: IDs to add.
        remove: IDs to remove.
        attributes: ID to add -> its attributes as canonical JSON, if it has any.
        tags: ID to add -> its tags, if it has any.
    """

    add: list[str]
    remove: list[str]
    attributes: dict[str, str]
    tags: dict[str, list[str]]


@attrs.frozen(kw_only=True)
class RunActions:
    """The actions of an open run, in the order in which they are sent.

    Attributes:
        state: The open state.
        run: The run's number.
        chunk_size: Actions of a chunk at most.
        has_details: Whether any action has attributes or tags.
    """

    state: State
    run: int
    chunk_size: int
    has_details: bool

    @classmethod
    def open(cls, state: State, run: int, chunk_size: int, *, is_empty: bool) -> Self:
        """Return the actions of an open run. If there are none, they have no table."""
        has_details = False
        if not is_empty:
            count = "SELECT count(attributes) + count(tags) > 0 FROM {actions}"
            (has_details,) = state.row(count, actions=actions_table(run))
        return cls(state=state, run=run, chunk_size=chunk_size, has_details=has_details)

    def read(self, chunk: Chunk) -> Actions:
        """Return the content of a chunk's request."""
        middle = chunk.first + chunk.removes
        actions = actions_table(self.run)
        details = self.state.rows(_DETAILS, [middle, chunk.past], actions=actions) if self.has_details else []
        return Actions(
            add=self._ids(middle, chunk.past),
            remove=self._ids(chunk.first, middle) if chunk.removes else [],
            attributes={id_: attributes for id_, attributes, _ in details if attributes is not None},
            tags={id_: tags for id_, _, tags in details if tags is not None},
        )

    def view(self, chunks: Iterable[Chunk]) -> str:
        """Create a view of the actions of some chunks, and return its name.

        It has `id, action, fingerprint, attributes, tags`. The next call replaces it.
        """
        ranges = [(chunk.first, chunk.past) for chunk in chunks]
        bounds = [[first for first, _ in ranges], [past for _, past in ranges]]
        self.state.rows(_RANGES, [self.chunk_size, *bounds])
        size, actions = str(self.chunk_size), actions_table(self.run)
        self.state.rows(_IN_RANGES, view="within", actions=actions, size=size)
        return "within"

    def _ids(self, first: int, past: int) -> list[str]:
        rows = self.state.rows(_IDS, [first, past], actions=actions_table(self.run))
        return [id_ for (id_,) in rows]


def write_actions(state: State, *, key: str, run: int, removes: int, adds: int) -> None:
    """Write, within a transaction, the actions of a plan in the order in which they will be sent.

    Args:
        state: An open state, with the audience's view of planned actions.
        key: The audience's key.
        run: The run's number.
        removes: How many of the actions are removals.
        adds: How many are not.
    """
    actions, planned = actions_table(run), planned_table(key)
    state.rows(ACTIONS, actions=actions)
    is_large = adds > _ROW_GROUP and state.rows(_HAS_NUMBERS, planned=planned)
    if is_large and state.row(_HAS_NO_GAPS, planned=planned)[0]:
        state.rows(_COPY_NUMBERED, actions=actions, planned=planned)
        return
    if removes:
        state.rows(_COPY_REMOVES, actions=actions, planned=planned)
    if adds:
        state.rows(_COPY_ADDS, [removes], actions=actions, planned=planned)


def apply_changes(state: State, *, key: str, run: int, mode: Mode, applied: str) -> None:
    """Apply, within a transaction, a run's changes to the members, and retain how to undo them.

    Args:
        state: An open state.
        key: The audience's key.
        run: The run's number. Its table of changes exists.
        mode: The run's mode.
        applied: A table or view of `id, action, fingerprint`, not empty.
    """
    tables = {"members": members_table(key), "run_changes": run_changes_table(run), "applied": applied}
    if mode is Mode.REPLACE:
        # Everything that is not in the source was a member before, too.
        steps = [*_recording(state, key), _RECORD_REPLACED, _DROP, MEMBERS, _INSERT_ALL]
    elif state.audience_by_key(key).members == 0:
        steps = [_INSERT]  # a rollback to before this run needs no list of its IDs
    else:
        changed = _CHANGED.replace("<added>", ", 1" if count_unknown(state, key) else "")
        steps = [*_recording(state, key), *_deletion(state, key, changed, tables), _INSERT]
    for step in steps:
        state.rows(step, **tables)


def _recording(state: State, key: str) -> list[str]:
    """Return the statements that record what a run removed and added. An UNKNOWN member was one before."""
    parts = each_partition(state, count_unknown(state, key))
    return [_RECORD_REMOVED, *(_RECORD_ADDED.replace("<within>", within) for within in parts)]


def _deletion(
    state: State, key: str, ids: str, tables: Mapping[str, str], *, fingerprint: str | None = None
) -> list[str]:
    """Return the statements that delete IDs from the members, or copy all others if there are too many.

    Args:
        state: An open state.
        key: The audience's key.
        ids: The query for the IDs.
        tables: The names of its tables.
        fingerprint: The new fingerprint of all others. None keeps the old ones.
    """
    (count,) = state.row(f"SELECT count(*) FROM ({ids})", **tables)
    members = state.audience_by_key(key).members
    copies = fingerprint is not None or not can_delete(state, rows=members, deleted=count)
    template = (_KEEP if copies else _DELETE).replace("<ids>", ids)
    template = template.replace("<fingerprint>", fingerprint or "fingerprint")
    steps = [template.replace("<within>", within) for within in each_partition(state, count)]
    return [_CREATE_KEPT, *steps, _DROP, _RENAME_KEPT] if copies else steps


def keep_unknown(state: State, *, key: str, run: int, mode: Mode, sent: str) -> None:
    """Record, within a transaction, IDs that Batch may have added or removed, as members to send again.

    No source has their fingerprint. So the next mirror adds those that its source has, and removes the rest.

    Args:
        state: An open state.
        key: The audience's key.
        run: The run's number. Its table of changes exists.
        mode: The run's mode.
        sent: A table or view of `id, action`.
    """
    clear_digests(state, key)
    # A replace may have removed all other members. A copy of them takes less memory than an update.
    others = f"{UNKNOWN}::UHUGEINT" if mode is Mode.REPLACE else None
    tables = {"members": members_table(key), "run_changes": run_changes_table(run), "sent": sent}
    deletion = _deletion(state, key, _SENT, tables, fingerprint=others)
    for step in (_RECORD_UNKNOWN, *deletion, _INSERT_UNKNOWN):
        state.rows(step, **tables)


def forget_refused(state: State, *, key: str, refused: str) -> None:
    """Delete, within a transaction, IDs that Batch may have had, and that it refuses as malformed.

    Args:
        state: An open state.
        key: The audience's key.
        refused: A table or view of `id`.
    """
    state.rows(_DELETE_REFUSED, members=members_table(key), refused=refused)


def count_unknown(state: State, key: str) -> int:
    """Return the number of recorded members that Batch may not have."""
    (count,) = state.row(_COUNT_UNKNOWN, members=members_table(key))
    return int(count)


def count_added_again(state: State, key: str, planned: str) -> int:
    """Return how many IDs to add are recorded members already, which Batch may not have.

    Args:
        state: An open state.
        key: The audience's key.
        planned: A table or view of `id, action`.
    """
    tables, count = {"members": members_table(key), "planned": planned}, 0
    for within in each_partition(state, count_unknown(state, key)):
        (part,) = state.row(_COUNT_ADDED_AGAIN.replace("<within>", within), **tables)
        count += part
    return count


def load_first(state: State, *, key: str, run: int, rows: int) -> None:
    """Turn, within a transaction, the actions of a first load into the members. Many are not copied.

    Args:
        state: An open state.
        key: The audience's key. It has no members.
        run: The run's number. All its actions are adds and APPLIED.
        rows: Their number.
    """
    members, actions = members_table(key), actions_table(run)
    if rows <= _ROW_GROUP:
        state.rows(_INSERT_ALL, members=members, applied=actions)
        return
    state.rows("DROP TABLE {members}", members=members)
    state.rows("ALTER TABLE {actions} RENAME TO {members}", actions=actions, members=members)
    for column in ("seq", "action", "attributes", "tags"):
        state.rows("ALTER TABLE {members} DROP COLUMN {column}", members=members, column=column)


def record_uncertain(state: State, *, run: int, sent: str) -> None:
    """Record, within a transaction, IDs that Batch may have although their chunk is not APPLIED.

    A `resync` removes them.

    Args:
        state: An open state.
        run: The run's number. Its table of changes exists.
        sent: A table or view of `id, action`.
    """
    state.rows(
        "INSERT INTO {run_changes} SELECT id, true, false FROM {sent} WHERE action IN (1, 2, 3)",
        run_changes=run_changes_table(run),
        sent=sent,
    )


def runs_with_changes(state: State, key: str) -> list[int]:
    """Return the runs whose changes are retained, latest first. Runs without changes are left out."""
    query = f"SELECT run FROM runs WHERE key = ? AND kept AND NOT {NO_OP_RUNS} ORDER BY run DESC"
    return [run for (run,) in state.rows(query, [key])]


def prune_changes(state: State, key: str) -> None:
    """Delete, within a transaction, the changes of all but the latest runs that made any."""
    for run in runs_with_changes(state, key)[KEEP_RUNS:]:
        state.rows("DROP TABLE {run_changes}", run_changes=run_changes_table(run))
        state.rows("UPDATE runs SET kept = false WHERE run = ?", [run])


def changes_of(state: State, runs: list[int]) -> str:
    """Return a query for what *runs* changed: `run, id, added, sure`.

    Args:
        state: An open state.
        runs: Their numbers. The changes of all of them are retained.
    """
    state.ledger.fetch_changes(runs)
    nothing = "SELECT 0::BIGINT AS run, NULL::VARCHAR AS id, false AS added, false AS sure WHERE false"
    one = "SELECT {run}::BIGINT AS run, id, added, sure FROM {run_changes}"
    selects = (format_sql(one, run=str(run), run_changes=run_changes_table(run)) for run in runs)
    return " UNION ALL ".join([nothing, *selects])
