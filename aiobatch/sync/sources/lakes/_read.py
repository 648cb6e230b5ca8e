"""Tables of Delta Lake and Iceberg as relations. One version is read, and its number is reported.

The libraries find files and credentials by themselves. Their texts may contain addresses, so only the names
of their errors are shown.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from ..._errors import SourceError
from ..._sql import identifier
from .._location import LakeTable
from .._relation import (
    ReadContext,
    Relation,
    Relations,
    check_distinct,
    choose_id,
    columns_of,
    describe,
    explained,
    valid_text,
    wanted_columns,
)

_TABLE: Final = "aiobatch_lake"
_URI: Final = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_MISSING: Final = frozenset(
    ("TableNotFoundError", "NoSuchTableError", "NoSuchNamespaceError", "FileNotFoundError")
)
_PACKAGES: Final = {"delta": "deltalake", "iceberg": "pyiceberg"}


@attrs.frozen(kw_only=True)
class _Version:
    """A version of a table.

    Attributes:
        number: Its version or snapshot. None for an Iceberg table without rows.
        names: The names of its columns.
        read: Returns the stream of some columns.
    """

    number: int | None
    names: Sequence[str]
    read: Any


def read_lake(context: ReadContext, location: LakeTable) -> Relations:
    """Yield the relation of one version of a table.

    Raises:
        SourceError: The table cannot be read, or its library is not installed.
    """
    package = _PACKAGES[location.kind]
    open_version = _delta if location.kind == "delta" else _iceberg
    try:
        library = importlib.import_module(package)
        # The libraries block while they look for the table, and nothing interrupts them.
        version = context.interruptible.abandonable(lambda: open_version(library, location))
        id_name = choose_id(context, version.names, location.label)
        wanted = wanted_columns(context.source, id_name)
        columns_of(context, dict.fromkeys(version.names, "VARCHAR"), id_name, location.label)
        check_distinct(version.names, version.names, wanted, location.label)
        stream = version.read(wanted)
    except ImportError:
        msg = f"{package} is not installed. Run pip install {package}"
        raise SourceError(msg, location=location.label) from None
    except SourceError:
        raise
    except Exception as exc:  # noqa: BLE001 - the libraries raise errors of several packages
        context.interruptible.check()
        raise _error(location, exc) from None
    with explained(lambda exc: _error(location, exc)):
        context.connection.register(_TABLE, stream)
        kinds = describe(context.connection, _TABLE)
    try:
        columns = columns_of(context, kinds, id_name, location.label)
        yield Relation(
            location=location.label,
            sql=valid_text(_TABLE, {name: kinds[name] for name in wanted}),
            version="none" if version.number is None else str(version.number),
            explain=lambda exc: _error(location, exc),
            **columns,
        )
    finally:
        with context.interruptible.uninterruptible():
            context.connection.unregister(_TABLE)


def _error(location: LakeTable, exc: BaseException) -> SourceError:
    name = type(exc).__name__
    if name in _MISSING:
        msg = f"the table does not exist, or not for these credentials. Check its name [{name}]"
    else:
        wanted = "" if location.version is None else f", and that version {location.version} exists"
        msg = f"the table cannot be read. Check the settings of the library{wanted} [{name}]"
    return SourceError(msg, location=location.label)


def _delta(library: Any, location: LakeTable) -> _Version:
    table = library.DeltaTable(_path(location.table), version=location.version)
    names = [field.name for field in table.schema().fields]

    def read(columns: Sequence[str]) -> Any:
        # Unlike the list of files, this leaves out rows that a deletion vector marks.
        picked = ", ".join(map(identifier, columns))
        return library.QueryBuilder().register("source", table).execute(f"SELECT {picked} FROM source")

    return _Version(number=table.version(), names=names, read=read)


def _iceberg(_: Any, location: LakeTable) -> _Version:
    if _URI.match(location.table) or location.table.startswith("/"):
        tables = importlib.import_module("pyiceberg.table")
        table = tables.StaticTable.from_metadata(_path(location.table))
    else:
        catalog, _, name = location.table.partition("/")
        table = importlib.import_module("pyiceberg.catalog").load_catalog(catalog).load_table(name)
    snapshot = table.current_snapshot()
    number = location.version if snapshot is None or location.version is not None else snapshot.snapshot_id
    scan = table.scan(snapshot_id=number)

    def read(columns: Sequence[str]) -> Any:
        return scan.select(*columns).to_arrow_batch_reader()

    return _Version(number=number, names=[field.name for field in scan.projection().fields], read=read)


def _path(text: str) -> str:
    """Return a path as the library needs it. As in the addresses of databases, it may be relative."""
    relative = text.lstrip("/")
    if text.startswith("/") and not Path(text).exists() and Path(relative).exists():
        return str(Path(relative).absolute())
    return text
