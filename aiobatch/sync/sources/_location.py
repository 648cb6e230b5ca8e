"""Locations of members: files, standard input, objects in a cloud store, databases and Python objects."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit

import attrs

from ..._secret import Secret
from ...errors import InvalidInputError
from ...models import Member
from ._dsn import expand, redact
from ._object_stores import ALIASES, SCHEMES, ObjectAddress, is_loopback

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# A semicolon and comments. With a quote in them, the end could be that of a text.
_END = re.compile(r"\s*;(\s|;|--[^\n'\"]*(\n|\Z)|/\*[^*'\"]*\*/)*\Z")
_SCHEMES = {"duckdb": "duckdb", "sqlite": "sqlite", "postgresql": "postgresql", "postgres": "postgresql"}
_ADBC = re.compile(r"adbc\+[a-z][a-z0-9_-]*")
_SUPPORTED = "s3://, gs://, az://, https://, duckdb://, sqlite://, postgresql://, adbc+DRIVER://, delta:// or iceberg://"


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
class Objects:
    """An object in a cloud store or on a web server, a directory of objects, or the matches of a pattern.

    Attributes:
        url: The address. That of a web server may contain a password or a signature.
        format: Their format. None to detect it by their names.
    """

    url: Secret
    format: Format | None = None

    @property
    def label(self) -> str:
        """The address without its password and parameters."""
        return redact(self.url.reveal())


@attrs.frozen(kw_only=True)
class LakeTable:
    """A table of Delta Lake or Iceberg.

    Attributes:
        kind: `delta` or `iceberg`.
        table: Its path or address, or `catalog/namespace.table` of Iceberg.
        version: The version or snapshot to read. None for the current one.
    """

    kind: str
    table: str
    version: int | None = None

    @property
    def label(self) -> str:
        """The address."""
        return f"{self.kind}://{redact(self.table)}"


@attrs.frozen(kw_only=True)
class Database:
    """The rows of a read-only query.

    Attributes:
        dialect: `duckdb`, `sqlite`, `postgresql`, or `adbc` for any driver.
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


Location = Files | StandardInput | Objects | LakeTable | Database | IterableSource | ArrowSource


def parse_format(name: str | None) -> Format | None:
    try:
        return None if name is None else Format(name)
    except ValueError:
        msg = f"source: format must be one of {', '.join(Format)}."
        raise InvalidInputError(msg) from None


def parse_location(text: str, query: str | None, format_name: str | None) -> Location:
    """Return the files, the standard input or the database that *text* names.

    Raises:
        InvalidInputError: The text names none of these, or its parts do not fit together.
    """
    file_format = parse_format(format_name)
    address = expand(text) if "${" in text else text
    if match := _SCHEME.match(address):
        scheme = match[1].lower()
        if scheme in _SCHEMES or _ADBC.fullmatch(scheme):
            return _parse_database(address, scheme, query, file_format)
        _check_no_query(query)
        if scheme in {"delta", "iceberg"}:
            return _parse_lake(scheme, address, file_format)
        _check_scheme(scheme, address)
        return Objects(url=Secret(address), format=file_format)
    if "://" in address:  # not a path: it may contain a password, and paths are shown
        msg = f"source: an address starts with {_SUPPORTED}."
        raise InvalidInputError(msg)
    _check_no_query(query)
    if not address:
        msg = "source: the path is empty."
        raise InvalidInputError(msg)
    if address == "-":
        return StandardInput(format=file_format or Format.CSV)
    return Files(path=address, format=file_format)


def _check_no_query(query: str | None) -> None:
    if query is not None:
        msg = "source: a query needs a database. To query files, use duckdb:// and name them in the query."
        raise InvalidInputError(msg)


def _parse_lake(kind: str, address: str, file_format: Format | None) -> LakeTable:
    table, _, parameters = address.partition("://")[2].partition("?")
    version = re.fullmatch(r"(?:version|snapshot)=(\d{1,19})", parameters)
    if not table or "@" in table.rpartition("://")[2].partition("/")[0] or (parameters and not version):
        msg = (
            f"source: after {kind}:// write a path or an address, and ?version=NUMBER for another version "
            "than the current one. Credentials come from the environment."
        )
        raise InvalidInputError(msg)
    if file_format is not None:
        msg = f"source: {kind}:// is a table. Only files have a format."
        raise InvalidInputError(msg)
    return LakeTable(kind=kind, table=table, version=int(version[1]) if version else None)


def _check_scheme(scheme: str, address: str) -> None:
    """Raise InvalidInputError if *address* is none of an object store or a web server."""
    if scheme in SCHEMES:
        ObjectAddress.parse(address, "source")
        return
    if scheme == "http" and not is_loopback(address):
        msg = "source: http:// is not encrypted. Use https://."
        raise InvalidInputError(msg)
    if scheme not in {"http", "https"}:
        instead = "Write the path alone" if scheme == "file" else f"Use a local file, {_SUPPORTED}"
        instead = f"Use {ALIASES[scheme]}://bucket/path" if scheme in ALIASES else instead
        msg = f"source: {scheme}:// is not supported. {instead}."
        raise InvalidInputError(msg)
    _check_url(address)


def _check_url(address: str) -> None:
    """Raise InvalidInputError if a URL names no host, or several files."""
    try:
        parts = urlsplit(address)
        host, path, _ = parts.hostname, parts.path, parts.port
    except ValueError:
        host, path = None, ""
    if not host:
        msg = "source: the address is not a URL with a host. In a password, write %40 for @, %2F for /."
        raise InvalidInputError(msg)
    if path.endswith("/") or re.search(r"[*[\]]", path):
        msg = f"source: {redact(address)} is a directory or a pattern. Web servers list no files: name one."
        raise InvalidInputError(msg)


def _parse_database(address: str, scheme: str, query: str | None, file_format: Format | None) -> Database:
    if query is None or not query.strip(" \t\r\n;"):
        msg = f"source: {redact(address)} needs a query that selects the IDs."
        raise InvalidInputError(msg)
    if file_format is not None:
        msg = f"source: {redact(address)} is a database. Only files have a format."
        raise InvalidInputError(msg)
    location = Database(
        dialect=_SCHEMES.get(scheme, "adbc"), dsn=Secret(address), query=_one_statement(query)
    )
    if location.dialect == "sqlite" and not location.path:
        msg = "source: sqlite:// needs a file: sqlite:///relative/path or sqlite:////absolute/path."
        raise InvalidInputError(msg)
    return location


def _one_statement(query: str) -> str:
    """Return a query without the semicolon at its end, and without comments after it."""
    return _END.sub("", query).strip()
