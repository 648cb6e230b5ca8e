"""IDs that Batch refused: runs do not send them again for a week, since finding them costs a dozen calls.

A `resync`, `replace`, `adopt` or `forget` clears them. An ID whose attributes change is sent again at once.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

from ._schema import REFUSED, diff_table, refused_table
from ._state import State

# After this, runs send an ID again: Batch may have refused it for a passing reason.
_EXPIRY: Final = dt.timedelta(days=7)

_ADD: Final = "INSERT INTO {refused} SELECT id, fingerprint, ? FROM {chunks} WHERE action IN (1, 2, 3)"
_EXCLUDE: Final = """
DELETE FROM {diff} d USING {refused} r
WHERE d.action IN (1, 2) AND d.id = r.id AND d.fingerprint = r.fingerprint AND r.noted > ? AND r.noted <= ?
"""
_EXCLUDED: Final = """
SELECT id FROM {refused} SEMI JOIN {staged} USING (id, fingerprint) WHERE noted > ? AND noted <= ? ORDER BY id
"""


def add_refused(state: State, key: str, chunks: str) -> None:
    """Record, within a transaction, IDs that Batch refused in a run that ended well.

    Args:
        state: An open state.
        key: The audience's key.
        chunks: A table or view of `id, action, fingerprint`.
    """
    refused, last_week = refused_table(key), _last_week(state)
    state.rows(REFUSED, refused=refused)
    state.rows("DELETE FROM {refused} WHERE noted NOT BETWEEN ? AND ?", last_week, refused=refused)
    state.rows(_ADD, last_week[1:], refused=refused, chunks=chunks)


def exclude_refused(state: State, key: str) -> int:
    """Remove from a diff the IDs that Batch refused in the last week. Return how many."""
    (excluded,) = state.row(_EXCLUDE, _last_week(state), diff=diff_table(key), refused=refused_table(key))
    return int(excluded)


def excluded_ids(state: State, key: str, staged: str) -> list[str]:
    """Return the IDs of a source that Batch refused in the last week."""
    rows = state.rows(_EXCLUDED, _last_week(state), refused=refused_table(key), staged=staged)
    return [id_ for (id_,) in rows]


def clear_refused(state: State, key: str) -> None:
    """Forget, within a transaction, which IDs Batch refused."""
    state.rows("DROP TABLE IF EXISTS {refused}", refused=refused_table(key))


def _last_week(state: State) -> list[dt.datetime]:
    """Return the start of the last week, and now: a later time was recorded by a wrong clock."""
    now = state.timestamp()
    return [now - _EXPIRY, now]
