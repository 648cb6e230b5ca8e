"""Staging: reads a source completely into a table of unique, valid IDs, and accounts for every row.

All rows are first read into one table, in their order, so that any error of the source shows before anything
is compared or sent.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs
import duckdb
import orjson

from .._errors import SourceError, StagingError, StateError
from .._lint import AttributeLint, SourceLint
from .._sql import KEY, literal
from ._databases import read_database
from ._id_rules import IdRules, Reason
from ._in_memory import read_arrow, read_iterable
from ._interruptible import InterruptibleQuery
from ._location import ArrowSource, Database, Files, IterableSource, LakeTable, Objects, StandardInput
from ._rejects import write_rejects
from ._relation import ReadContext, Relation, Relations, checked_rows, explained, is_full
from ._source import Source
from .files._read import read_files, read_standard_input
from .lakes._read import read_lake
from .objects._read import read_objects

# The order of rows defines their numbers. DuckDB reports progress only if it has a bar, even a hidden one.
_SETTINGS = {
    "preserve_insertion_order": True,
    "enable_progress_bar": True,
    "enable_progress_bar_print": False,
}
_PORTION = 10_000
_ANY_ID = "SELECT exists(SELECT 1 FROM temp.aiobatch_rows WHERE id IS NOT NULL)"
# The columns of all rows and of the staged ones, which have no reason.
_COLUMNS = f"id VARCHAR, key UHUGEINT, reason ENUM({', '.join(map(literal, Reason))})"
_DETAILS = {
    True: "attributes VARCHAR, tags VARCHAR[], fingerprint UBIGINT",
    # Computed when read: for millions of IDs, stored NULLs would take more space than the IDs.
    False: "attributes VARCHAR AS (NULL), tags VARCHAR[] AS (NULL), fingerprint UBIGINT AS (0)",
}
_STORED = {True: "id, key, reason, attributes, tags, fingerprint", False: "id, key, reason"}

READERS: dict[type, Callable[[ReadContext, Any], Relations]] = {
    Files: read_files,
    StandardInput: read_standard_input,
    Objects: read_objects,
    LakeTable: read_lake,
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
        lint: Its IDs that match no user.
        attribute_lint: Its attributes and tags that Batch may drop.
        sums: The number of its IDs and the sums of both halves of their hashes, if it was compared elsewhere.
            Then the table contains the actions. None if the table contains all IDs.
    """

    table: str
    label: str
    counts: StageCounts
    lint: SourceLint = attrs.field(factory=SourceLint)
    attribute_lint: AttributeLint = attrs.field(factory=AttributeLint)
    sums: tuple[int, int, int] | None = None


@attrs.frozen(kw_only=True)
class StageCounts:
    """The accounting of a source's rows: `read == kept + duplicate + rejected`.

    Attributes:
        read: Rows of the source.
        kept: Staged IDs, each once.
        duplicate: Rows whose ID is also in a later row, which counts.
        rejected: Rows that break the rules for IDs, attributes or tags.
        reasons: Reason -> number of rows rejected for it.
        version: The version of the table that was read. None for sources without versions.
    """

    read: int
    kept: int
    duplicate: int
    rejected: int
    reasons: Mapping[Reason, int]
    version: str | None = None


@attrs.frozen(kw_only=True)
class StageOptions:
    """Options of the reading of a source.

    Attributes:
        salt: The salt of the keys of its IDs.
        max_spill: The most that goes to the temp directory, such as `20GB`. None for half of its free space.
        idle_timeout: The longest wait for data of the source, in seconds. None: no limit.
        is_unique: Returns whether a table of `key, fingerprint` is known to have no ID twice. To know that
            spares the search for repeated IDs.
    """

    salt: str = ""
    max_spill: str | None = None
    idle_timeout: float | None = None
    is_unique: Callable[[str], bool] = lambda _: False


_DEFAULTS = StageOptions()


def stage(
    connection: duckdb.DuckDBPyConnection,
    source: Source,
    rules: IdRules,
    *,
    rejects: Path | None = None,
    on_progress: Callable[[int], None] | None = None,
    options: StageOptions = _DEFAULTS,
) -> StageCounts:
    """Read a source into the temporary table `staged (id, key, attributes, tags, fingerprint)`, unique by ID.

    It blocks, so call it from a thread. To stop it, raise an error in *on_progress*: an interrupt of the
    connection has no effect between two statements. After an error there is no `staged` table.

    Args:
        connection: The connection, outside a transaction. Its memory limit and temp directory apply.
        source: The source.
        rules: The rules for the IDs.
        rejects: File for the rejected rows, with mode 0600. It is overwritten. None to only count them.
        on_progress: Called ten times a second, in another thread, with the number of rows read so far.
        options: Options of the reading.

    Returns:
        The accounting of the rows.

    Raises:
        SourceError: If the source cannot be read completely.
        StagingError: If memory or disk is full, or the reject file cannot be written.
    """
    query = InterruptibleQuery(
        connection=connection, on_progress=on_progress, patience=options.idle_timeout, label=source.label
    )
    with _prepared(connection, query), query:  # the clean-up comes after the interruptions
        _limit_spill(connection, options.max_spill)
        context = ReadContext(
            connection=connection,
            source=source,
            id_type=rules.id_type,
            interruptible=query,
            salt=options.salt,
        )
        return _stage(context, rules, rejects, options.is_unique)


def has_details(source: Source) -> bool:
    """Return whether the rows of a source may have attributes or tags."""
    return bool(source.attributes or source.tags_column or isinstance(source.location, IterableSource))


def _stage(
    context: ReadContext, rules: IdRules, rejects: Path | None, is_unique: Callable[[str], bool]
) -> StageCounts:
    connection, source = context.connection, context.source
    _rows(connection, "DROP TABLE IF EXISTS temp.staged")
    details = has_details(source)
    _create_rows(connection, with_details=details, with_lines=rejects is not None)
    version = _read_all(context, rules, with_details=details, with_lines=rejects is not None)
    context.interruptible.patience = None  # the rest is work, and no wait for the source
    if rejects is not None:
        write_rejects(connection, rejects)
    read, reasons = _count(connection)
    rejected, kept = sum(reasons.values()), read
    repeats = (rejected or not is_unique("temp.aiobatch_rows")) and _find_repeated(connection)
    if rejected or repeats:
        _build(connection, with_details=details)
        kept = _rows(connection, "SELECT count(*) FROM temp.staged")[0][0]
    else:
        _rows(connection, "ALTER TABLE temp.aiobatch_rows RENAME TO staged")  # without copying a row
    context.interruptible.check()
    return StageCounts(
        read=read,
        kept=kept,
        duplicate=read - kept - rejected,
        rejected=rejected,
        reasons=MappingProxyType(reasons),
        version=version,
    )


@contextmanager
def _prepared(connection: duckdb.DuckDBPyConnection, interruptible: InterruptibleQuery) -> Iterator[None]:
    """Change and restore the connection's settings. Raise the callback's error if it caused a failure."""
    names = ", ".join(f"current_setting({literal(name)})" for name in _SETTINGS)
    before = dict(zip(_SETTINGS, _rows(connection, f"SELECT {names}")[0], strict=True))
    try:
        _set(connection, _SETTINGS)
        yield
    except (duckdb.InterruptException, SourceError, StagingError, StateError):
        interruptible.check()
        raise
    finally:
        with suppress(duckdb.Error, StagingError):  # a broken connection needs no clean-up
            _rows(
                connection,
                "; ".join(
                    f"DROP TABLE IF EXISTS temp.aiobatch_{name}"
                    for name in ("rows", "parts", "lines", "repeated")
                ),
            )
            _set(connection, before)


def _limit_spill(connection: duckdb.DuckDBPyConnection, most: str | None) -> None:
    """Limit what DuckDB writes to its temp directory, also for the work after the staging."""
    directory = Path(_rows(connection, "SELECT current_setting('temp_directory')")[0][0] or ".")
    existing = next((one for one in (directory, *directory.absolute().parents) if one.is_dir()), Path())
    most = most or f"{shutil.disk_usage(existing).free // 2 // 1_000_000 + 1}MB"
    _rows(connection, f"SET max_temp_directory_size = {literal(most)}")


def _staging_error(exc: Exception) -> StagingError:
    msg = f"The rows could not be staged: {str(exc).partition(chr(10))[0].rstrip('.')}."
    if "max_temp_directory_size" in str(exc):
        msg = f"{msg} Raise max_spill, or use a temp directory with more space."
    elif is_full(exc):
        msg = f"{msg} Raise the memory limit, or use a temp directory with more space."
    return StagingError(f"{msg} Nothing was sent.")


def _rows(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    try:
        return connection.execute(sql, parameters).fetchall()
    except duckdb.InterruptException:
        raise
    except duckdb.Error as exc:
        raise _staging_error(exc) from exc


def _set(connection: duckdb.DuckDBPyConnection, settings: Mapping[str, bool]) -> None:
    _rows(connection, "; ".join(f"SET {name} = {str(value).lower()}" for name, value in settings.items()))


def _create_rows(connection: duckdb.DuckDBPyConnection, *, with_details: bool, with_lines: bool) -> None:
    """Create the table of all rows, whose rowid is their order, and those of the places of rejected rows."""
    _rows(connection, f"CREATE OR REPLACE TEMP TABLE aiobatch_rows ({_COLUMNS}, {_DETAILS[with_details]})")
    if with_lines:
        parts = "place VARCHAR, start BIGINT, stop BIGINT, first_row BIGINT"
        _rows(connection, f"CREATE OR REPLACE TEMP TABLE aiobatch_parts ({parts})")
        _rows(connection, "CREATE OR REPLACE TEMP TABLE aiobatch_lines (place BIGINT, line BIGINT)")


def _read_all(context: ReadContext, rules: IdRules, *, with_details: bool, with_lines: bool) -> str | None:
    """Read all relations, and return the version of the table that was read, if the source has versions."""
    schemaless, version = False, None
    with closing(READERS[type(context.source.location)](context, context.source.location)) as relations:
        for relation in relations:
            context.interruptible.check()
            schemaless, version = schemaless or relation.schemaless, relation.version
            count = _insert(
                context,
                relation,
                lambda one: _insert_sql(checked_rows(one, rules), context.salt, with_details=with_details),
            )
            _note_part(context, relation, count, with_lines=with_lines)
    if schemaless and context.interruptible.done and not _rows(context.connection, _ANY_ID)[0][0]:
        key = context.source.id_column or "id"
        msg = f"no line has an ID under the key {key!r}. Set id_column to the key of the IDs"
        raise SourceError(msg, location=context.source.label)
    return version


def _insert(context: ReadContext, relation: Relation, insert: Callable[[Relation], str]) -> int:
    """Insert the rows of a relation, and return their number."""
    interruptible = context.interruptible
    interruptible.expected = relation.rows

    def run(one: Relation) -> int:
        count: int = context.connection.execute(insert(one), one.parameters).fetchall()[0][0]
        return count

    try:
        with explained(lambda exc: _staging_error(exc) if is_full(exc) else relation.explain(exc)):
            try:
                return run(relation)
            except duckdb.Error as exc:
                if relation.careful_sql in {None, relation.sql} or is_full(exc):
                    raise
                interruptible.check()
                return run(attrs.evolve(relation, sql=relation.careful_sql))
    finally:
        interruptible.expected = 0


def _note_part(context: ReadContext, relation: Relation, count: int, *, with_lines: bool) -> None:
    """Record the range of rowids, which maps each rejected row to its file, row number and line."""
    connection, start = context.connection, context.interruptible.done
    context.interruptible.done += count
    if not with_lines:
        return
    part = [relation.location, start, start + count, relation.first_row]
    _rows(connection, "INSERT INTO temp.aiobatch_parts VALUES (?, ?, ?, ?)", part)
    if relation.lines is not None:
        lines = relation.lines(_rejected_rows(connection, start, start + count))
        while portion := list(itertools.islice(lines, _PORTION)):
            context.interruptible.check()
            values = [orjson.dumps(column).decode() for column in zip(*portion, strict=True)]
            lists = """unnest(from_json($1, '["BIGINT"]')), unnest(from_json($2, '["BIGINT"]'))"""
            sql = f"INSERT INTO temp.aiobatch_lines SELECT {start - 1} + {lists}"
            _rows(connection, sql, values)


def _rejected_rows(connection: duckdb.DuckDBPyConnection, start: int, stop: int) -> Iterator[int]:
    """Yield the numbers of the rejected rows of a part, from 1."""
    after = start - 1
    while True:
        found = _rows(
            connection,
            f"""SELECT rowid FROM temp.aiobatch_rows WHERE rowid > {after} AND rowid < {stop}
                AND reason IS NOT NULL ORDER BY rowid LIMIT {_PORTION}""",
        )
        if not found:
            return
        yield from (row - start + 1 for (row,) in found)
        after = found[-1][0]


def _insert_sql(rows: str, salt: str, *, with_details: bool) -> str:
    kept = f"SELECT *, CASE WHEN reason IS NULL THEN text ELSE raw END AS id FROM ({rows})"
    key = f"CASE WHEN reason IS NULL THEN {KEY.format(salt=salt)} END"
    text = "nullif(concat_ws(chr(10), attributes, to_json(tags)), '')"
    # DuckDB has a function for half of a hash, which takes five times as long and is named after the other.
    fingerprint = f"coalesce((md5_number({text}) >> 64)::UBIGINT, 0)"
    details = f", attributes, tags, {fingerprint}" if with_details else ""
    columns = _STORED[with_details]
    return f"INSERT INTO temp.aiobatch_rows ({columns}) SELECT id, {key}, reason{details} FROM ({kept})"


def _find_repeated(connection: duckdb.DuckDBPyConnection) -> bool:
    """Create the table of the keys that several rows have. Return whether there are any."""
    repeated = "SELECT key FROM temp.aiobatch_rows WHERE key IS NOT NULL GROUP BY key HAVING count(*) > 1"
    found = _rows(connection, f"CREATE OR REPLACE TEMP TABLE aiobatch_repeated AS {repeated}")
    return bool(found[0][0])


def _build(connection: duckdb.DuckDBPyConnection, *, with_details: bool) -> None:
    """Copy the valid rows to `staged`. Of those with the same ID, keep the last."""
    _rows(connection, f"CREATE TEMP TABLE staged ({_COLUMNS}, {_DETAILS[with_details]})")
    columns = _STORED[with_details]
    _rows(
        connection,
        f"""
        INSERT INTO temp.staged ({columns})
        WITH superseded AS (
            SELECT rowid AS at FROM temp.aiobatch_rows SEMI JOIN temp.aiobatch_repeated USING (key)
            QUALIFY row_number() OVER (PARTITION BY id ORDER BY rowid DESC) > 1
        )
        SELECT {columns} FROM temp.aiobatch_rows WHERE reason IS NULL AND rowid NOT IN (FROM superseded)""",
    )


def _count(connection: duckdb.DuckDBPyConnection) -> tuple[int, dict[Reason, int]]:
    """Return the number of rows, and of rejected ones by reason."""
    read, rejected = _rows(connection, "SELECT count(*), count(reason) FROM temp.aiobatch_rows")[0]
    if not rejected:
        return read, {}
    rejected_rows = "FROM temp.aiobatch_rows WHERE reason IS NOT NULL"
    grouped = f"SELECT reason::VARCHAR, count(*) {rejected_rows} GROUP BY ALL ORDER BY ALL"
    return read, {Reason(reason): count for reason, count in _rows(connection, grouped)}
