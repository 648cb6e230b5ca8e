"""The tables of a state file, their version and their names."""

from __future__ import annotations

import re
from typing import Final

# Raise it with every change that another version of aiobatch cannot read. Names of tables and columns are
# part of the file format, so some differ from the names in the code.
VERSION: Final = 1

_TABLE_NAME: Final = re.compile(r"[a-z_0-9.]+")
# A statement that creates, drops or renames a table of the file.
_TABLE_CHANGE: Final = re.compile(
    r"(?:^|;)\s*(CREATE|DROP|ALTER) TABLE (?:IF (?:NOT )?EXISTS )?(\w+)(?: RENAME TO (\w+))?"
)

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

# Names of targets, snapshots of audiences, digests of members by hash partition (`run` is the one that made
# the members so), and the rows of a run's source. A file without these tables is valid, and an older aiobatch
# ignores them, so the version is the same. To open a file for writing adds those that it lacks.
ADDED_TABLES: Final = frozenset({"targets", "last_seen", "digests", "run_rows"})
ADDED: Final = """
CREATE TABLE IF NOT EXISTS targets (scope VARCHAR NOT NULL, name VARCHAR NOT NULL);
CREATE TABLE IF NOT EXISTS last_seen (key VARCHAR NOT NULL, made TIMESTAMP, changed TIMESTAMP);
CREATE TABLE IF NOT EXISTS digests (
    key VARCHAR NOT NULL, run BIGINT NOT NULL, partitions INTEGER NOT NULL, partition INTEGER NOT NULL,
    ids BIGINT NOT NULL, low HUGEINT NOT NULL, high HUGEINT NOT NULL
);
CREATE TABLE IF NOT EXISTS run_rows (
    run BIGINT NOT NULL, read BIGINT NOT NULL, kept BIGINT NOT NULL, duplicate BIGINT NOT NULL,
    rejected BIGINT NOT NULL, reasons VARCHAR NOT NULL, rejects VARCHAR
);
"""
# What is APPLIED. Only the end of a run changes it. A fingerprint is as wide as that of any source.
MEMBERS: Final = "CREATE TABLE IF NOT EXISTS {members} (id VARCHAR NOT NULL, fingerprint UHUGEINT NOT NULL)"
# The fingerprint of a member that Batch may not have. That of a source has 64 bits.
UNKNOWN: Final = str(2**128 - 1)
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
# What runs were to do with IDs of unknown outcome. As above: a file without the table is valid.
INTENDED: Final = """
CREATE TABLE IF NOT EXISTS {intended} (
    id VARCHAR NOT NULL, action UTINYINT NOT NULL, fingerprint UHUGEINT NOT NULL,
    attributes VARCHAR, tags VARCHAR[], run BIGINT NOT NULL
)
"""

# The audiences that have runs, each with its unsettled run.
AUDIENCES: Final = """
SELECT key, scope, name, generation, known, contract, open_run
FROM audiences JOIN (SELECT key, max(run) FILTER (NOT settled) AS open_run FROM runs GROUP BY key) USING (key)
ORDER BY name, scope
"""
# One audience, with its unsettled run and the number of its members.
AUDIENCE: Final = """
SELECT key, scope, name, generation, known, contract,
    (SELECT max(run) FROM runs WHERE key = ? AND NOT settled), (SELECT count(*) FROM {members})
FROM audiences WHERE key = ?
"""


# Names of the tables that exist once for each audience or run.
members_table: Final = "members_{}".format
actions_table: Final = "changes_{}".format  # of an open run
run_changes_table: Final = "past_{}".format  # of a settled run
refused_table: Final = "refused_{}".format
intended_table: Final = "intended_{}".format
# Temporary ones: the view of an audience's last plan, the table that it may read, and an earlier membership.
planned_table: Final = "planned_{}".format
diff_table: Final = "diff_{}".format
rollback_table: Final = "target_{}".format


def format_sql(template: str, **names: str) -> str:
    """Insert table names into a statement.

    Args:
        template: SQL with `{placeholders}`.
        **names: Placeholder -> table.

    Raises:
        ValueError: If a name is not plain lower case.
    """
    for name in names.values():
        if _TABLE_NAME.fullmatch(name) is None:
            msg = f"{name!r} cannot name a table"
            raise ValueError(msg)
    return template.format_map(names)


def note_table(tables: set[str], statement: str) -> None:
    """Note, in the tables of a file, which ones a statement has created, dropped or renamed.

    Args:
        tables: The names of the tables.
        statement: The SQL that has run.
    """
    for kind, table, new in _TABLE_CHANGE.findall(statement):
        if kind == "DROP" or new:
            tables.discard(table)
        if kind == "CREATE" or new:
            tables.add(new or table)
