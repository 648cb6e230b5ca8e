"""Ids that Batch refused: for a week nobody asks again, as finding them anew costs each run a dozen calls.

A `resync`, `replace`, `adopt` or `forget` forgets them, and so does a change of an id's attributes.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

from ._schema import diff_table, refused_table
from ._state import State

# What Batch refused for a passing reason comes back by itself after this.
_KEPT: Final = dt.timedelta(days=7)

_MAKE: Final = """
CREATE TABLE IF NOT EXISTS {refused} (
    id VARCHAR NOT NULL, fingerprint UHUGEINT NOT NULL, noted TIMESTAMP NOT NULL
)
"""
_REMEMBER: Final = "INSERT INTO {refused} SELECT id, fingerprint, ? FROM {chunks} WHERE action IN (1, 2, 3)"
_SKIP: Final = """
DELETE FROM {diff} d USING {refused} r
WHERE d.action IN (1, 2) AND d.id = r.id AND d.fingerprint = r.fingerprint AND r.noted > ? AND r.noted <= ?
"""

_SKIPPED: Final = """
SELECT id FROM {refused} SEMI JOIN {staged} USING (id, fingerprint) WHERE noted > ? AND noted <= ? ORDER BY id
"""


def has_refused(state: State, key: str) -> bool:
    """Tell whether refused ids of an audience may be remembered.

    Args:
        state: An open state.
        key: The audience's key.
    """
    return bool(state.rows("SELECT 1 FROM duckdb_tables() WHERE table_name = ?", [refused_table(key)]))


def add_refused(state: State, key: str, chunks: str) -> None:
    """Note, within a transaction, ids that Batch refused in a run that came to its good end.

    Args:
        state: An open state.
        key: The audience's key.
        chunks: A table or view of `id, action, fingerprint`.
    """
    now, refused = state.timestamp(), refused_table(key)
    state.rows(_MAKE, refused=refused)
    state.rows("DELETE FROM {refused} WHERE noted NOT BETWEEN ? AND ?", [now - _KEPT, now], refused=refused)
    state.rows(_REMEMBER, [now], refused=refused, chunks=chunks)


def exclude_refused(state: State, key: str) -> int:
    """Take out of a diff what Batch refused of late, and return how many ids that are.

    Args:
        state: An open state, with the audience's table of differences.
        key: The audience's key.
    """
    (skipped,) = state.row(_SKIP, _week(state), diff=diff_table(key), refused=refused_table(key))
    return int(skipped)


def excluded_ids(state: State, key: str, staged: str) -> list[str]:
    """Return the ids of a source that Batch refused of late.

    Args:
        state: An open state.
        key: The audience's key.
        staged: The table of the source.
    """
    return [id_ for (id_,) in state.rows(_SKIPPED, _week(state), refused=refused_table(key), staged=staged)]


def clear_refused(state: State, key: str) -> None:
    """Forget, within a transaction, what Batch refused.

    Args:
        state: An open state.
        key: The audience's key.
    """
    state.rows("DROP TABLE IF EXISTS {refused}", refused=refused_table(key))


def _week(state: State) -> list[dt.datetime]:
    """Return when the last week began, and now: what was noted later was noted by a clock that was wrong."""
    now = state.timestamp()
    return [now - _KEPT, now]
