"""What members may come from, as values: files, standard input, databases, Python objects."""

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
    """How the rows of a file are written; gzip is told by a file's content."""

    CSV = "csv"
    PARQUET = "parquet"
    JSONL = "jsonl"


@attrs.frozen(kw_only=True)
class Files:
    """A file, a directory of files, or the matches of a glob pattern, in the order of their paths.

    Attributes:
        path: A path or a pattern.
        format: How they are written; None to tell it by their names.
    """

    path: str
    format: Format | None = None

    @property
    def label(self) -> str:
        """The path, for showing."""
        return self.path


@attrs.frozen(kw_only=True)
class StandardInput:
    """What is piped in.

    Attributes:
        format: How it is written.
    """

    format: Format = Format.CSV

    @property
    def label(self) -> str:
        """A dash, for showing."""
        return "-"


@attrs.frozen(kw_only=True)
class Database:
    """The rows of a query, which is run read-only.

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
        """The address without its password, for showing."""
        return redact(self.dsn.reveal())

    @property
    def path(self) -> str:
        """The database's file; empty for none. As in SQLAlchemy, three slashes lead to a relative path."""
        return self.dsn.reveal().partition("://")[2].partition("?")[0].removeprefix("/")


@attrs.frozen(kw_only=True)
class IterableSource:
    """Ids or Members out of a Python program.

    Attributes:
        items: Strings and Members, read once.
    """

    items: Iterable[str | Member] = attrs.field(repr=False, eq=False)

    @property
    def label(self) -> str:
        """What it is, for showing."""
        return "<ids>"


@runtime_checkable
class ArrowTable(Protocol):
    """A table in Arrow's layout: of pyarrow, polars, pandas or whatever else speaks its C interface."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Give the table as a capsule of Arrow's C stream."""
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
        """What it is, for showing."""
        return "<table>"


Location = Files | StandardInput | Database | IterableSource | ArrowSource


def _is_name(text: object) -> bool:
    """Tell whether *text* can name a column and an attribute: `date()` types an attribute without a name."""
    if not isinstance(text, str) or "\0" in text or not is_unicode(text):
        return False
    _, bare = split_typed(text)
    return bool(bare.strip())


def _to_attributes(given: Any) -> Mapping[str, str]:
    """Bring a list of columns, or a mapping of columns to attributes' names, into one form."""
    names = dict(given) if isinstance(given, Mapping) else {column: column for column in given or ()}
    texts = [*names, *names.values()]
    if isinstance(given, str) or not all(map(_is_name, texts)):
        msg = "source: attributes must be a list of column names, or a mapping of column to attribute name"
        raise InvalidInputError(msg)
    if len(set(names.values())) < len(names):
        msg = "source: two columns cannot become the same attribute; give each its own name"
        raise InvalidInputError(msg)
    return names


@attrs.frozen(kw_only=True)
class Source:
    """Where members come from, and in which columns they stand.

    Attributes:
        location: The files, the query or the objects.
        id_column: The column of ids; None for `id`, `user_id`, `custom_id` or the only one.
        attributes: Column -> attribute's name.
        tags_column: The column of tags: a list, or text with commas.
    """

    location: Location
    id_column: str | None = None
    attributes: Mapping[str, str] = attrs.field(factory=dict, converter=_to_attributes, hash=False)
    tags_column: str | None = None

    @property
    def label(self) -> str:
        """The source's name for reports; no password and no id is in it."""
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
        format: str | None = None,  # noqa: A002  # the word that a person writes on the command line
    ) -> Self:
        """Read what a person writes for a source.

        Args:
            text: A file, a directory, a glob pattern; `-` for standard input; or a database:
                `duckdb:///file`, `duckdb://` for a query over files, `sqlite:///file`, `postgresql://user@host/name`.
                `${NAME}` in a database's address stands for an environment variable.
            query: The SELECT; for a database, and only there.
            id_column: The column of ids; None for `id`, `user_id`, `custom_id` or the only one.
            attributes: Columns that become attributes, or a mapping of column to attribute's name.
            tags_column: The column of tags.
            format: `csv`, `jsonl` or `parquet`; None to tell it by the files' names.

        Raises:
            InvalidInputError: It is no source, or its parts do not fit together.
        """
        location = _parse_location(os.fspath(text), query, _parse_format(format))
        return cls(location=location, id_column=id_column, attributes=attributes, tags_column=tags_column)

    @classmethod
    def of(cls, source: SourceLike) -> Self:
        """Make a source of whatever a program gives.

        Args:
            source: A Source, a path or what `parse` reads, an iterable of ids or Members, or an Arrow table.

        Raises:
            InvalidInputError: It is none of these.
        """
        if isinstance(source, cls):
            return source
        if isinstance(source, str | Path):
            return cls.parse(source)
        if isinstance(source, ArrowTable):
            return cls(location=ArrowSource(table=source))
        if isinstance(source, Iterable) and not isinstance(source, bytes | Mapping):
            return cls(location=IterableSource(items=source))
        msg = (
            f"source: cannot read members from {type(source).__name__}; give a path, a Source, ids or a table"
        )
        raise InvalidInputError(msg)


# What a program may give for a source.
SourceLike = Source | str | Path | Iterable[str | Member] | ArrowTable


def _parse_format(name: str | None) -> Format | None:
    try:
        return None if name is None else Format(name)
    except ValueError:
        msg = f"source: format must be one of {', '.join(Format)}"
        raise InvalidInputError(msg) from None


def _parse_location(text: str, query: str | None, file_format: Format | None) -> Location:
    """Tell files, standard input and databases apart."""
    address = expand(text) if "${" in text else text
    if match := _SCHEME.match(address):
        return _parse_database(address, match[1].lower(), query, file_format)
    if "://" in address:  # no path: it may hold a password, and a path is shown
        msg = "source: an address begins with its scheme: duckdb://, sqlite:// or postgresql://"
        raise InvalidInputError(msg)
    if query is not None:
        msg = "source: a query needs a database; to query files, give duckdb:// and name them in the query"
        raise InvalidInputError(msg)
    if not address:
        msg = "source: the path is empty"
        raise InvalidInputError(msg)
    if address == "-":
        return StandardInput(format=file_format or Format.CSV)
    return Files(path=address, format=file_format)


def _parse_database(address: str, scheme: str, query: str | None, file_format: Format | None) -> Database:
    if scheme not in _SCHEMES:
        msg = f"source: {scheme}:// cannot be read; give a local file, or one of duckdb://, sqlite://, postgresql://"
        raise InvalidInputError(msg)
    if query is None or not query.strip(" \t\r\n;"):
        msg = f"source: {redact(address)} needs a query: the SELECT that gives the ids"
        raise InvalidInputError(msg)
    if file_format is not None:
        msg = f"source: {redact(address)} is a database; a format is for files"
        raise InvalidInputError(msg)
    location = Database(dialect=_SCHEMES[scheme], dsn=Secret(address), query=query.strip(" \t\r\n;"))
    if location.dialect == "sqlite" and not location.path:
        msg = "source: sqlite:// needs a file: sqlite:///relative/path or sqlite:////absolute/path"
        raise InvalidInputError(msg)
    return location
