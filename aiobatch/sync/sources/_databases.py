"""Queries of databases as relations: DuckDB itself, and SQLite and PostgreSQL through their ADBC drivers.

Every query is read-only, one statement, and streamed. Drivers' messages lose their passwords and values.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb

from .._errors import SourceError
from .._sql import identifier, literal
from ._dsn import scrub
from ._relation import (
    ReadContext,
    Relation,
    Relations,
    choose_id,
    columns_of,
    describe,
    explained,
    message_of,
    wanted_columns,
)
from ._source import Database

_ATTACHED = "aiobatch_source"
_STREAM = "aiobatch_stream"
# Without these, libpq waits for a dead host: https://www.postgresql.org/docs/current/libpq-connect.html
_LIBPQ = {
    "connect_timeout": "30",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "4",
}
# A message quotes values after a colon or the word "value", and names of tables elsewhere.
_SHOWN_VALUE = re.compile(r'(: |value )"[^"]*"')
_NOISE = re.compile(r"^.*?(?:ERROR|FATAL|PANIC):\s+|^.*?(?:IOError: |\[libpq\] |\[SQLite\] )", re.DOTALL)


def read_database(context: ReadContext, location: Database) -> Relations:
    """Yield the relation of a query.

    Raises:
        SourceError: If the database cannot be opened, or refuses the query.
    """
    readers = {"duckdb": _read_duckdb, "sqlite": _read_sqlite, "postgresql": _read_postgresql}
    yield from readers[location.dialect](context, location)


def _read_duckdb(context: ReadContext, location: Database) -> Relations:
    """Run the query in the caller's DuckDB, under its memory limit, with the file attached."""
    connection = context.connection
    _check_select(connection, location)
    with _attached(context, location):
        sql = _subquery(location)
        with explained(partial(_explain_duckdb, location)):
            kinds = describe(connection, sql)
        id_name = choose_id(context, list(kinds), location.label)
        yield Relation(
            location=location.label,
            sql=sql,
            explain=partial(_explain_duckdb, location),
            **columns_of(context, kinds, id_name, location.label),
        )


def _check_select(connection: duckdb.DuckDBPyConnection, location: Database) -> None:
    """Raise SourceError if the query is not one SELECT. Others could change the caller's state."""
    with explained(partial(_explain_duckdb, location)):
        statements = connection.extract_statements(location.query)
    if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
        msg = "the query must be one SELECT"
        raise SourceError(msg, location=location.label)


@contextmanager
def _attached(context: ReadContext, location: Database) -> Iterator[None]:
    """Attach the database's file read-only, and make it the default database of the query."""
    if not location.path:
        yield
        return
    connection = context.connection
    current = "SELECT current_catalog(), current_schema()"
    before = ".".join(map(identifier, connection.execute(current).fetchall()[0]))
    path = literal(str(Path(location.path).absolute()))
    with explained(partial(_explain_duckdb, location)):
        connection.execute(f"ATTACH {path} AS {_ATTACHED} (TYPE duckdb, READ_ONLY)").fetchall()
    try:
        connection.execute(f"USE {_ATTACHED}").fetchall()
        yield
    finally:
        with context.interruptible.uninterruptible():
            connection.execute(f"USE {before}").fetchall()
            connection.execute(f"DETACH {_ATTACHED}").fetchall()


def _subquery(location: Database) -> str:
    # On separate lines, since the query may end in a comment.
    return f"(\n{location.query}\n)"


def _explain_duckdb(location: Database, exc: Exception) -> SourceError:
    """Return DuckDB's message on a statement or a file. Its messages on values contain them."""
    text = message_of(exc).partition("\n")[0]
    if isinstance(exc, duckdb.ConversionException | duckdb.InvalidInputException | UnicodeDecodeError):
        text = f"a value could not be read. Convert it in the query. [{type(exc).__name__}]"
    return SourceError(f"the query failed: {text}", location=location.label)


def _read_sqlite(context: ReadContext, location: Database) -> Relations:
    """Run the query in SQLite. JSON preserves the types of values, which may differ from row to row."""
    if not Path(location.path).is_file():
        msg = "the file does not exist. Three slashes start a relative path, four an absolute one"
        raise SourceError(msg, location=location.label)
    with _cursor(
        context,
        location,
        "adbc_driver_sqlite",
        f"file:{quote(str(Path(location.path).absolute()))}?mode=ro",
    ) as cursor:
        kinds = _probe(context, cursor, location)
        id_name = choose_id(context, list(kinds), location.label)
        kinds |= dict.fromkeys(kinds, "JSON")
        columns = columns_of(context, kinds, id_name, location.label)
        picked = ", ".join(map(_sqlite_json, wanted_columns(context.source, id_name)))
        with _stream(context, cursor, location, f"SELECT {picked} FROM {_subquery(location)} AS source"):
            quoted = map(identifier, wanted_columns(context.source, id_name))
            names = ", ".join(f"{name}::JSON AS {name}" for name in quoted)
            yield Relation(
                location=location.label,
                sql=f"(SELECT {names} FROM {_STREAM})",
                explain=partial(_explain_stream, location),
                **columns,
            )


def _sqlite_json(name: str) -> str:
    """Return SQLite's SQL of a column as JSON. json_quote() alone rounds fractions and fails on blobs."""
    column = identifier(name)
    return (
        f"CASE typeof({column}) WHEN 'blob' THEN '{{}}' WHEN 'real' THEN "
        f"CASE WHEN abs({column}) <= 1.7976931348623157e308 THEN printf('%!.17g', {column}) ELSE '9e999' END "
        f"ELSE json_quote({column}) END AS {column}"
    )


def _read_postgresql(context: ReadContext, location: Database) -> Relations:
    """Run the query in PostgreSQL, in a read-only transaction."""
    with _cursor(context, location, "adbc_driver_postgresql", _libpq_dsn(location.dsn.reveal())) as cursor:
        with _driver_errors(location):
            cursor.execute("SET TRANSACTION READ ONLY")
        kinds = _probe(context, cursor, location)
        id_name = choose_id(context, list(kinds), location.label)
        columns_of(context, kinds, id_name, location.label)
        numeric = _numeric_columns(context, cursor, location, kinds)
        picked = ", ".join(
            f"{identifier(name)}::float8 AS {identifier(name)}" if name in numeric else identifier(name)
            for name in wanted_columns(context.source, id_name)
        )
        with _stream(context, cursor, location, f"SELECT {picked} FROM {_subquery(location)} AS source"):
            yield Relation(
                location=location.label,
                sql=_STREAM,
                explain=partial(_explain_stream, location),
                **columns_of(context, describe(context.connection, _STREAM), id_name, location.label),
            )


def _libpq_dsn(dsn: str) -> str:
    """Add timeouts to a connection string, unless it sets them."""
    head, _, parameters = dsn.partition("?")
    added = [f"{name}={value}" for name, value in _LIBPQ.items() if f"{name}=" not in parameters]
    return f"{head}?{'&'.join([*filter(None, [parameters]), *added])}"


def _numeric_columns(
    context: ReadContext, cursor: Any, location: Database, kinds: dict[str, str]
) -> set[str]:
    """Return the attributes of type numeric. The driver returns them as text, but Batch needs numbers."""
    texts = [name for name in context.source.attributes if kinds[name] == "VARCHAR"]
    if not texts:
        return set()
    types = ", ".join(f"pg_typeof({identifier(name)})::text AS {identifier(name)}" for name in texts)
    # One row with the types of the query's columns. The planner does not run the query.
    none = f"SELECT * FROM {_subquery(location)} AS all_rows WHERE false"
    sql = f"SELECT {types} FROM (SELECT) AS one LEFT JOIN ({none}) AS source ON true"
    with _stream(context, cursor, location, sql):
        row = context.connection.execute(f"SELECT * FROM {_STREAM}").fetchall()[0]
    return {name for name, kind in zip(texts, row, strict=True) if kind == "numeric"}


def _probe(context: ReadContext, cursor: Any, location: Database) -> dict[str, str]:
    """Return the query's columns and their types in DuckDB, without running it."""
    with _stream(context, cursor, location, f"SELECT * FROM {_subquery(location)} AS source LIMIT 0"):
        return describe(context.connection, _STREAM)


@contextmanager
def _cursor(context: ReadContext, location: Database, driver: str, dsn: str) -> Iterator[Any]:
    """Open a cursor of a driver. The driver is imported only when it is used."""
    try:
        connect = importlib.import_module(f"{driver}.dbapi").connect
    except ImportError as exc:
        msg = f"{driver.replace('_', '-')} is not installed. Run pip install 'aiobatch-client[sync]'"
        raise SourceError(msg, location=location.label) from exc
    with _driver_errors(location):
        connection = connect(dsn)
    with closing(connection), connection.cursor() as cursor:

        def abort() -> None:
            with suppress(Exception):  # the query may have ended already
                cursor.adbc_cancel()

        context.interruptible.abort = abort
        try:
            yield cursor
        finally:
            context.interruptible.abort = None


@contextmanager
def _stream(context: ReadContext, cursor: Any, location: Database, sql: str) -> Iterator[None]:
    """Run *sql*, and register its rows with DuckDB as a stream."""
    with _driver_errors(location):
        cursor.execute(sql)
        handle = cursor.fetch_arrow()
    context.interruptible.check()
    context.connection.register(_STREAM, handle)
    try:
        yield
    finally:
        context.connection.unregister(_STREAM)


@contextmanager
def _driver_errors(location: Database) -> Iterator[None]:
    manager = importlib.import_module("adbc_driver_manager")
    try:
        yield
    except manager.Error as exc:
        msg = f"the database failed: {_clean(str(exc), location)}"
        raise SourceError(msg, location=location.label) from None


def _explain_stream(location: Database, exc: Exception) -> SourceError:
    """Return why a stream failed: the driver's message, or none of DuckDB's, which may contain a value."""
    text = message_of(exc)
    words = _clean(text, location) if "reading the stream" in text else "a value could not be read as text"
    return SourceError(f"not all rows could be read: {words}", location=location.label)


def _clean(text: str, location: Database) -> str:
    """Return the first line of a driver's message, without passwords and values."""
    bare = scrub(text, location.dsn.reveal())
    line = _NOISE.sub("", bare, count=1).partition("\n")[0].strip()
    return _SHOWN_VALUE.sub(r"\1(hidden)", line)
