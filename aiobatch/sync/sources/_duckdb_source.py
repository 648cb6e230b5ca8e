"""Queries of DuckDB files and of files by DuckDB, on a connection that cannot reach the state or the process.

A third party's database may contain views that read files, and macros with the names of built-in functions.
So it is opened alone, in memory, without access to files. Only the wanted columns of the query leave it, by
Arrow.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import duckdb

from .._errors import SourceBusyError, SourceError
from .._private_files import SPOOL_PREFIX
from .._sql import identifier, literal
from ._location import Database
from ._relation import (
    ReadContext,
    Relation,
    Relations,
    check_distinct,
    choose_id,
    columns_of,
    describe,
    explained,
    is_full,
    message_of,
    temp_directory,
    valid_text,
    wanted_columns,
)

STREAM: Final = "aiobatch_stream"
_ATTACHED: Final = "aiobatch_source"
_LOCKED: Final = ("Could not set lock on file", "Conflicting lock is held", "being used by another process")
# JSON, UUID and large numbers keep their types on their way.
_BEFORE: Final = ("arrow_lossless_conversion = true", "python_enable_replacements = false")
_AFTER: Final = (
    "autoinstall_known_extensions = false",
    "autoload_known_extensions = false",
    "allow_community_extensions = false",
)


def read_duckdb(context: ReadContext, location: Database) -> Relations:
    """Yield the relation of a query in DuckDB.

    Raises:
        SourceBusyError: Another program has the file open for writing.
        SourceError: The file cannot be opened, or the query is refused.
    """
    explain = partial(_explain, location)
    with _isolated(context, location) as foreign:
        _check_select(foreign, location)
        with explained(explain):
            kinds = describe(foreign, _subquery(location))
            names = foreign.sql(location.query).columns
        id_name = choose_id(context, list(kinds), location.label)
        wanted = wanted_columns(context.source, id_name)
        columns = columns_of(context, kinds, id_name, location.label)
        check_distinct(names, kinds, wanted, location.label)
        picked = ", ".join(map(identifier, wanted))
        context.interruptible.abort = foreign.interrupt
        try:
            with explained(explain):
                rows = foreign.sql(f"SELECT {picked} FROM {_subquery(location)}")
                context.connection.register(STREAM, rows.__arrow_c_stream__())
            yield Relation(
                location=location.label,
                sql=valid_text(STREAM, {name: kinds[name] for name in wanted}),
                explain=explain,
                **columns,
            )
        finally:
            context.interruptible.abort = None
            with context.interruptible.uninterruptible():
                context.connection.unregister(STREAM)


@contextmanager
def _isolated(context: ReadContext, location: Database) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a connection in memory, attach the file read-only, and lock the configuration."""
    names = ("memory_limit", "threads", "max_temp_directory_size")
    settings = ", ".join(f"current_setting({literal(name)})" for name in names)
    values = context.connection.execute(f"SELECT {settings}").fetchall()[0]
    # DuckDB names its spill files alike in every instance, so each needs a directory of its own.
    spill = tempfile.mkdtemp(prefix=SPOOL_PREFIX, dir=temp_directory(context))
    config = {name: str(value) for name, value in zip(names, values, strict=True) if "%" not in str(value)}
    try:
        with closing(duckdb.connect(config={**config, "temp_directory": spill})) as foreign:
            _set(foreign, _BEFORE)
            if location.path:
                file = Path(location.path).absolute()
                _check_no_pipe(file, location)
                path = literal(str(file))
                with explained(partial(_explain, location)):
                    foreign.execute(f"ATTACH {path} AS {_ATTACHED} (TYPE duckdb, READ_ONLY)").fetchall()
                    foreign.execute(f"USE {_ATTACHED}").fetchall()
                    _set(foreign, ("enable_external_access = false",))
            _set(foreign, (*_AFTER, "lock_configuration = true"))
            yield foreign
    finally:
        shutil.rmtree(spill, ignore_errors=True)


def _check_no_pipe(path: Path, location: Database) -> None:
    """Raise SourceError if a database or its log is a pipe. DuckDB would wait for the other end."""
    for file in (path, path.with_name(f"{path.name}.wal")):
        if file.exists() and not file.is_file() and not file.is_dir():
            msg = f"{file.name!r} is a pipe or a device, not a DuckDB file"
            raise SourceError(msg, location=location.label)


def _set(connection: duckdb.DuckDBPyConnection, settings: tuple[str, ...]) -> None:
    for setting in settings:
        connection.execute(f"SET {setting}").fetchall()


def _check_select(connection: duckdb.DuckDBPyConnection, location: Database) -> None:
    """Raise SourceError if the query is not one SELECT."""
    with explained(partial(_explain, location)):
        statements = connection.extract_statements(location.query)
    if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
        msg = "the query must be one SELECT"
        raise SourceError(msg, location=location.label)


def _subquery(location: Database) -> str:
    # On separate lines, since the query may end in a comment.
    return f"(\n{location.query}\n)"


def _explain(location: Database, exc: Exception) -> SourceError:
    """Return DuckDB's message on a statement or a file. Its messages on values contain them."""
    text = message_of(exc).partition("\n")[0]
    if any(sign in text for sign in _LOCKED):
        msg = "another program has the file open for writing"
        return SourceBusyError(msg, location=location.label)
    if isinstance(exc, duckdb.PermissionException):
        msg = "the query or a view of the database reads a file or a setting, which a database file may not"
        return SourceError(msg, location=location.label)
    if is_full(exc):
        text = "memory or disk is full"
    elif isinstance(exc, duckdb.ConversionException | duckdb.InvalidInputException | UnicodeDecodeError):
        text = f"a value could not be read. Convert it in the query. [{type(exc).__name__}]"
    return SourceError(f"the query failed: {text}", location=location.label)
