"""Sources of members: files, standard input, databases and Python objects."""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import attrs

from ..._secret import Secret
from ..._validation import is_unicode, split_typed
from ...errors import InvalidInputError
from ...models import Member
from ._dsn import expand, redact

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SCHEMES = {"duckdb": "duckdb", "sqlite": "sqlite", "postgresql": "postgresql", "postgres": "postgresql"}


class Format(enum.StrEnum):
    """The format of a file. Gzip is detected by a file's content."""

    CSV = "csv"
    PARQUET = "parquet"
    JSONL = "jsonl"


@attrs.frozen(kw_only=True)
class Files:
    """A file, a directory of files, or the matches of a glob pattern, in the order of their paths.

    Attributes:
        path: A path or a pattern.
        format: Their format. None to detect it by their names.
    """

    path: str
    format: Format | None = None

    @property
    def label(self) -> str:
        """The path."""
        return self.path


@attrs.frozen(kw_only=True)
class StandardInput:
    """Standard input.

    Attributes:
        format: Its format.
    """

    format: Format = Format.CSV

    @property
    def label(self) -> str:
        """A dash."""
        return "-"


@attrs.frozen(kw_only=True)
class Database:
    """The rows of a read-only query.

    Attributes:
        dialect: `duckdb`, `sqlite` or `postgresql`.
        dsn: The address, with its password.
        query: The SELECT.
    """

    dialect: str
    dsn: Secret
    query: str = attrs.field(repr=False)

    @property
    def label(self) -> str:
        """The address without its password."""
        return redact(self.dsn.reveal())

    @property
    def path(self) -> str:
        """The database's file, or empty. As in SQLAlchemy, three slashes start a relative path."""
        return self.dsn.reveal().partition("://")[2].partition("?")[0].removeprefix("/")


@attrs.frozen(kw_only=True)
class IterableSource:
    """IDs or Members of a Python program.

    Attributes:
        items: Strings and Members. They are read once.
    """

    items: Iterable[str | Member] = attrs.field(repr=False, eq=False)

    @property
    def label(self) -> str:
        """A placeholder."""
        return "<ids>"


@runtime_checkable
class ArrowTable(Protocol):
    """A table of pyarrow, polars, pandas or another library with Arrow's C interface."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return the table as a capsule of Arrow's C stream."""
        ...


@attrs.frozen(kw_only=True)
class ArrowSource:
    """A table of a Python program.

    Attributes:
        table: The table.
    """

    table: ArrowTable = attrs.field(repr=False, eq=False)

    @property
    def label(self) -> str:
        """A placeholder."""
        return "<table>"


Location = Files | StandardInput | Database | IterableSource | ArrowSource


def _is_name(text: object) -> bool:
    """Return whether *text* can name a column and an attribute. `date()` has a type and no name."""
    if not isinstance(text, str) or "\0" in text or not is_unicode(text):
        return False
    _, bare = split_typed(text)
    return bool(bare.strip())


def _to_attributes(given: Any) -> Mapping[str, str]:
    """Return a mapping of columns to attribute names."""
    names = dict(given) if isinstance(given, Mapping) else {column: column for column in given or ()}
    texts = [*names, *names.values()]
    if isinstance(given, str) or not all(map(_is_name, texts)):
        msg = "source: attributes must be a list of column names, or a mapping of column to attribute name."
        raise InvalidInputError(msg)
    if len(set(names.values())) < len(names):
        msg = "source: two columns have the same attribute name. Give each its own name."
        raise InvalidInputError(msg)
    return names


@attrs.frozen(kw_only=True)
class Source:
    """The location of members, and their columns.

    Attributes:
        location: The files, the query or the objects.
        id_column: The column of IDs. None for `id`, `user_id`, `custom_id` or the only column.
        attributes: Column -> attribute's name.
        tags_column: The column of tags: a list, or text with commas.
    """

    location: Location
    id_column: str | None = None
    attributes: Mapping[str, str] = attrs.field(factory=dict, converter=_to_attributes, hash=False)
    tags_column: str | None = None

    @property
    def label(self) -> str:
        """The source's name for reports, without passwords and IDs."""
        return self.location.label

    @classmethod
    def parse(
        cls,
        text: str | os.PathLike[str],
        *,
        query: str | None = None,
        id_column: str | None = None,
        attributes: Iterable[str] | Mapping[str, str] | None = None,
        tags_column: str | None = None,
        format: str | None = None,  # noqa: A002  # the command line's word
    ) -> Self:
        """Return the source that a path or an address describes.

        Args:
            text: A file, a directory, a glob pattern, `-` for standard input, or a database: `duckdb:///file`,
                `duckdb://` for a query of files, `sqlite:///file`, `postgresql://user@host/name`. In the
                address of a database, `${NAME}` is an environment variable.
            query: The SELECT, for a database only.
            id_column: The column of IDs. None for `id`, `user_id`, `custom_id` or the only column.
            attributes: Columns that become attributes, or a mapping of column to attribute's name.
            tags_column: The column of tags.
            format: `csv`, `jsonl` or `parquet`. None to detect it by the files' names.

        Raises:
            InvalidInputError: If it is not a source, or its parts do not fit together.
        """
        location = _parse_location(os.fspath(text), query, _parse_format(format))
        return cls(location=location, id_column=id_column, attributes=attributes, tags_column=tags_column)

    @classmethod
    def of(cls, source: SourceLike) -> Self:
        """Return *source* as a Source.

        Args:
            source: A Source, the text of `parse`, a path, an iterable of IDs or Members, or an Arrow table.

        Raises:
            InvalidInputError: If it is none of these.
        """
        if isinstance(source, cls):
            return source
        if isinstance(source, str | Path):
            return cls.parse(source)
        if isinstance(source, ArrowTable):
            return cls(location=ArrowSource(table=source))
        if isinstance(source, Iterable) and not isinstance(source, bytes | Mapping):
            return cls(location=IterableSource(items=source))
        kind = type(source).__name__
        msg = f"source: cannot read members from {kind}. Pass a path, a Source, IDs or a table."
        raise InvalidInputError(msg)


# What `Source.of` accepts.
SourceLike = Source | str | Path | Iterable[str | Member] | ArrowTable


def _parse_format(name: str | None) -> Format | None:
    try:
        return None if name is None else Format(name)
    except ValueError:
        msg = f"source: format must be one of {', '.join(Format)}."
        raise InvalidInputError(msg) from None


def _parse_location(text: str, query: str | None, file_format: Format | None) -> Location:
    address = expand(text) if "${" in text else text
    if match := _SCHEME.match(address):
        return _parse_database(address, match[1].lower(), query, file_format)
    if "://" in address:  # not a path: it may contain a password, and paths are shown
        msg = "source: an address starts with duckdb://, sqlite:// or postgresql://."
        raise InvalidInputError(msg)
    if query is not None:
        msg = "source: a query needs a database. To query files, use duckdb:// and name them in the query."
        raise InvalidInputError(msg)
    if not address:
        msg = "source: the path is empty."
        raise InvalidInputError(msg)
    if address == "-":
        return StandardInput(format=file_format or Format.CSV)
    return Files(path=address, format=file_format)


def _parse_database(address: str, scheme: str, query: str | None, file_format: Format | None) -> Database:
    if scheme not in _SCHEMES:
        msg = (
            f"source: {scheme}:// is not supported. Use a local file, duckdb://, sqlite:// or postgresql://."
        )
        raise InvalidInputError(msg)
    if query is None or not query.strip(" \t\r\n;"):
        msg = f"source: {redact(address)} needs a query that selects the IDs."
        raise InvalidInputError(msg)
    if file_format is not None:
        msg = f"source: {redact(address)} is a database. Only files have a format."
        raise InvalidInputError(msg)
    location = Database(dialect=_SCHEMES[scheme], dsn=Secret(address), query=query.strip(" \t\r\n;"))
    if location.dialect == "sqlite" and not location.path:
        msg = "source: sqlite:// needs a file: sqlite:///relative/path or sqlite:////absolute/path."
        raise InvalidInputError(msg)
    return location
