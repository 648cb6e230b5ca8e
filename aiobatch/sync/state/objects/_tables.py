"""Rows of the small tables of a state, as the JSON of a head."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..._options import RESTATING_MODES
from .._history import RunOutcome
from .._run_changes import NO_OP_RUNS
from .._state import State
from ._head import from_plain, to_plain

# Runs in a head, besides those that the engine looks for.
LATEST: Final = 50
_TIMES: Final = ("started", "ended")
_RESTATING: Final = ", ".join(f"'{mode}'" for mode in sorted(RESTATING_MODES))
_DECISIVE: Final = (
    "applied > 0",
    f"outcome = '{RunOutcome.REPLACED}'",
    f"outcome = '{RunOutcome.DONE}' AND mode <> 'adopt'",
    f"outcome IN ('{RunOutcome.DONE}', '{RunOutcome.DRIFT}') AND mode IN ({_RESTATING})",
)
_HISTORY: Final = f"""
WITH mine AS (SELECT * FROM runs WHERE key = ?)
SELECT {{{{columns}}}} FROM mine WHERE (kept AND NOT {NO_OP_RUNS}) OR run IN (
    (SELECT run FROM mine ORDER BY run DESC LIMIT {LATEST})
    UNION ALL {" UNION ALL ".join(f"(SELECT max(run) FROM mine WHERE {one})" for one in _DECISIVE)}
) ORDER BY run DESC
""".replace("{{", "{").replace("}}", "}")
_ALL: Final = "SELECT {columns} FROM runs WHERE key = ? ORDER BY run DESC"
_COLUMNS: Final = "SELECT column_name FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index"


def history_of(state: State, key: str, *, all_runs: bool = False) -> tuple[Mapping[str, Any], ...]:
    """Return the rows of the runs that a head keeps, or of all runs, newest first."""
    return _rows(state, "runs", _ALL if all_runs else _HISTORY, [key])


def source_rows_of(state: State, history: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """Return the rows of the sources of runs."""
    runs = [row["run"] for row in history]
    return _rows(state, "run_rows", "SELECT {columns} FROM run_rows WHERE run IN (SELECT unnest(?))", [runs])


def insert_history(
    state: State, history: Sequence[Mapping[str, Any]], source_rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert, within a transaction, the rows that `history_of` and `source_rows_of` returned."""
    for row in history:
        _insert(state, "runs", from_plain(row, _TIMES))
    for row in source_rows:
        _insert(state, "run_rows", row)


def last_seen_of(state: State, key: str) -> tuple[str | None, ...]:
    """Return when Batch created and last changed an audience. Empty if that is not recorded."""
    rows = state.rows("SELECT made, changed FROM last_seen WHERE key = ?", [key])
    return tuple(None if one is None else one.isoformat() for one in rows[0]) if rows else ()


def insert_last_seen(state: State, key: str, times: Sequence[str | None]) -> None:
    """Insert, within a transaction, what `last_seen_of` returned."""
    if times:
        moments = [None if one is None else dt.datetime.fromisoformat(one) for one in times]
        state.rows("INSERT INTO last_seen VALUES (?, ?, ?)", [key, *moments])


def digests_of(state: State, key: str) -> tuple[tuple[int | str, ...], ...]:
    """Return the digests of an audience's members. JSON has no integers of 128 bits, so some are texts."""
    columns = "run, partitions, partition, ids, low::VARCHAR, high::VARCHAR"
    return tuple(state.rows(f"SELECT {columns} FROM digests WHERE key = ? ORDER BY partition", [key]))


def insert_digests(state: State, key: str, digests: Sequence[Sequence[int | str]]) -> None:
    """Insert, within a transaction, what `digests_of` returned."""
    for row in digests:
        insert = "INSERT INTO digests VALUES (?, ?, ?, ?, ?, ?::HUGEINT, ?::HUGEINT)"
        state.rows(insert, [key, *row])


def _rows(state: State, table: str, query: str, parameters: Sequence[Any]) -> tuple[Mapping[str, Any], ...]:
    columns = [name for (name,) in state.rows(_COLUMNS, [table])]
    rows = state.rows(query.replace("{columns}", ", ".join(columns)), parameters)
    return tuple(to_plain(dict(zip(columns, row, strict=True))) for row in rows)


def _insert(state: State, table: str, row: Mapping[str, Any]) -> None:
    places = ", ".join("?" * len(row))
    state.rows(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", list(row.values()))
