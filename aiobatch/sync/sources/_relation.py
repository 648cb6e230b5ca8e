"""Relations: what DuckDB reads from any kind of source, and the choice of their columns."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import attrs
import duckdb

from ...models import IdType
from .._errors import SourceError
from .._sql import identifier
from ._attributes import ColumnSql, attribute_column, combine, tags_column
from ._id_rules import (
    WHOLE_NUMBERS,
    IdColumn,
    IdRules,
    attribute_reason_sql,
    id_column,
    is_whole_decimal,
    plain_sql,
    reason_sql,
    text_sql,
)
from ._interruptible import InterruptibleQuery
from ._source import Source

_T = TypeVar("_T")
_ID_NAMES = ("id", "user_id", "custom_id")
_ID_NAMES_OF = {
    IdType.ADVERTISING_IDS: ("advertising_id",),
    IdType.INSTALL_IDS: ("install_id",),
    IdType.EMAILS: ("email",),
}
# In a file without a header, the first ID is in its place. Names of columns rarely look like this.
LOOKS_LIKE_AN_ID = re.compile(r".*[0-9@].*", re.DOTALL)
# Words that show that a first line is a header. The first row of the data may be a person's.
_HEADER_WORDS = frozenset(("id", "user_id", "custom_id", "uid", "uuid", "user", "customer", "email", "name"))
_HEADER_WORDS |= frozenset(("first_name", "last_name", "age", "country", "city", "phone", "date", "tags"))
_SHOWN_NAMES = 20
_FULL = (
    "No space left on device",
    "max_temp_directory_size",
    "exceeds the maximum allowed",
    "Out of Memory Error",
)


class ColumnsError(SourceError):
    """A source has other columns than expected.

    Attributes:
        problem: The reason, without the location.
    """

    problem: str

    def __init__(self, text: str, *, location: str, line: int | None = None) -> None:
        super().__init__(text, location=location, line=line)
        self.problem = text


@attrs.frozen(kw_only=True)
class Contract:
    """What all files of a source have in common.

    Attributes:
        id_name: The ID column. Empty if the file has no row that could have one.
        kind: `text` or `whole numbers`. None if each value has a type of its own.
        delimiter: The delimiter of a CSV, in words. None for other formats.
        is_null: Return whether the file has no ID at all, which fits any type.
    """

    id_name: str = ""
    kind: str | None = None
    delimiter: str | None = None
    is_null: Callable[[], bool] = bool

    def difference(self, other: Contract) -> str | None:
        """Return how another file differs. None if it does not."""
        if not self.id_name or not other.id_name:
            return None
        if self.id_name != other.id_name:
            return f"its ID column is {other.id_name!r}, not {self.id_name!r}"
        if self.delimiter and other.delimiter and self.delimiter != other.delimiter:
            return f"its delimiter is a {other.delimiter}, not a {self.delimiter}"
        if self.kind != other.kind and not self.is_null() and not other.is_null():
            return f"its IDs are {other.kind}, not {self.kind}"
        return None


def kind_of(kind: str) -> str:
    """Return the type of an ID column in words."""
    return "whole numbers" if kind in WHOLE_NUMBERS or is_whole_decimal(kind) else "text"


@attrs.frozen(kw_only=True)
class Relation:
    """Rows that one statement reads.

    Attributes:
        location: Their file or other location, for errors and the reject file.
        sql: The SQL after FROM.
        id: The ID column.
        explain: Converts DuckDB's errors while reading to the error to raise.
        attributes: The attributes, if any are wanted.
        tags: The tags, if they are wanted.
        parameters: Values of the placeholders in `sql`.
        first_row: Number of the first row.
        rows: Number of rows, if known in advance.
        schemaless: Whether reading a column that no row has is not an error.
        careful_sql: The SQL to try before the file is called invalid. None if there is none.
        lines: Yield numbers of rows, which ascend, each with its line in a text file. None for other sources.
        contract: What other files of the source must have in common with this one.
        version: The version of the table that is read. None for sources without versions.
    """

    location: str
    sql: str
    id: IdColumn
    explain: Callable[[Exception], SourceError]
    attributes: ColumnSql | None = None
    tags: ColumnSql | None = None
    parameters: Sequence[Any] = ()
    first_row: int = 1
    rows: int = 0
    schemaless: bool = False
    careful_sql: str | None = None
    lines: Callable[[Iterable[int]], Iterator[tuple[int, int]]] | None = None
    contract: Contract = Contract()
    version: str | None = None


@attrs.frozen(kw_only=True)
class ReadContext:
    """What reading a source needs.

    Attributes:
        connection: The connection that reads.
        source: The source, with the wanted columns.
        id_type: The type of the IDs. An ID column may have its name.
        interruptible: Interrupts the reading.
        bare: Whether files contain one ID per line and no header.
        salt: The salt of the keys of the IDs.
    """

    connection: duckdb.DuckDBPyConnection
    source: Source
    id_type: IdType
    interruptible: InterruptibleQuery
    bare: bool = False
    salt: str = ""


Relations = Generator[Relation, None, None]


def id_candidates(context: ReadContext, names: Sequence[str]) -> list[str]:
    """Return the columns that can be the ID column: the wanted one by name or number, or the known ones."""
    wanted = context.source.id_column
    if wanted is None:
        known = (*_ID_NAMES, *_ID_NAMES_OF.get(context.id_type, ()))
        return [name for name in names if name.lower() in known]
    if wanted not in names and wanted.isdecimal() and 0 < int(wanted) <= len(names):
        return [names[int(wanted) - 1]]
    return [name for name in names if name == wanted]


def choose_id(context: ReadContext, names: Sequence[str], location: str, *, text: bool = False) -> str:
    """Return the name of the ID column.

    Args:
        context: The context, with the source.
        names: The columns.
        location: Their location, for errors.
        text: Whether the names are text of a file, which may be data. Then the only column of a file is not
            enough: any first line is one column.

    Raises:
        SourceError: If it is missing, or there are several candidates.
    """
    wanted = context.source.id_column
    found = id_candidates(context, names)
    if not found and wanted is None and len(names) == 1 and not text:
        found = list(names)
    if len(found) == 1 and names.count(found[0]) == 1:
        return found[0]
    what = f"no single column {wanted!r}" if wanted else "no single column with a name of an ID column"
    msg = f"{what}{_among(names, text=text)}. Set id_column to the column of the IDs"
    raise ColumnsError(msg, location=location)


def _among(names: Sequence[str], *, text: bool) -> str:
    """Return the names of the columns for an error, unless they may be the data of a person."""
    if not text or is_header(names):
        return f" among {_listed(names)}"
    return f" among {len(names)} columns"


def is_header(names: Iterable[str]) -> bool:
    """Return whether names are those of columns for sure, and not the first row of the data."""
    lowered = [name.lower().strip() for name in names]
    if any(map(LOOKS_LIKE_AN_ID.fullmatch, lowered)):
        return False
    return any(name in _HEADER_WORDS or name.endswith("_id") for name in lowered)


def columns_of(
    context: ReadContext, kinds: Mapping[str, str], id_name: str, location: str, *, text: bool = False
) -> dict[str, Any]:
    """Return the fields of a Relation that describe its columns.

    Args:
        context: The context, with the source.
        kinds: Column -> DuckDB's type.
        id_name: The ID column.
        location: Their location, for errors.
        text: Whether the names are text of a file, as for `choose_id`.

    Raises:
        SourceError: If a column is missing, or its type is not supported.
    """
    ids = id_column(identifier(id_name), kinds[id_name])
    if ids is None:
        msg = (
            f"column {id_name!r} has the type {kinds[id_name]}, which has no exact text. Store the IDs as "
            "text, or cast the column to text"
        )
        raise ColumnsError(msg, location=location)
    read = functools.partial(_read_column, kinds, location, text=text)
    attributes = [
        read(column, functools.partial(attribute_column, name))
        for column, name in context.source.attributes.items()
    ]
    if len({attribute.name for attribute in attributes}) < len(attributes):
        msg = "two columns have the same attribute name. Give one of them another name"
        raise ColumnsError(msg, location=location)
    column = context.source.tags_column
    tags = read(column, tags_column) if column else None
    return {"id": ids, "attributes": combine(attributes) if attributes else None, "tags": tags}


def _read_column(
    kinds: Mapping[str, str], location: str, column: str, how: Callable[[str, str], _T | None], *, text: bool
) -> _T:
    """Return how to read a column of a type that *how* supports."""
    if column not in kinds:
        msg = f"no column {column!r}{_among(list(kinds), text=text)}"
        raise ColumnsError(msg, location=location)
    if (read := how(identifier(column), kinds[column])) is None:
        msg = f"column {column!r} has the type {kinds[column]}, which is not supported here. Convert it"
        raise ColumnsError(msg, location=location)
    return read


def check_distinct(names: Sequence[str], read: Iterable[str], wanted: Iterable[str], location: str) -> None:
    """Raise SourceError if a wanted column has the name of another one, with case ignored.

    DuckDB and SQLite ignore case. They rename such columns, and read the first of them.

    Args:
        names: The columns as the source names them.
        read: The same columns as DuckDB or SQLite names them.
        wanted: Those of *read* that are wanted.
        location: Their location, for errors.

    Raises:
        SourceError: It has.
    """
    source_name = dict(zip(read, names, strict=True))
    count = Counter(name.lower() for name in names)
    for column in wanted:
        name = source_name[column]
        if (found := count[name.lower()]) > 1:
            msg = f"{found} columns have the name {name!r}, if case is ignored. Give each its own name"
            raise ColumnsError(msg, location=location)


def checked_rows(relation: Relation, rules: IdRules) -> str:
    """Return the SELECT of a relation's rows: `raw, text, attributes, tags, reason`.

    Args:
        relation: The relation.
        rules: The rules that its IDs must follow.
    """
    # Each level of the SELECT uses columns of the one below, so DuckDB computes an expression only once.
    attributes, tags = relation.attributes or ColumnSql("NULL"), relation.tags or ColumnSql("NULL")
    raw = (
        f"SELECT {relation.id.text} AS raw, {relation.id.not_text} AS not_text, "
        f"{attributes.value} AS attributes, {tags.value} AS tags, "
        f"{attributes.reason} AS attributes_reason, {tags.reason} AS tags_reason FROM {relation.sql}"
    )
    plain = f"SELECT *, coalesce({plain_sql()}, false) AS plain FROM ({raw})"
    text = f"SELECT *, {text_sql(rules)} AS text FROM ({plain})"
    reasons = [reason_sql(rules), "attributes_reason", "tags_reason"]
    if relation.attributes or relation.tags:
        reasons.append(attribute_reason_sql(rules))
    return f"SELECT *, coalesce({', '.join(reasons)}) AS reason FROM ({text})"


def wanted_columns(source: Source, id_name: str) -> list[str]:
    """Return the columns to read, each once."""
    return list(
        dict.fromkeys([id_name, *source.attributes, *([source.tags_column] if source.tags_column else [])])
    )


@contextmanager
def explained(explain: Callable[[Exception], Exception]) -> Iterator[None]:
    """Raise DuckDB's errors as *explain* converts them, and hide the originals, which may contain a value.

    An interrupt is raised as it is.
    """
    try:
        yield
    except duckdb.InterruptException:
        raise
    except (duckdb.Error, UnicodeDecodeError) as exc:
        raise explain(exc) from None


def message_of(exc: Exception) -> str:
    """Return DuckDB's message. A message that is not UTF-8 arrives as a UnicodeDecodeError."""
    return exc.object.decode(errors="replace") if isinstance(exc, UnicodeDecodeError) else str(exc)


def is_full(exc: Exception) -> bool:
    """Return whether memory or disk is full."""
    return isinstance(exc, duckdb.OutOfMemoryException) or any(sign in str(exc) for sign in _FULL)


def describe(connection: duckdb.DuckDBPyConnection, sql: str) -> dict[str, str]:
    """Return column -> DuckDB's type for *sql*, which is the SQL after FROM."""
    rows = connection.execute(f"DESCRIBE SELECT * FROM {sql}").fetchall()
    return {row[0]: row[1] for row in rows}


def valid_text(table: str, kinds: Mapping[str, str]) -> str:
    """Return the SQL after FROM of a stream, which fails at text that is not UTF-8.

    DuckDB trusts the text that it gets by Arrow. Invalid text would break the whole state.

    Args:
        table: The stream.
        kinds: Column -> DuckDB's type of the columns to read.
    """
    checks = {
        "VARCHAR": "decode(encode({0}))",
        "JSON": "decode(encode({0}::VARCHAR))::JSON",
        "VARCHAR[]": "list_transform({0}, lambda one: decode(encode(one)))",
    }
    columns = [
        f"{checks.get(kind, '{0}').format(identifier(name))} AS {identifier(name)}"
        for name, kind in kinds.items()
    ]
    return f"(SELECT {', '.join(columns)} FROM {table})"


def temp_directory(context: ReadContext) -> str | None:
    """Return DuckDB's temp directory, so that one setting chooses the disk. None if it does not exist."""
    row = context.connection.execute("SELECT current_setting('temp_directory')").fetchall()[0]
    return row[0] if row[0] and Path(row[0]).is_dir() else None


def _listed(names: Iterable[str]) -> str:
    """Return the names of columns as text, cut after the first few."""
    shown = list(names)
    more = len(shown) - _SHOWN_NAMES
    return ", ".join(map(repr, shown[:_SHOWN_NAMES])) + (f" and {more} more" if more > 0 else "")
