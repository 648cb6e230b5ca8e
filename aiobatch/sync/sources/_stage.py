"""Reads a source to its end into a table of ids that keep the contract, and accounts for every row.

All rows come into one table first, in their order: what is wrong with a source shows before anything else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs
import duckdb

from .._errors import SourceError, StagingError
from .._sql import literal
from ._databases import read_database
from ._files import read_files, read_standard_input
from ._id_rules import IdRules, Reason
from ._in_memory import read_arrow, read_iterable
from ._interruptible import InterruptibleQuery
from ._relation import ReadContext, Relation, Relations, checked_rows, explained
from ._source import ArrowSource, Database, Files, IterableSource, Source, StandardInput

# The order of rows is their number; a bar that is never printed makes DuckDB tell how far it is.
_SETTINGS = {
    "preserve_insertion_order": True,
    "enable_progress_bar": True,
    "enable_progress_bar_print": False,
}
_FULL = ("No space left on device", "max_temp_directory_size", "exceeds the maximum allowed")
_ANY_ID = "SELECT exists(SELECT 1 FROM temp.aiobatch_rows WHERE id IS NOT NULL)"
_REASONS = f"ENUM({', '.join(map(literal, Reason))})"

READERS: dict[type, Callable[[ReadContext, Any], Relations]] = {
    Files: read_files,
    StandardInput: read_standard_input,
    Database: read_database,
    IterableSource: read_iterable,
    ArrowSource: read_arrow,
}


@attrs.frozen(kw_only=True)
class StagedSource:
    """A source that was read into a table.

    Attributes:
        table: The table of its IDs.
        label: The name of the source, without secrets.
        counts: The counts of its rows.
    """

    table: str
    label: str
    counts: StageCounts


@attrs.frozen(kw_only=True)
class StageCounts:
    """What became of a source's rows: `read == kept + duplicate + rejected`.

    Attributes:
        read: Rows of the source.
        kept: Ids that are staged, each once.
        duplicate: Rows whose id stands in a later row as well; the later one counts.
        rejected: Rows that break the contract.
        reasons: Reason -> rows rejected for it.
    """

    read: int
    kept: int
    duplicate: int
    rejected: int
    reasons: Mapping[Reason, int]


def stage(
    connection: duckdb.DuckDBPyConnection,
    source: Source,
    rules: IdRules,
    *,
    rejects: Path | None = None,
    on_progress: Callable[[int], None] | None = None,
    temporary: bool = True,
) -> StageCounts:
    """Read *source* completely into the table `staged (id, attributes, tags, fingerprint)`, unique by id.

    Call it from a thread: it blocks. To stop it, raise from *on_progress*, which another thread calls ten
    times a second; `connection.interrupt()` stops a statement too, but is lost between two of them. After an
    error there is no `staged` table.

    Args:
        connection: Does the work under its own memory limit and temp directory; outside a transaction.
        source: Where the rows come from.
        rules: The contract of the ids.
        rejects: File for the rejected rows, written anew with mode 0600; None to only count them.
        on_progress: Called with the number of rows read so far.
        temporary: Whether `staged` is temporary; otherwise it goes into the current schema.

    Returns:
        What became of the rows.

    Raises:
        SourceError: The source cannot be read, or not to its end.
        StagingError: Memory or disk ran out, or the rejects file cannot be written.
    """
    interruptible = InterruptibleQuery(connection=connection, on_progress=on_progress)
    with _prepared(connection, interruptible), interruptible:  # nothing interrupts the tidying up
        context = ReadContext(
            connection=connection, source=source, id_type=rules.id_type, interruptible=interruptible
        )
        counts = _stage(context, rules, rejects, "temp.staged" if temporary else "staged")
        interruptible.check()
    return counts


def _stage(context: ReadContext, rules: IdRules, rejects: Path | None, table: str) -> StageCounts:
    """Take all rows in, write down the rejected ones, and make the table of the others."""
    connection, source = context.connection, context.source
    _rows(connection, f"DROP TABLE IF EXISTS {table}")
    with_details = bool(
        source.attributes or source.tags_column or isinstance(source.location, IterableSource)
    )
    _create_rows(connection, with_details=with_details)
    _take_in(context, rules, with_details=with_details)
    if rejects is not None:
        _write_rejects(connection, rejects)
    _build(connection, table, with_details=with_details)
    return _count(connection, table)


@contextmanager
def _prepared(connection: duckdb.DuckDBPyConnection, interruptible: InterruptibleQuery) -> Iterator[None]:
    """Set the connection up and leave it as it was; a failure that the watch brought about is the watch's."""
    names = ", ".join(f"current_setting({literal(name)})" for name in _SETTINGS)
    before = dict(zip(_SETTINGS, _rows(connection, f"SELECT {names}")[0], strict=True))
    try:
        _set(connection, _SETTINGS)
        yield
    except (duckdb.InterruptException, SourceError, StagingError):
        interruptible.check()
        raise
    finally:
        with suppress(duckdb.Error, StagingError):  # a connection that broke has nothing left to tidy
            _rows(
                connection,
                "DROP TABLE IF EXISTS temp.aiobatch_rows; DROP TABLE IF EXISTS temp.aiobatch_parts",
            )
            _set(connection, before)


def _staging_error(exc: Exception) -> StagingError:
    """Say what this machine lacks."""
    msg = f"the rows could not be staged: {str(exc).partition(chr(10))[0]}"
    if _is_full(exc):
        msg = f"{msg}; give a higher memory limit, or a temp directory with more room"
    return StagingError(f"{msg}; nothing was sent")


def _is_full(exc: Exception) -> bool:
    return isinstance(exc, duckdb.OutOfMemoryException) or any(sign in str(exc) for sign in _FULL)


def _rows(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    """Run a statement of our own to its end."""
    try:
        return connection.execute(sql, parameters).fetchall()
    except duckdb.InterruptException:
        raise
    except duckdb.Error as exc:
        raise _staging_error(exc) from exc


def _set(connection: duckdb.DuckDBPyConnection, settings: Mapping[str, bool]) -> None:
    _rows(connection, "; ".join(f"SET {name} = {str(value).lower()}" for name, value in settings.items()))


def _create_rows(connection: duckdb.DuckDBPyConnection, *, with_details: bool) -> None:
    """Make the table of all rows, whose rowid is their order, and that of the places which they came from."""
    details = ", attributes VARCHAR, tags VARCHAR[]" if with_details else ""
    _rows(connection, f"CREATE OR REPLACE TEMP TABLE aiobatch_rows (id VARCHAR, reason {_REASONS}{details})")
    parts = "place VARCHAR, start BIGINT, stop BIGINT, first_row BIGINT"
    _rows(connection, f"CREATE OR REPLACE TEMP TABLE aiobatch_parts ({parts})")


def _take_in(context: ReadContext, rules: IdRules, *, with_details: bool) -> None:
    """Read all relations of the source, one after the other."""
    schemaless = False
    with closing(READERS[type(context.source.location)](context, context.source.location)) as relations:
        for relation in relations:
            context.interruptible.check()
            schemaless = schemaless or relation.schemaless
            _insert(context, relation, _insert_sql(checked_rows(relation, rules), with_details=with_details))
    if schemaless and context.interruptible.done and not _rows(context.connection, _ANY_ID)[0][0]:
        key = context.source.id_column or "id"
        msg = f"no line has an id under {key!r}; name the key with id_column (--id-column)"
        raise SourceError(msg, location=context.source.label)


def _insert(context: ReadContext, relation: Relation, sql: str) -> None:
    """Read one relation to its end."""
    interruptible = context.interruptible
    interruptible.expected = relation.rows
    try:
        with explained(lambda exc: _staging_error(exc) if _is_full(exc) else relation.explain(exc)):
            count = context.connection.execute(sql, relation.parameters).fetchall()[0][0]
    finally:
        interruptible.expected = 0
    part = [relation.location, interruptible.done, interruptible.done + count, relation.first_row]
    _rows(context.connection, "INSERT INTO temp.aiobatch_parts VALUES (?, ?, ?, ?)", part)
    interruptible.done += count


def _insert_sql(rows: str, *, with_details: bool) -> str:
    details = ", attributes, tags" if with_details else ""
    kept = f"SELECT CASE WHEN reason IS NULL THEN text ELSE raw END, reason{details} FROM ({rows})"
    return f"INSERT INTO temp.aiobatch_rows {kept}"


def _write_rejects(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Write the rejected rows for the owner of the data alone."""
    rows = """
        SELECT place AS source, r.rowid - start + first_row AS "row", reason, left(id, 4096) AS id
        FROM temp.aiobatch_rows AS r JOIN temp.aiobatch_parts ON r.rowid >= start AND r.rowid < stop
        WHERE reason IS NOT NULL ORDER BY r.rowid"""
    # Without a temporary file beside it, whose mode would be another; longer ids are no use to anybody.
    copy = f"COPY ({rows}) TO {literal(str(path.absolute()))} (FORMAT csv, HEADER, USE_TMP_FILE false)"
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with closing(os.fdopen(file, "wb")):
            os.fchmod(file, 0o600)  # it may have been there before
        connection.execute(copy)
    except (OSError, duckdb.IOException) as exc:
        why = "no space left" if _is_full(exc) else getattr(exc, "strerror", "it failed")
        msg = f"the file of rejected rows {str(path)!r} cannot be written ({why}); nothing was sent"
        raise StagingError(msg) from exc


def _build(connection: duckdb.DuckDBPyConnection, table: str, *, with_details: bool) -> None:
    """Make `staged` of the rows that keep the contract; of those with one id, the last."""
    details = "attributes VARCHAR, tags VARCHAR[], fingerprint UBIGINT NOT NULL"
    if not with_details:
        # Computed when read: for millions of ids without any, columns of nothing take more room than the ids.
        details = "attributes VARCHAR AS (NULL), tags VARCHAR[] AS (NULL), fingerprint UBIGINT AS (0)"
    kind = "TEMP TABLE" if table.startswith("temp.") else "TABLE"
    _rows(connection, f"CREATE {kind} {table} (id VARCHAR NOT NULL, {details})")
    text = "nullif(concat_ws(chr(10), attributes, to_json(tags)), '')"
    values = f"id, attributes, tags, coalesce(md5_number_lower({text}), 0)"
    # Hashes first: they fit into memory where the ids would not, and few rows share one.
    _rows(
        connection,
        f"""
        INSERT INTO {table} {"" if with_details else "(id)"}
        WITH repeated AS (
            SELECT hash(id) FROM temp.aiobatch_rows WHERE reason IS NULL GROUP BY ALL HAVING count(*) > 1
        ), superseded AS (
            SELECT rowid AS at FROM temp.aiobatch_rows WHERE reason IS NULL AND hash(id) IN (FROM repeated)
            QUALIFY row_number() OVER (PARTITION BY id ORDER BY rowid DESC) > 1
        )
        SELECT {values if with_details else "id"} FROM temp.aiobatch_rows
        WHERE reason IS NULL AND rowid NOT IN (FROM superseded)""",
    )


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> StageCounts:
    """Account for every row."""
    read = _rows(connection, "SELECT count(*) FROM temp.aiobatch_rows")[0][0]
    rejected_rows = "FROM temp.aiobatch_rows WHERE reason IS NOT NULL"
    grouped = f"SELECT reason::VARCHAR, count(*) {rejected_rows} GROUP BY ALL ORDER BY ALL"
    reasons = {Reason(reason): count for reason, count in _rows(connection, grouped)}
    kept = _rows(connection, f"SELECT count(*) FROM {table}")[0][0]
    rejected = sum(reasons.values())
    return StageCounts(
        read=read,
        kept=kept,
        duplicate=read - kept - rejected,
        rejected=rejected,
        reasons=MappingProxyType(reasons),
    )
