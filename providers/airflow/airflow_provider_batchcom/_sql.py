"""Members from the rows of any database that has a hook with a DB-API connection."""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from decimal import Decimal
from typing import Any, Final

from airflow.providers.common.sql.hooks.sql import DbApiHook
from airflow.sdk import BaseHook

from aiobatch import InvalidInputError, Member
from aiobatch.sync import SourceError

_logger = logging.getLogger(__name__)

# Rows of one fetch. They are in memory together.
_MANY: Final = 10_000
_ID_COLUMNS: Final = ("id", "user_id", "custom_id")
# Options of a source that a query can have. The others are about files.
_OPTIONS: Final = frozenset({"id_column", "attributes", "tags_column"})
# Drivers that read the whole result into memory, unless the cursor has a name.
_NAMED_CURSOR: Final = frozenset({"postgres"})


def read_members(conn_id: str, sql: str, reading: Mapping[str, Any]) -> Iterator[str | Member]:
    """Run a query and yield its members, a portion at a time.

    Args:
        conn_id: The ID of the connection.
        sql: The query.
        reading: `id_column`, `attributes` and `tags_column`, as for `Source.parse`.

    Yields:
        An ID for each row, as Member if it has attributes or tags. The engine checks the IDs.

    Raises:
        InvalidInputError: The connection has no DB-API hook, or an option does not fit.
        SourceError: The query failed, or its columns do not fit.
    """
    if unknown := sorted(set(reading) - _OPTIONS):
        msg = f"The option {unknown[0]} is about files, and sql_conn_id reads a database. Remove it."
        raise InvalidInputError(msg)
    hook = BaseHook.get_hook(conn_id)
    if not isinstance(hook, DbApiHook):
        msg = f"Connection {conn_id!r} is no SQL connection: its hook is a {type(hook).__name__}."
        raise InvalidInputError(msg)
    return _Rows(hook, conn_id, reading).members(sql)


class _Rows:
    """The rows of a query.

    Args:
        hook: The database's hook.
        conn_id: The ID of its connection.
        reading: The columns.
    """

    def __init__(self, hook: DbApiHook, conn_id: str, reading: Mapping[str, Any]) -> None:
        self._hook = hook
        self._location = f"connection {conn_id!r}"
        self._id_column: str | None = reading.get("id_column")
        self._tags_column: str | None = reading.get("tags_column")
        attributes = reading.get("attributes") or {}
        # A list of columns names the attributes too.
        self._attributes = dict(attributes) if isinstance(attributes, Mapping) else {n: n for n in attributes}

    def members(self, sql: str) -> Iterator[str | Member]:
        """Run the query in the thread that reads the rows: some drivers allow no other."""
        with self._reporting(), closing(self._hook.get_conn()) as connection:
            named = self._hook.conn_type in _NAMED_CURSOR
            with closing(connection.cursor("aiobatch") if named else connection.cursor()) as cursor:
                cursor.execute(sql)
                rows = cursor.fetchmany(_MANY)
                columns = self._columns([str(column[0]) for column in cursor.description or ()])
                number = 0
                while rows:
                    for number, row in enumerate(rows, start=number + 1):  # noqa: B020 - it counts on
                        yield self._member(row, columns, number)
                    rows = cursor.fetchmany(_MANY)

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Raise the driver's errors as SourceError. Only the log has their texts, which may have values."""
        try:
            yield
        except SourceError:
            raise
        except Exception as error:  # noqa: BLE001 - each driver has errors of its own
            _logger.error("could not read the rows: %s", error)  # noqa: TRY400 - the text is enough
            msg = f"the query failed. The log of the task has the reason. [{type(error).__name__}]"
            raise self._error(msg) from None

    def _error(self, text: str) -> SourceError:
        return SourceError(text, location=self._location)

    def _columns(self, names: Sequence[str]) -> dict[str, int]:
        """Return the positions of the columns to read, by `id`, `tags` and `=attribute`."""
        columns = {"id": self._id_position(names)}
        if self._tags_column is not None:
            columns["tags"] = self._position(names, self._tags_column)
        for column, attribute in self._attributes.items():
            columns[f"={attribute}"] = self._position(names, column)
        return columns

    def _id_position(self, names: Sequence[str]) -> int:
        if self._id_column is not None:
            return self._position(names, self._id_column)
        found = [n for n, name in enumerate(names) if name.lower() in _ID_COLUMNS]
        if not found and len(names) == 1:
            return 0
        if len(found) != 1:
            msg = f"no single column of IDs among {', '.join(names)}. Set the option id_column"
            raise self._error(msg)
        return found[0]

    def _position(self, names: Sequence[str], wanted: str) -> int:
        """Return the position of a column. Some databases change the case of names."""
        found = [n for n, name in enumerate(names) if name == wanted]
        found = found or [n for n, name in enumerate(names) if name.lower() == wanted.lower()]
        if len(found) != 1:
            msg = f"no single column {wanted!r} among {', '.join(names)}"
            raise self._error(msg)
        return found[0]

    def _member(self, row: Sequence[Any], columns: Mapping[str, int], number: int) -> str | Member:
        values = {name: row[position] for name, position in columns.items()}
        member_id = self._to_id(values.pop("id"), number)
        tags = _to_tags(values.pop("tags", None))
        attributes = dict(
            _to_attribute(name[1:], value) for name, value in values.items() if value is not None
        )
        if not attributes and not tags:
            return member_id
        try:
            return Member(member_id, attributes=attributes, tags=tags)
        except InvalidInputError as error:
            if _is_bad_id(member_id):
                return member_id  # the engine rejects it, and counts it
            msg = f"row {number}: {error}"
            raise self._error(msg) from None

    def _to_id(self, value: Any, number: int) -> str:
        """Return an ID as text. NULL becomes an empty ID, which the engine rejects."""
        if value is None:
            return ""
        if isinstance(value, Decimal) and value == value.to_integral_value():
            value = int(value)
        if isinstance(value, str | uuid.UUID) or (isinstance(value, int) and not isinstance(value, bool)):
            return str(value)
        msg = f"row {number} has an ID of type {type(value).__name__}. Cast the IDs to text in the query"
        raise self._error(msg)


def _is_bad_id(member_id: str) -> bool:
    try:
        Member(member_id)
    except InvalidInputError:
        return True
    return False


def _to_tags(value: Any) -> list[str]:
    """Return tags from a list, or from comma-separated text."""
    if isinstance(value, str):
        return [tag.strip() for tag in value.split(",") if tag.strip()]
    return list(value or ())


def _to_attribute(name: str, value: Any) -> tuple[str, Any]:
    """Return an attribute as Batch takes it. A date gets its type into the name."""
    if isinstance(value, Decimal):
        return name, int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, uuid.UUID):
        return name, str(value)
    if isinstance(value, dt.date) and not name.startswith("date("):
        return f"date({name})", value
    return name, value
