"""The rows that travel between the tasks of a cluster, and the connection of a task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import duckdb

from .._sql import literal
from ..state.ledger._scratch import Scratch

# Where a row comes from: the source, the members, or a delta that removed it from the members.
SOURCE: Final = 0
MEMBER: Final = 1
NO_MEMBER: Final = 2
# The columns in the words of Spark's SQL. `number` orders rows of the same ID: the last one counts.
ROWS: Final = (
    "origin int, number int, id string, attributes string, tags array<string>, fingerprint bigint, "
    "note string"
)
# Clusters have no unsigned integers of 64 bits, so a fingerprint travels with another zero.
_ZERO: Final = 2**63
PACKED: Final = f"(fingerprint::HUGEINT - {_ZERO})::BIGINT"
UNPACKED: Final = f"(fingerprint::HUGEINT + {_ZERO})::UHUGEINT"


@contextmanager
def private_directory() -> Iterator[Path]:
    """Yield a private directory, and delete it at the end. The next task deletes that of a killed one."""
    scratch = Scratch.create("a task of a cluster")
    try:
        yield scratch.path
    finally:
        scratch.delete()


@contextmanager
def connected(directory: Path, memory_limit: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection of one thread, which spills into a directory.

    Args:
        directory: A private directory.
        memory_limit: DuckDB's memory limit.
    """
    with duckdb.connect(config={"threads": 1, "memory_limit": memory_limit}) as connection:
        connection.execute(f"SET temp_directory = {literal(str(directory))}")
        yield connection


def select(origin: str, number: int, table: str, *, has_details: bool) -> str:
    """Return the query for the rows of a table.

    Args:
        origin: SQL of where a row comes from.
        number: The number of the part.
        table: The table of `id, fingerprint`.
        has_details: Whether it has `attributes, tags`.
    """
    details = "attributes, tags" if has_details else "NULL::VARCHAR AS attributes, NULL::VARCHAR[] AS tags"
    return (
        f"SELECT {origin}::INTEGER AS origin, {number}::INTEGER AS number, id, {details}, "
        f"{PACKED} AS fingerprint, NULL::VARCHAR AS note FROM {table}"
    )


def select_note(number: int, text: str) -> str:
    """Return the query for a row that has a note and no ID.

    Args:
        number: The number of the part.
        text: The note.
    """
    return f"SELECT {SOURCE}, {number}, NULL, NULL, NULL, NULL, {literal(text)}"
