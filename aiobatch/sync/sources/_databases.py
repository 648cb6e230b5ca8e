"""Queries as relations: DuckDB's own files, and SQLite and PostgreSQL through their ADBC drivers.

Every query is read-only, one statement, and streamed; an error's text comes from a driver and is scrubbed.
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
    Reader,
    Reading,
    Relation,
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
# https://www.postgresql.org/docs/current/libpq-connect.html: without these a host that is gone is waited for.
_LIBPQ = {
    "connect_timeout": "30",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "4",
}
# A message shows a row's value after a colon or the word "value"; names of tables stand elsewhere.
_SHOWN_VALUE = re.compile(r'(: |value )"[^"]*"')
_NOISE = re.compile(r"^.*?(?:ERROR|FATAL|PANIC):\s+|^.*?(?:IOError: |\[libpq\] |\[SQLite\] )", re.DOTALL)


def read_database(reading: Reading, place: Database) -> Reader:
    """Give the relation of a query.

    Raises:
        SourceError: The database cannot be had, or refuses the query.
    """
    readers = {"duckdb": _read_duckdb, "sqlite": _read_sqlite, "postgresql": _read_postgresql}
    yield from readers[place.dialect](reading, place)


def _read_duckdb(reading: Reading, place: Database) -> Reader:
    """Run the query in the caller's own DuckDB, under its memory limit, with the file attached."""
    connection = reading.connection
    _check_select(connection, place)
    with _attached(reading, place):
        sql = _subquery(place)
        with explained(partial(_explain_duckdb, place)):
            kinds = describe(connection, sql)
        id_name = choose_id(reading, list(kinds), place.label)
        yield Relation(
            place=place.label,
            sql=sql,
            explain=partial(_explain_duckdb, place),
            **columns_of(reading, kinds, id_name, place.label),
        )


def _check_select(connection: duckdb.DuckDBPyConnection, place: Database) -> None:
    """Refuse what is not one SELECT: a second statement would run, on the caller's connection."""
    with explained(partial(_explain_duckdb, place)):
        statements = connection.extract_statements(place.query)
    if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
        msg = "the query must be one SELECT"
        raise SourceError(msg, place=place.label)


@contextmanager
def _attached(reading: Reading, place: Database) -> Iterator[None]:
    """Attach the database's file read-only, and make its tables the ones that the query means."""
    if not place.path:
        yield
        return
    connection = reading.connection
    current = "SELECT current_catalog(), current_schema()"
    before = ".".join(map(identifier, connection.execute(current).fetchall()[0]))
    path = literal(str(Path(place.path).absolute()))
    with explained(partial(_explain_duckdb, place)):
        connection.execute(f"ATTACH {path} AS {_ATTACHED} (TYPE duckdb, READ_ONLY)").fetchall()
    try:
        connection.execute(f"USE {_ATTACHED}").fetchall()
        yield
    finally:
        with reading.watch.undisturbed():
            connection.execute(f"USE {before}").fetchall()
            connection.execute(f"DETACH {_ATTACHED}").fetchall()


def _subquery(place: Database) -> str:
    # On lines of its own: the query may end in a comment.
    return f"(\n{place.query}\n)"


def _explain_duckdb(place: Database, exc: Exception) -> SourceError:
    """Say what DuckDB said of a statement or a file; what it says of values may show them."""
    text = message_of(exc).partition("\n")[0]
    if isinstance(exc, duckdb.ConversionException | duckdb.InvalidInputException | UnicodeDecodeError):
        text = f"a value could not be read ({type(exc).__name__}); convert it in the query"
    return SourceError(f"the query failed: {text}", place=place.label)


def _read_sqlite(reading: Reading, place: Database) -> Reader:
    """Run the query in SQLite; each value keeps the type that its row gives it, by way of JSON."""
    if not Path(place.path).is_file():
        msg = "there is no such file; three slashes lead to a relative path, four to an absolute one"
        raise SourceError(msg, place=place.label)
    with _cursor(
        reading,
        place,
        "adbc_driver_sqlite",
        f"file:{quote(str(Path(place.path).absolute()))}?mode=ro",
    ) as cursor:
        kinds = _probe(reading, cursor, place)
        id_name = choose_id(reading, list(kinds), place.label)
        kinds |= dict.fromkeys(kinds, "JSON")
        columns = columns_of(reading, kinds, id_name, place.label)
        picked = ", ".join(map(_sqlite_json, wanted_columns(reading.source, id_name)))
        with _stream(reading, cursor, place, f"SELECT {picked} FROM {_subquery(place)} AS source"):
            quoted = map(identifier, wanted_columns(reading.source, id_name))
            names = ", ".join(f"{name}::JSON AS {name}" for name in quoted)
            yield Relation(
                place=place.label,
                sql=f"(SELECT {names} FROM {_STREAM})",
                explain=partial(_explain_stream, place),
                **columns,
            )


def _sqlite_json(name: str) -> str:
    """Return SQLite's SQL of a column as JSON; json_quote() alone cuts fractions and drops blobs."""
    column = identifier(name)
    return (
        f"CASE typeof({column}) WHEN 'blob' THEN '{{}}' WHEN 'real' THEN "
        f"CASE WHEN abs({column}) <= 1.7976931348623157e308 THEN printf('%!.17g', {column}) ELSE '9e999' END "
        f"ELSE json_quote({column}) END AS {column}"
    )


def _read_postgresql(reading: Reading, place: Database) -> Reader:
    """Run the query in PostgreSQL, in a read-only transaction."""
    with _cursor(reading, place, "adbc_driver_postgresql", _libpq_dsn(place.dsn.reveal())) as cursor:
        with _explained_driver(place):
            cursor.execute("SET TRANSACTION READ ONLY")
        kinds = _probe(reading, cursor, place)
        id_name = choose_id(reading, list(kinds), place.label)
        columns_of(reading, kinds, id_name, place.label)
        numeric = _numeric_columns(reading, cursor, place, kinds)
        picked = ", ".join(
            f"{identifier(name)}::float8 AS {identifier(name)}" if name in numeric else identifier(name)
            for name in wanted_columns(reading.source, id_name)
        )
        with _stream(reading, cursor, place, f"SELECT {picked} FROM {_subquery(place)} AS source"):
            yield Relation(
                place=place.label,
                sql=_STREAM,
                explain=partial(_explain_stream, place),
                **columns_of(reading, describe(reading.connection, _STREAM), id_name, place.label),
            )


def _libpq_dsn(dsn: str) -> str:
    """Add our own patience to a connection string that says nothing of it."""
    head, _, parameters = dsn.partition("?")
    added = [f"{name}={value}" for name, value in _LIBPQ.items() if f"{name}=" not in parameters]
    return f"{head}?{'&'.join([*filter(None, [parameters]), *added])}"


def _numeric_columns(reading: Reading, cursor: Any, place: Database, kinds: dict[str, str]) -> set[str]:
    """Name the attributes of type numeric: the driver gives them as text, and so would we to Batch."""
    texts = [name for name in reading.source.attributes if kinds[name] == "VARCHAR"]
    if not texts:
        return set()
    types = ", ".join(f"pg_typeof({identifier(name)})::text AS {identifier(name)}" for name in texts)
    # One row without the query's own: the planner never runs it.
    none = f"SELECT * FROM {_subquery(place)} AS all_rows WHERE false"
    sql = f"SELECT {types} FROM (SELECT) AS one LEFT JOIN ({none}) AS source ON true"
    with _stream(reading, cursor, place, sql):
        row = reading.connection.execute(f"SELECT * FROM {_STREAM}").fetchall()[0]
    return {name for name, kind in zip(texts, row, strict=True) if kind == "numeric"}


def _probe(reading: Reading, cursor: Any, place: Database) -> dict[str, str]:
    """Return the query's columns and DuckDB's types for them, without running it."""
    with _stream(reading, cursor, place, f"SELECT * FROM {_subquery(place)} AS source LIMIT 0"):
        return describe(reading.connection, _STREAM)


@contextmanager
def _cursor(reading: Reading, place: Database, driver: str, dsn: str) -> Iterator[Any]:
    """Open a cursor of a driver, which is only loaded when it is wanted."""
    try:
        connect = importlib.import_module(f"{driver}.dbapi").connect
    except ImportError as exc:
        msg = f"{driver.replace('_', '-')} is not installed; pip install 'aiobatch-client[sync]'"
        raise SourceError(msg, place=place.label) from exc
    with _explained_driver(place):
        connection = connect(dsn)
    with closing(connection), connection.cursor() as cursor:

        def abort() -> None:
            with suppress(Exception):  # whatever the driver says, there is nothing left to stop
                cursor.adbc_cancel()

        reading.watch.abort = abort
        try:
            yield cursor
        finally:
            reading.watch.abort = None


@contextmanager
def _stream(reading: Reading, cursor: Any, place: Database, sql: str) -> Iterator[None]:
    """Run *sql* and let DuckDB read its rows as they come."""
    with _explained_driver(place):
        cursor.execute(sql)
        handle = cursor.fetch_arrow()
    reading.watch.check()
    reading.connection.register(_STREAM, handle)
    try:
        yield
    finally:
        reading.connection.unregister(_STREAM)


@contextmanager
def _explained_driver(place: Database) -> Iterator[None]:
    manager = importlib.import_module("adbc_driver_manager")
    try:
        yield
    except manager.Error as exc:
        msg = f"the database refused: {_clean(str(exc), place)}"
        raise SourceError(msg, place=place.label) from None


def _explain_stream(place: Database, exc: Exception) -> SourceError:
    """Say why a stream ended early: the driver's words, but none of DuckDB's, which may show a value."""
    text = message_of(exc)
    words = _clean(text, place) if "reading the stream" in text else "a value could not be read as text"
    return SourceError(f"the rows did not come to their end: {words}", place=place.label)


def _clean(text: str, place: Database) -> str:
    """Cut a driver's text to its first line, without passwords and values."""
    bare = scrub(text, place.dsn.reveal())
    line = _NOISE.sub("", bare, count=1).partition("\n")[0].strip()
    return _SHOWN_VALUE.sub(r"\1(hidden)", line)
