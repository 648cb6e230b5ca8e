"""The tables of the state file, and the version that they have together."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

# Raised by one with every change that another aiobatch cannot read past; a state of another version is
# refused with a way out.
VERSION: Final = 1

# What stands in every file of DuckDB, behind a checksum: https://duckdb.org/docs/stable/internals/storage
_MAGIC: Final = b"DUCK"
_BEHIND: Final = 8
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

# What people call each target, by its digest. It came later and is made when there is a name to keep: a file
# without it is as good, and an older aiobatch does not notice it, so that the version stays.
TARGETS: Final = "CREATE TABLE IF NOT EXISTS targets (scope VARCHAR NOT NULL, name VARCHAR NOT NULL)"
# What is last known to be applied; rewritten by a fold alone. The fingerprint is as wide as any source's.
MEMBERS: Final = "CREATE TABLE IF NOT EXISTS {members} (id VARCHAR NOT NULL, fingerprint UHUGEINT NOT NULL)"
# A run's actions; `seq` counts from 0, and a row group on disk holds one range of it: a chunk is read alone.
CHANGES: Final = """CREATE TABLE {changes} (
    seq BIGINT NOT NULL, action UTINYINT NOT NULL, id VARCHAR NOT NULL, fingerprint UHUGEINT NOT NULL,
    attributes VARCHAR, tags VARCHAR[]
)"""
# What a settled run did to the membership; not `sure` is what Batch may hold without being a member to us.
PAST: Final = "CREATE TABLE {past} (id VARCHAR NOT NULL, added BOOLEAN NOT NULL, sure BOOLEAN NOT NULL)"

# An audience, and the run of it that is not settled.
AUDIENCES: Final = """
SELECT key, scope, name, generation, known, contract,
    (SELECT max(run) FROM runs WHERE runs.key = audiences.key AND NOT settled)
FROM audiences
"""


def format_sql(template: str, **names: str) -> str:
    """Put table names into a statement; anything but a plain lower-case name is refused.

    Args:
        template: SQL with `{placeholders}`.
        **names: Placeholder -> table.
    """
    for name in names.values():
        if _IDENTIFIER.fullmatch(name) is None:
            msg = f"{name!r} cannot name a table"
            raise ValueError(msg)
    return template.format_map(names)


def digest(text: str) -> str:
    """Shorten a text that may be secret (a key, a target) to 16 hexadecimal digits, which lead nowhere."""
    return hashlib.blake2b(text.encode(), digest_size=8, person=b"aiobatch").hexdigest()


def members_table(key: str) -> str:
    """Name the table of an audience's members."""
    return f"members_{key}"


def count_members(key: str) -> str:
    """Return a query for an audience's key, and how many members it has."""
    return format_sql("SELECT '{key}', count(*) FROM {members}", key=key, members=members_table(key))


def changes_table(run: int) -> str:
    """Name the table of an open run's actions."""
    return f"changes_{run}"


def past_table(run: int) -> str:
    """Name the table of what a settled run did."""
    return f"past_{run}"


def refused_table(key: str) -> str:
    """Name the table of what Batch refused of an audience; it is there only once there was any."""
    return f"refused_{key}"


def planned_table(key: str) -> str:
    """Name the temporary view of what an audience's last plan would do."""
    return f"planned_{key}"


def diff_table(key: str) -> str:
    """Name the temporary table that such a view may stand on."""
    return f"diff_{key}"


def target_table(key: str) -> str:
    """Name the temporary table of an earlier membership, shaped as a source."""
    return f"target_{key}"


def may_be_database(path: Path) -> bool:
    """Tell whether DuckDB may open a file for its own: of a CSV it would show views, and keep nothing.

    Args:
        path: The file; what is no file is left to DuckDB.
    """
    if not path.is_file():
        return True
    with path.open("rb") as file:
        return file.read(_BEHIND + len(_MAGIC))[_BEHIND:] == _MAGIC
