"""What every kind of source is turned into: relations that DuckDB reads, with their columns chosen."""

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
_ID_NAMES_OF = {IdType.ADVERTISING_IDS: ("advertising_id",), IdType.INSTALL_IDS: ("install_id",)}
# A file of bare ids has its first id where the header should be; names of columns rarely look like this.
_LOOKS_LIKE_AN_ID = re.compile(r".*[0-9@].*", re.DOTALL)
_SHOWN_NAMES = 20


@attrs.frozen(kw_only=True)
class SourceFile:
    """A regular file, found whole.

    Attributes:
        path: Where it is.
        shown: Its name for the reader of an error; standard input is not the file that it was read into.
        compressed: Whether it is gzip.
    """

    path: str
    shown: str
    compressed: bool

    def open(self) -> IO[bytes]:
        """Open it for reading what is in it, decompressed."""
        return cast("IO[bytes]", gzip.open(self.path)) if self.compressed else Path(self.path).open("rb")

    @property
    def sql(self) -> str:
        """Its path as SQL, absolute so that it is never taken for a URL, and never for a pattern."""
        return literal(re.sub(r"([*?\[])", r"[\1]", str(Path(self.path).absolute())))

    @property
    def compression(self) -> str:
        """DuckDB's word for its compression, as SQL."""
        return "'gzip'" if self.compressed else "'none'"


@attrs.frozen(kw_only=True)
class Relation:
    """Rows that are read in one statement.

    Attributes:
        location: Where they stand, for errors and the rejects file.
        sql: What to write after FROM.
        id: The id column.
        attributes: The attributes, where any are asked for.
        tags: The tags, where they are asked for.
        parameters: Values of the placeholders in `sql`.
        first_row: Number of the first row.
        rows: How many there are, where that is known beforehand.
        schemaless: Whether a column that stands in no row at all goes unnoticed by the reader.
        explain: Turns what DuckDB raised while reading into the error to raise.
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
    """What a reader of sources works with.

    Attributes:
        connection: The connection that does the work.
        source: Whose columns are asked for.
        id_type: What the ids are; an id column may be named after it.
        interruptible: Told of what can be stopped; asked whether to go on.
        bare: Whether files contain one ID per line and no header.
    """

    connection: duckdb.DuckDBPyConnection
    source: Source
    id_type: IdType
    interruptible: InterruptibleQuery
    bare: bool = False


Relations = Generator[Relation, None, None]


def choose_id(context: ReadContext, names: Sequence[str], location: str, *, header: bool = False) -> str:
    """Name the column of ids.

    Args:
        context: Whose source it is.
        names: The columns that there are.
        location: Where, for errors.
        header: Whether the names are the first line of a text, which may be no header at all.

    Raises:
        SourceError: It is missing, or there are several candidates.
    """
    wanted = context.source.id_column
    known = (*_ID_NAMES, *_ID_NAMES_OF.get(context.id_type, ()))
    found = [wanted] if wanted else [name for name in names if name.lower() in known]
    if not found and len(names) == 1 and not (header and _LOOKS_LIKE_AN_ID.fullmatch(names[0])):
        found = list(names)
    if len(found) == 1 and names.count(found[0]) == 1:
        return found[0]
    if header and len(names) == 1:
        msg = "the first line is no header that names the column of ids"
        if wanted:
            msg = f"the first line names no column {wanted!r}"
        msg = f"{msg}; write one above the ids, such as 'id', and give its name where it is another"
        raise SourceError(msg, location=location, line=1)
    what = f"no single column {wanted!r}" if wanted else "no single column that is known to hold the ids"
    msg = f"{what} among {_listed(names)}; name it with id_column (--id-column)"
    raise SourceError(msg, location=location)


def columns_of(context: ReadContext, kinds: Mapping[str, str], id_name: str, location: str) -> dict[str, Any]:
    """Return the part of a Relation that says how to read its columns.

    Args:
        context: Whose source it is.
        kinds: Column -> DuckDB's type.
        id_name: The column of ids.
        location: Where, for errors.

    Raises:
        SourceError: A column is missing or of a type that cannot be what it is wanted for.
    """
    ids = id_column(identifier(id_name), kinds[id_name])
    if ids is None:
        msg = (
            f"column {id_name!r} is {kinds[id_name]}: such ids lose digits or have no one way to be written; "
            "store them as text, or cast the column to text where they are whole"
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
        msg = "two columns would become the same attribute; name one of them otherwise"
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
        msg = f"column {column!r} is {kinds[column]}, which cannot become what it is wanted for; convert it"
        raise SourceError(msg, location=location)
    return read


def checked_rows(relation: Relation, rules: IdRules) -> str:
    """Return the SELECT of a relation's rows: `raw, text, attributes, tags, reason`.

    Args:
        relation: The relation.
        rules: The rules that its IDs must follow.
    """
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
    """List the columns that have to be read, each once."""
    return list(
        dict.fromkeys([id_name, *source.attributes, *([source.tags_column] if source.tags_column else [])])
    )


@contextmanager
def explained(explain: Callable[[Exception], Exception]) -> Iterator[None]:
    """Raise what *explain* makes of DuckDB's words, and none of these, which may show a value.

    An interrupt is nobody's fault and comes through.
    """
    try:
        yield
    except duckdb.InterruptException:
        raise
    except (duckdb.Error, UnicodeDecodeError) as exc:
        raise explain(exc) from None


def message_of(exc: Exception) -> str:
    """Return what DuckDB said; its text of a byte that is no UTF-8 cannot become an exception of its own."""
    return exc.object.decode(errors="replace") if isinstance(exc, UnicodeDecodeError) else str(exc)


def describe(connection: duckdb.DuckDBPyConnection, sql: str) -> dict[str, str]:
    """Return column -> DuckDB's type of what *sql*, written after FROM, gives."""
    rows = connection.execute(f"DESCRIBE SELECT * FROM {sql}").fetchall()
    return {row[0]: row[1] for row in rows}


def _listed(names: Iterable[str]) -> str:
    """Write the names of columns, cut where there are too many to help."""
    shown = list(names)
    more = len(shown) - _SHOWN_NAMES
    return ", ".join(map(repr, shown[:_SHOWN_NAMES])) + (f" and {more} more" if more > 0 else "")
