"""Relations: what DuckDB reads from any kind of source, and the choice of their columns."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import attrs
import duckdb

from ...models import IdType
from .._errors import SourceError
from .._sql import identifier, literal
from ._attributes import ColumnSql, attribute_column, combine, tags_column
from ._id_rules import IdColumn, IdRules, id_column, plain_sql, reason_sql, text_sql
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
_LOOKS_LIKE_AN_ID = re.compile(r".*[0-9@].*", re.DOTALL)
_SHOWN_NAMES = 20
_FULL = ("No space left on device", "max_temp_directory_size", "exceeds the maximum allowed")


@attrs.frozen(kw_only=True)
class SourceFile:
    """A complete regular file.

    Attributes:
        path: Its path.
        shown: Its name in errors. Standard input is first written to a temporary file.
        compressed: Whether it is compressed with gzip.
    """

    path: str
    shown: str
    compressed: bool

    def open(self) -> IO[bytes]:
        """Open it for reading, decompressed."""
        return cast("IO[bytes]", gzip.open(self.path)) if self.compressed else Path(self.path).open("rb")

    @property
    def sql(self) -> str:
        """Its path as SQL: absolute, so that DuckDB sees no URL, and without patterns."""
        return literal(re.sub(r"([*?\[])", r"[\1]", str(Path(self.path).absolute())))

    @property
    def compression(self) -> str:
        """Its compression, as SQL."""
        return "'gzip'" if self.compressed else "'none'"


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


@attrs.frozen(kw_only=True)
class ReadContext:
    """What reading a source needs.

    Attributes:
        connection: The connection that reads.
        source: The source, with the wanted columns.
        id_type: The type of the IDs. An ID column may have its name.
        interruptible: Interrupts the reading.
        bare: Whether files contain one ID per line and no header.
    """

    connection: duckdb.DuckDBPyConnection
    source: Source
    id_type: IdType
    interruptible: InterruptibleQuery
    bare: bool = False


Relations = Generator[Relation, None, None]


def choose_id(context: ReadContext, names: Sequence[str], location: str, *, header: bool = False) -> str:
    """Return the name of the ID column.

    Args:
        context: The context, with the source.
        names: The columns.
        location: Their location, for errors.
        header: Whether the names are the first line of a text file, which may not be a header.

    Raises:
        SourceError: If it is missing, or there are several candidates.
    """
    wanted = context.source.id_column
    known = (*_ID_NAMES, *_ID_NAMES_OF.get(context.id_type, ()))
    found = [wanted] if wanted else [name for name in names if name.lower() in known]
    if not found and len(names) == 1 and not (header and _LOOKS_LIKE_AN_ID.fullmatch(names[0])):
        found = list(names)
    if len(found) == 1 and names.count(found[0]) == 1:
        return found[0]
    if header and len(names) == 1:
        what = f"the header has no column {wanted!r}" if wanted else "the first line is not a header"
        msg = f"{what}. Write a header above the IDs, such as 'id'. If it has another name, set id_column"
        raise SourceError(msg, location=location, line=1)
    what = f"no single column {wanted!r}" if wanted else "no single column with a name of an ID column"
    # The first row of a file without a header may contain IDs, which no message shows.
    among = "" if header and any(map(_LOOKS_LIKE_AN_ID.fullmatch, names)) else f" among {_listed(names)}"
    msg = f"{what}{among}. Set id_column to the column of the IDs"
    raise SourceError(msg, location=location)


def columns_of(context: ReadContext, kinds: Mapping[str, str], id_name: str, location: str) -> dict[str, Any]:
    """Return the fields of a Relation that describe its columns.

    Args:
        context: The context, with the source.
        kinds: Column -> DuckDB's type.
        id_name: The ID column.
        location: Their location, for errors.

    Raises:
        SourceError: If a column is missing, or its type is not supported.
    """
    ids = id_column(identifier(id_name), kinds[id_name])
    if ids is None:
        msg = (
            f"column {id_name!r} has the type {kinds[id_name]}, which has no exact text. Store the IDs as "
            "text, or cast the column to text"
        )
        raise SourceError(msg, location=location)
    attributes = [
        _found(
            attribute_column(name, identifier(column), _kind(kinds, column, location)),
            kinds,
            column,
            location,
        )
        for column, name in context.source.attributes.items()
    ]
    if len({attribute.name for attribute in attributes}) < len(attributes):
        msg = "two columns have the same attribute name. Give one of them another name"
        raise SourceError(msg, location=location)
    tags = None
    if column := context.source.tags_column:
        tags = _found(
            tags_column(identifier(column), _kind(kinds, column, location)), kinds, column, location
        )
    return {"id": ids, "attributes": combine(attributes) if attributes else None, "tags": tags}


def _kind(kinds: Mapping[str, str], column: str, location: str) -> str:
    if column not in kinds:
        msg = f"no column {column!r} among {_listed(kinds)}"
        raise SourceError(msg, location=location)
    return kinds[column]


def _found(read: _T | None, kinds: Mapping[str, str], column: str, location: str) -> _T:
    if read is None:
        msg = f"column {column!r} has the type {kinds[column]}, which is not supported here. Convert it"
        raise SourceError(msg, location=location)
    return read


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
    return f"SELECT *, coalesce({reason_sql(rules)}, attributes_reason, tags_reason) AS reason FROM ({text})"


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


def _listed(names: Iterable[str]) -> str:
    """Return the names of columns as text, cut after the first few."""
    shown = list(names)
    more = len(shown) - _SHOWN_NAMES
    return ", ".join(map(repr, shown[:_SHOWN_NAMES])) + (f" and {more} more" if more > 0 else "")
