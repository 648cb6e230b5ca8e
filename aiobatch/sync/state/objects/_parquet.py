"""Parquet files of IDs, written and read by DuckDB. Any tool can read them.

Parquet has no integers of 128 bits, so a fingerprint has the 64 of every source. That of a member that Batch
may not have is null.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..._sql import literal
from .._chunks import Chunk
from .._schema import UNKNOWN, actions_table, format_sql
from .._state import State

# Row groups in one file of changes: DuckDB plans one part of a query for each.
_GROUPS: Final = 100
# Level 1 is the fastest, and IDs get no smaller at a higher one.
_FORMAT: Final = "(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1{options})"
_NARROW: Final = f"CASE WHEN fingerprint <> {UNKNOWN}::UHUGEINT THEN fingerprint::UBIGINT END AS fingerprint"
_WIDE: Final = f"coalesce(fingerprint::UHUGEINT, {UNKNOWN}::UHUGEINT)"

MEMBERS: Final = f"SELECT id, {_NARROW} FROM {{members}}"
# What became of the IDs that a run has touched: 1 is a member, and 0 is none. The last columns undo it.
DELTA: Final = f"""
SELECT t.id, (m.id IS NOT NULL)::UTINYINT AS op, {_NARROW}, u.added, u.sure
FROM {{touched}} t LEFT JOIN {{members}} m ON t.id = m.id LEFT JOIN {{run_changes}} u ON t.id = u.id
"""
UNDO: Final = "SELECT id, added, sure FROM {run_changes}"
DIFF: Final = f"SELECT id, action, {_NARROW}, attributes, tags FROM temp.{{diff}}"
REFUSED: Final = f"SELECT id, {_NARROW}, noted FROM {{refused}}"
INTENDED: Final = f"SELECT id, action, {_NARROW}, attributes, tags, run FROM {{intended}}"
_CHUNK: Final = f"""
SELECT seq, action, id, {_NARROW}, attributes, tags
FROM {{actions}} WHERE seq >= {{first}} AND seq < {{past}} ORDER BY seq
"""

READ_MEMBERS: Final = f"INSERT INTO {{members}} SELECT id, {_WIDE} FROM read_parquet(<file>)"
READ_UNDO: Final = """
INSERT INTO {run_changes} SELECT id, added, sure FROM read_parquet(<file>) WHERE added IS NOT NULL
"""
READ_REFUSED: Final = f"INSERT INTO {{refused}} SELECT id, {_WIDE}, noted FROM read_parquet(<file>)"
READ_INTENDED: Final = f"""
INSERT INTO {{intended}} SELECT id, action, {_WIDE}, attributes, tags, run FROM read_parquet(<file>)
"""
READ_CHANGES: Final = f"""
INSERT INTO {{actions}} SELECT seq, action, id, {_WIDE}, attributes, tags FROM read_parquet(<file>)
"""
READ_DIFF: Final = f"""
INSERT INTO {{actions}} SELECT id, action, {_WIDE}, attributes, tags FROM read_parquet(<file>)
"""
READ_DELTA: Final = f"""
INSERT INTO {{deltas}} SELECT <number>, id, op, {_WIDE} FROM read_parquet(<file>)
"""


def write(state: State, query: str, file: Path, *, options: str = "", **tables: str) -> int:
    """Write the rows of a query to a Parquet file, and return their number.

    Args:
        state: The open state.
        query: The query.
        file: The file.
        options: Further options of COPY.
        **tables: Placeholder -> table.

    Raises:
        StateError: If it could not be written.
    """
    copy = f"COPY ({format_sql(query, **tables)}) TO {literal(str(file))} {_FORMAT.format(options=options)}"
    ((rows,),) = state.rows(copy.replace("{", "{{").replace("}", "}}"))
    return int(rows)


def read(state: State, statement: str, file: Path, *, number: int = 0, **tables: str) -> None:
    """Insert the rows of a Parquet file.

    Args:
        state: The open state.
        statement: One of this module's.
        file: The file.
        number: The place of a delta among the others.
        **tables: Placeholder -> table.

    Raises:
        StateError: If it could not be read.
    """
    name = literal(str(file)).replace("{", "{{").replace("}", "}}")
    state.rows(statement.replace("<file>", name).replace("<number>", str(number)), **tables)


def write_changes(state: State, run: int, chunks: list[Chunk], size: int, file: Path) -> int:
    """Write the actions of some chunks. A row group is a chunk.

    Args:
        state: The open state.
        run: The run's number.
        chunks: The chunks.
        size: Actions of a chunk at most.
        file: The file.

    Raises:
        StateError: If it could not be written.
    """
    parts = [
        format_sql(_CHUNK, actions=actions_table(run), first=str(one.first), past=str(one.past))
        for one in chunks
    ]
    # DuckDB ends a row group when it has enough rows, and each part of the query starts a new vector.
    query = " UNION ALL ".join(f"({part})" for part in parts)
    return write(state, query, file, options=f", ROW_GROUP_SIZE {size}")


def portions(chunks: list[Chunk]) -> list[list[Chunk]]:
    """Return chunks in portions, each for one file."""
    return [chunks[start : start + _GROUPS] for start in range(0, len(chunks), _GROUPS)]
