"""Queries of databases as relations: SQLite, PostgreSQL and others through their ADBC drivers.

Every query is read-only, one statement, and streamed. Drivers' messages lose their passwords and values.
"""

from __future__ import annotations

import importlib
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb

from .._errors import SourceBusyError, SourceError
from .._sql import identifier, literal
from ._dsn import scrub
from ._duckdb_source import STREAM, read_duckdb
from ._interruptible import ServerSockets
from ._location import Database
from ._relation import (
    ReadContext,
    Relation,
    Relations,
    check_distinct,
    choose_id,
    columns_of,
    describe,
    message_of,
    valid_text,
    wanted_columns,
)

_PAUSE = 0.1
# Without these, libpq waits for a dead host: https://www.postgresql.org/docs/current/libpq-connect.html
_LIBPQ = {
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "4",
}
_IDS = frozenset(("text", "varchar", "bpchar", "char", "name", "citext", "uuid", "enum"))
_IDS |= frozenset(("int2", "int4", "int8", "oid", "numeric"))
# The driver returns the numbers of these lists as texts or cents.
_NO_ATTRIBUTES = frozenset({"money", "_money", "_numeric"})
# The driver cannot represent infinite dates. They reject their rows, as dates beyond the calendar do.
# Operators are written in full too: a schema of the database may shadow them.
_ATTRIBUTES = {
    "date": (
        "CASE WHEN {0} OPERATOR(pg_catalog.>=) '0001-01-01'::pg_catalog.date "
        "AND {0} OPERATOR(pg_catalog.<=) '9999-12-31'::pg_catalog.date THEN {0} "
        "WHEN {0} IS NOT NULL THEN '10000-01-01'::pg_catalog.date END"
    ),
    # As a fraction. A whole number that it would change rejects its row: 2 ** 53 is the first one.
    "numeric": (
        "CASE WHEN pg_catalog.abs({0}) OPERATOR(pg_catalog.>=) 1e308 "
        "OR pg_catalog.abs({0}) OPERATOR(pg_catalog.>) 9007199254740992 "
        "AND {0} OPERATOR(pg_catalog.=) pg_catalog.trunc({0}) "
        "THEN 'Infinity' ELSE {0}::pg_catalog.float8 END"
    ),
}
_FRACTION = "aiobatch: fraction"
_TYPE_OF = """(
    WITH RECURSIVE base(kind, name, next) AS (
        SELECT typtype, typname, typbasetype FROM pg_catalog.pg_type
        WHERE oid OPERATOR(pg_catalog.=) pg_catalog.pg_typeof({0})::pg_catalog.oid
        UNION ALL
        SELECT typtype, typname, typbasetype FROM pg_catalog.pg_type, base
        WHERE oid OPERATOR(pg_catalog.=) next AND kind OPERATOR(pg_catalog.=) 'd'
    ) SELECT CASE kind WHEN 'e' THEN 'enum' ELSE name::pg_catalog.text END FROM base
    WHERE kind OPERATOR(pg_catalog.<>) 'd'
)"""
_URI = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
# A message quotes values after a colon or the word "value", and names of tables elsewhere.
_SHOWN_VALUE = re.compile(r'(: |value )"[^"]*"')
_NOISE = re.compile(r"^.*?(?:ERROR|FATAL|PANIC):\s+|^.*?(?:IOError: |\[libpq\] |\[SQLite\] )", re.DOTALL)


def read_database(context: ReadContext, location: Database) -> Relations:
    """Yield the relation of a query.

    Raises:
        SourceBusyError: If the database stays locked.
        SourceError: If it cannot be opened, or refuses the query.
    """
    readers = {
        "duckdb": read_duckdb,
        "sqlite": _read_sqlite,
        "postgresql": _read_postgresql,
        "adbc": _read_adbc,
    }
    deadline = time.monotonic() + context.source.source_timeout
    while True:
        relations = readers[location.dialect](context, location)
        try:
            first = next(relations)
        except SourceBusyError:
            relations.close()
            if time.monotonic() >= deadline:
                raise
            context.interruptible.pause(_PAUSE)
        else:
            break
    with closing(relations):
        yield first
        yield from relations


def _read_sqlite(context: ReadContext, location: Database) -> Relations:
    """Run the query in SQLite. JSON preserves the types of values, which may differ from row to row."""
    if not Path(location.path).is_file():
        msg = "the file does not exist. Three slashes start a relative path, four an absolute one"
        raise SourceError(msg, location=location.label)
    address = f"file:{quote(str(Path(location.path).absolute()))}?mode=ro"
    with driver_cursor(context, location, "adbc_driver_sqlite", address) as cursor:
        with driver_errors(location):
            # Views of a third party's database may only call harmless functions and tables.
            cursor.execute("PRAGMA trusted_schema = OFF")
        kinds = _probe(context, cursor, location)
        id_name = choose_id(context, list(kinds), location.label)
        kinds |= dict.fromkeys(kinds, "JSON")
        columns = columns_of(context, kinds, id_name, location.label)
        wanted = wanted_columns(context.source, id_name)
        check_distinct(_as_selected(kinds), kinds, wanted, location.label)
        picked = ", ".join(map(_sqlite_json, wanted))
        with driver_stream(context, cursor, location, f"SELECT {picked} FROM {subquery(location)} AS source"):
            # Without rows, the driver returns columns of whole numbers.
            quoted = map(identifier, wanted)
            names = ", ".join(f"decode(encode({name}::VARCHAR))::JSON AS {name}" for name in quoted)
            yield Relation(
                location=location.label,
                sql=f"(SELECT {names} FROM {STREAM})",
                explain=partial(explain_stream, location),
                **columns,
            )


def subquery(location: Database) -> str:
    """Return the query as the part of a SELECT after FROM."""
    # On separate lines, since the query may end in a comment.
    return f"(\n{location.query}\n)"


def _as_selected(names: Iterable[str]) -> list[str]:
    """Return names as the query has them. SQLite renames the second of two equal ones to `id:1`."""
    return [re.sub(":[0-9]+$", "", name) for name in names]


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
    dsn = _libpq_dsn(location.dsn.reveal(), context.source.source_timeout)
    with driver_cursor(context, location, "adbc_driver_postgresql", dsn) as cursor:
        with driver_errors(location):
            cursor.execute("SET TRANSACTION READ ONLY")
        kinds = _probe(context, cursor, location)
        id_name = choose_id(context, list(kinds), location.label)
        columns_of(context, kinds, id_name, location.label)
        wanted = wanted_columns(context.source, id_name)
        _check_one_id(context, cursor, location, kinds, id_name)
        types = _types(context, cursor, location, wanted)
        _check_types(context, types, id_name, location)
        attributes = {name: types[name] for name in context.source.attributes}
        picked = ", ".join(
            _ATTRIBUTES.get(attributes.get(name, ""), "{0}").format(identifier(name))
            + f" AS {identifier(name)}"
            for name in wanted
        )
        with driver_stream(context, cursor, location, f"SELECT {picked} FROM {subquery(location)} AS source"):
            found = describe(context.connection, STREAM)
            sql = valid_text(STREAM, found)
            if types[id_name] == "numeric" and id_name not in attributes:
                whole = (
                    f"{identifier(id_name)} IS NULL OR regexp_full_match({identifier(id_name)}, '-?[0-9]+')"
                )
                checked = f"CASE WHEN {whole} THEN {identifier(id_name)} ELSE error({literal(_FRACTION)}) END"
                sql = f"(SELECT * REPLACE ({checked} AS {identifier(id_name)}) FROM {sql})"
            yield Relation(
                location=location.label,
                sql=sql,
                explain=partial(_explain_postgresql, location, id_name),
                **columns_of(context, found, id_name, location.label),
            )


def _read_adbc(context: ReadContext, location: Database) -> Relations:
    """Run the query through any ADBC driver, which the driver manager finds by its manifest."""
    with driver_cursor(context, location, "adbc_driver_manager", *_adbc_arguments(location)) as cursor:
        with suppress(Exception):  # few drivers have the option. Nothing is committed anyway
            cursor.adbc_connection.set_options(**{"adbc.connection.readonly": "true"})
        # As a part of a SELECT, it can only be one.
        with driver_stream(
            context, cursor, location, f"SELECT * FROM {subquery(location)} AS source"
        ) as names:
            kinds = describe(context.connection, STREAM)
            id_name = choose_id(context, list(kinds), location.label)
            columns = columns_of(context, kinds, id_name, location.label)
            wanted = wanted_columns(context.source, id_name)
            check_distinct(_as_selected(names or kinds), kinds, wanted, location.label)
            yield Relation(
                location=location.label,
                sql=valid_text(STREAM, {name: kinds[name] for name in wanted}),
                explain=partial(explain_stream, location),
                **columns,
            )


def _adbc_arguments(location: Database) -> tuple[str, str | None]:
    """Return the name of the driver, and the address for it.

    An address without a host that names a file is a path. One that starts with a second scheme is passed on
    from there: some drivers have other schemes than their names, such as `grpc+tls://`.
    """
    scheme, _, rest = location.dsn.reveal().partition("://")
    driver = scheme.partition("+")[2]
    if not rest:
        return driver, None
    if _URI.match(rest) or (rest.startswith("/") and Path(rest).is_file()):
        return driver, rest
    return driver, f"{driver}://{rest}"


def _explain_postgresql(location: Database, id_name: str, exc: Exception) -> SourceError:
    if _FRACTION in message_of(exc):
        msg = (
            f"column {id_name!r} has the type numeric with decimal places, NaN or infinity: no IDs. "
            "Cast it to bigint or text in the query"
        )
        return SourceError(msg, location=location.label)
    return explain_stream(location, exc)


def _libpq_dsn(dsn: str, timeout: float = 30.0) -> str:
    """Add timeouts to a connection string, unless it sets them."""
    head, _, parameters = dsn.partition("?")
    settings = {"connect_timeout": f"{max(2, math.ceil(timeout))}", **_LIBPQ}
    added = [f"{name}={value}" for name, value in settings.items() if f"{name}=" not in parameters]
    return f"{head}?{'&'.join([*filter(None, [parameters]), *added])}"


def _types(context: ReadContext, cursor: Any, location: Database, wanted: Sequence[str]) -> dict[str, str]:
    """Return PostgreSQL's own types of columns, domains resolved. An enum is `enum`."""
    # Names of the catalog are written in full: a schema of the database may shadow them.
    types = ", ".join(f"{_TYPE_OF.format(identifier(name))} AS {identifier(name)}" for name in wanted)
    # One row with the types of the query's columns. The planner does not run the query.
    none = f"SELECT * FROM {subquery(location)} AS all_rows WHERE false"
    sql = f"SELECT {types} FROM (SELECT) AS one LEFT JOIN ({none}) AS source ON true"
    with driver_stream(context, cursor, location, sql):
        row = context.connection.execute(f"SELECT * FROM {STREAM}").fetchall()[0]
    return dict(zip(wanted, row, strict=True))


def _check_one_id(
    context: ReadContext, cursor: Any, location: Database, names: Iterable[str], id_name: str
) -> None:
    """Raise SourceError if PostgreSQL has columns `ID` and `id`, of which DuckDB renamed one to `id_1`."""
    like = re.compile(re.escape(id_name) + "_[0-9]+", re.IGNORECASE)
    for name in filter(like.fullmatch, names):
        try:
            _types(context, cursor, location, [name])
        except SourceError:
            msg = f"2 columns have the name {id_name!r}, if case is ignored. Give each its own name"
            raise SourceError(msg, location=location.label) from None


def _check_types(context: ReadContext, types: Mapping[str, str], id_name: str, location: Database) -> None:
    """Raise SourceError for a type that the driver returns as another one."""
    wrong = [name for name in context.source.attributes if types[name] in _NO_ATTRIBUTES]
    if types[id_name] not in _IDS:
        wrong.append(id_name)
    if wrong:
        kind = types[wrong[-1]]
        fix = "float8[]" if kind == "_numeric" else "text"
        msg = f"column {wrong[-1]!r} has the type {kind}, which has no exact text. Cast it to {fix}"
        raise SourceError(msg, location=location.label)


def _probe(context: ReadContext, cursor: Any, location: Database) -> dict[str, str]:
    """Return the query's columns and their types in DuckDB, without running it."""
    with driver_stream(context, cursor, location, f"SELECT * FROM {subquery(location)} AS source LIMIT 0"):
        return describe(context.connection, STREAM)


@contextmanager
def driver_cursor(context: ReadContext, location: Database, driver: str, *arguments: Any) -> Iterator[Any]:
    """Open a cursor of a driver. The driver is imported only when it is used.

    Args:
        context: The context.
        location: The database.
        driver: The package of the driver, or of the driver manager.
        arguments: Those of its `connect`.

    Raises:
        SourceError: It is not installed, or cannot connect.
    """
    try:
        connect = importlib.import_module(f"{driver}.dbapi").connect
    except ImportError as exc:
        msg = f"{driver.replace('_', '-')} is not installed. Run pip install 'aiobatch-client[sync]'"
        raise SourceError(msg, location=location.label) from exc
    sockets = ServerSockets(" ".join(map(str, arguments)))
    with driver_errors(location), sockets.opened_here():
        connection = context.interruptible.abandonable(lambda: connect(*arguments))
    with closing(connection), connection.cursor() as cursor:
        context.interruptible.abort = partial(sockets.cancel, cursor.adbc_cancel)
        try:
            yield cursor
        finally:
            context.interruptible.abort = None


@contextmanager
def driver_stream(context: ReadContext, cursor: Any, location: Database, sql: str) -> Iterator[list[str]]:
    """Run *sql*, and register its rows with DuckDB as a stream.

    Yields:
        The names of the columns, before DuckDB renames equal ones. Empty without pyarrow, which reads them.
    """
    names: list[str] = []
    with driver_errors(location):
        cursor.execute(sql)
        with suppress(Exception):
            names += [column[0] for column in cursor.description]
        handle = cursor.fetch_arrow()
    context.interruptible.check()
    try:
        context.connection.register(STREAM, handle)
    except duckdb.InvalidInputException:
        msg = "the query has no columns. Select the IDs"
        raise SourceError(msg, location=location.label) from None
    try:
        yield names
    finally:
        context.connection.unregister(STREAM)


@contextmanager
def driver_errors(location: Database) -> Iterator[None]:
    """Raise the errors of a driver as SourceError, without passwords and values."""
    manager = importlib.import_module("adbc_driver_manager")
    try:
        yield
    except manager.Error as exc:
        words = _clean(str(exc), location)
        if "is locked" in words:
            msg = "another program has locked the database"
            raise SourceBusyError(msg, location=location.label) from None
        if location.dialect == "adbc" and "[Driver Manager] Could not load" in str(exc):
            driver, _ = _adbc_arguments(location)
            msg = (
                f"no ADBC driver {driver!r} is installed. Install it, for example with 'dbc install {driver}'"
            )
            raise SourceError(msg, location=location.label) from None
        msg = f"the database failed: {words}{_hint(words, location)}"
        raise SourceError(msg, location=location.label) from None


def _hint(words: str, location: Database) -> str:
    """Return what to do about SQLite's message on a directory that it cannot write to."""
    if location.dialect != "sqlite" or "unable to open" not in words:
        return ""
    return (
        ". Check the permissions. A database in WAL mode also needs a directory that can be written to: copy "
        "it to one, or let its owner switch the mode off"
    )


def explain_stream(location: Database, exc: Exception) -> SourceError:
    """Return why a stream failed: the driver's message, or none of DuckDB's, which may contain a value."""
    text = message_of(exc)
    words = _clean(text, location) if "reading the stream" in text else "a value could not be read as text"
    return SourceError(f"not all rows could be read: {words}", location=location.label)


def _clean(text: str, location: Database) -> str:
    """Return the first line of a driver's message, without passwords and values."""
    bare = scrub(text, location.dsn.reveal())
    line = _NOISE.sub("", bare, count=1).partition("\n")[0].strip()
    return _SHOWN_VALUE.sub(r"\1(hidden)", line)
