"""The fold: what a run applied becomes what we believe, in one transaction.

Until then the truth is the members table *and* the applied chunks of the open run. Folding once, instead of
moving rows with each chunk, writes each row once and scans the members once, however many chunks there are.
"""

from __future__ import annotations

from typing import Final

from .._options import Mode
from ._schema import changes_table, members_table, past_table
from ._state import State

# What the members' own change was, and the removes of ids that were none; the numbers are those of Action.
_PAST: Final = """
INSERT INTO {past} SELECT id, action = 1, action <> 4 FROM {applied} WHERE action IN (0, 1, 4)
"""
_PAST_DROPPED: Final = """
INSERT INTO {past} SELECT id, false, true FROM {members} ANTI JOIN {applied} USING (id)
"""
_DELETE: Final = "DELETE FROM {members} WHERE id IN (SELECT id FROM {applied} WHERE action IN (0, 2))"
_INSERT: Final = "INSERT INTO {members} SELECT id, fingerprint FROM {applied} WHERE action IN (1, 2)"
_DELETE_ALL: Final = "DELETE FROM {members}"
_INSERT_ALL: Final = "INSERT INTO {members} SELECT id, fingerprint FROM {applied}"


def apply_changes(state: State, *, key: str, run: int, mode: Mode, applied: str) -> None:
    """Move the members, within a transaction, by what was applied, and keep how to go back.

    Args:
        state: An open state.
        key: The audience's key.
        run: The run's number; its table of the past exists.
        mode: The run's mode.
        applied: A table or view of `id, action, fingerprint`, not empty.
    """
    for step in _steps(mode, was_empty=state.audience_by_key(key).members == 0):
        state.rows(step, members=members_table(key), past=past_table(run), applied=applied)


def _steps(mode: Mode, *, was_empty: bool) -> list[str]:
    """Return the statements of a fold."""
    if mode is Mode.REPLACE:
        return [_PAST, _PAST_DROPPED, _DELETE_ALL, _INSERT_ALL]
    # Before a run that started from nothing there was nothing: that needs no list of its ids.
    return [_INSERT] if was_empty else [_PAST, _DELETE, _INSERT]


def promote_first_load(state: State, *, key: str, run: int) -> None:
    """Make the actions of a first load, within a transaction, the members: nothing is written twice.

    Args:
        state: An open state.
        key: The audience's key; it has no members.
        run: The run's number; all its actions are adds and applied.
    """
    members, changes = members_table(key), changes_table(run)
    state.rows("DROP TABLE {members}", members=members)
    state.rows("ALTER TABLE {changes} RENAME TO {members}", changes=changes, members=members)
    for column in ("seq", "action", "attributes", "tags"):
        state.rows("ALTER TABLE {members} DROP COLUMN {column}", members=members, column=column)


def record_uncertain(state: State, *, run: int, sent: str) -> None:
    """Keep, within a transaction, ids that Batch may hold though their chunk is not APPLIED, for `resync`.

    Args:
        state: An open state.
        run: The run's number; its table of the past exists.
        sent: A table or view of `id, action`.
    """
    state.rows(
        "INSERT INTO {past} SELECT id, true, false FROM {sent} WHERE action IN (1, 2, 3)",
        past=past_table(run),
        sent=sent,
    )
