"""The tables of a state file, and their version."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

# Raise it with every change that another version of aiobatch cannot read. Names of tables and columns are
# part of the file format, so some differ from the names in the code.
VERSION: Final = 1

# Every DuckDB file has this after a checksum: https://duckdb.org/docs/stable/internals/storage
_MAGIC: Final = b"DUCK"
_MAGIC_OFFSET: Final = 8
_IDENTIFIER = re.compile(r"[a-z_0-9.]+")

TABLES: Final = """
CREATE TABLE aiobatch_state (version INTEGER NOT NULL, state_id VARCHAR NOT NULL);
CREATE SEQUENCE run_numbers;
CREATE TABLE audiences (
    key VARCHAR NOT NULL, scope VARCHAR NOT NULL, name VARCHAR NOT NULL,
    generation BIGINT NOT NULL, known BOOLEAN NOT NULL, contract VARCHAR
);
CREATE TABLE runs (
    run BIGINT NOT NULL, key VARCHAR NOT NULL, audience VARCHAR NOT NULL, who VARCHAR NOT NULL,
    source VARCHAR NOT NULL, mode VARCHAR NOT NULL, started TIMESTAMP NOT NULL, ended TIMESTAMP,
    staged BIGINT NOT NULL, adds BIGINT NOT NULL, removes BIGINT NOT NULL, attribute_changes BIGINT NOT NULL,
    resends BIGINT NOT NULL, strays BIGINT NOT NULL, members_before BIGINT NOT NULL, members_after BIGINT,
    planned_calls BIGINT NOT NULL, chunk_size INTEGER NOT NULL,
    calls BIGINT, retries BIGINT, applied BIGINT, refused BIGINT,
    outcome VARCHAR, error VARCHAR, settled BOOLEAN NOT NULL, kept BOOLEAN NOT NULL
);
CREATE TABLE chunks (run BIGINT NOT NULL, n INTEGER NOT NULL, first BIGINT NOT NULL, past BIGINT NOT NULL);
CREATE TABLE marks (
    run BIGINT NOT NULL, seq BIGINT NOT NULL, n INTEGER NOT NULL, state VARCHAR NOT NULL,
    token VARCHAR, reason VARCHAR, marked TIMESTAMP NOT NULL
);
"""

# Target names and snapshots of audiences. A file without these tables is valid, and an older aiobatch ignores
# them, so they are created when needed and the version is the same.
TARGETS: Final = "CREATE TABLE IF NOT EXISTS targets (scope VARCHAR NOT NULL, name VARCHAR NOT NULL)"
SNAPSHOTS: Final = (
    "CREATE TABLE IF NOT EXISTS last_seen (key VARCHAR NOT NULL, made TIMESTAMP, changed TIMESTAMP)"
)
# What is APPLIED. Only the end of a run changes it. A fingerprint is as wide as that of any source.
MEMBERS: Final = "CREATE TABLE IF NOT EXISTS {members} (id VARCHAR NOT NULL, fingerprint UHUGEINT NOT NULL)"
# The actions of an open run. `seq` counts from 0, and each row group on disk contains one range of it, so a
# chunk is read without scanning the others.
ACTIONS: Final = """CREATE TABLE {actions} (
    seq BIGINT NOT NULL, action UTINYINT NOT NULL, id VARCHAR NOT NULL, fingerprint UHUGEINT NOT NULL,
    attributes VARCHAR, tags VARCHAR[]
)"""
# What a settled run changed. Rows that are not `sure` are IDs that Batch may have although no member.
RUN_CHANGES: Final = (
    "CREATE TABLE {run_changes} (id VARCHAR NOT NULL, added BOOLEAN NOT NULL, sure BOOLEAN NOT NULL)"
)
REFUSED: Final = """
CREATE TABLE IF NOT EXISTS {refused} (
    id VARCHAR NOT NULL, fingerprint UHUGEINT NOT NULL, noted TIMESTAMP NOT NULL
)
"""

# Audiences, each with its unsettled run.
AUDIENCES: Final = """
SELECT key, scope, name, generation, known, contract,
    (SELECT max(run) FROM runs WHERE runs.key = audiences.key AND NOT settled)
FROM audiences
"""


def format_sql(template: str, **names: str) -> str:
    """Insert table names into a statement.

    Args:
        template: SQL with `{placeholders}`.
        **names: Placeholder -> table.

    Raises:
        ValueError: If a name is not plain lower case.
    """
    for name in names.values():
        if _IDENTIFIER.fullmatch(name) is None:
            msg = f"{name!r} cannot name a table"
            raise ValueError(msg)
    return template.format_map(names)


def digest(text: str) -> str:
    """Return 16 hexadecimal digits that identify a secret text, such as a key, and do not reveal it."""
    return hashlib.blake2b(text.encode(), digest_size=8, person=b"aiobatch").hexdigest()


def members_table(key: str) -> str:
    """Return the name of the table of an audience's members."""
    return f"members_{key}"


def count_members(key: str) -> str:
    """Return a query for an audience's key and its number of members."""
    return format_sql("SELECT '{key}', count(*) FROM {members}", key=key, members=members_table(key))


def actions_table(run: int) -> str:
    """Return the name of the table of an open run's actions."""
    return f"changes_{run}"


def run_changes_table(run: int) -> str:
    """Return the name of the table of what a settled run changed."""
    return f"past_{run}"


def refused_table(key: str) -> str:
    """Return the name of the table of an audience's refused IDs. It may not exist."""
    return f"refused_{key}"


def planned_table(key: str) -> str:
    """Return the name of the temporary view of an audience's last plan."""
    return f"planned_{key}"


def diff_table(key: str) -> str:
    """Return the name of the temporary table that such a view may read."""
    return f"diff_{key}"


def rollback_table(key: str) -> str:
    """Return the name of the temporary table of an earlier membership, which has a source's columns."""
    return f"target_{key}"


def may_be_database(path: Path) -> bool:
    """Return whether DuckDB may open a file. It would show a CSV as views, and store nothing.

    Args:
        path: The file. True if it does not exist.
    """
    if not path.is_file():
        return True
    with path.open("rb") as file:
        return file.read(_MAGIC_OFFSET + len(_MAGIC))[_MAGIC_OFFSET:] == _MAGIC
