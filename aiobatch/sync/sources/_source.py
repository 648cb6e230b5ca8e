"""Sources of members: files, standard input, databases and Python objects."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import attrs

from ..._validation import is_unicode, split_typed
from ...errors import InvalidInputError
from ...models import Member
from .._option_fields import FLAG, SECONDS, Check, documented, instance_of, metadata, one_of, option, optional
from ._dsn import has_literal_password
from ._location import (
    ArrowSource,
    ArrowTable,
    Database,
    Format,
    IterableSource,
    LakeTable,
    Location,
    Objects,
    StandardInput,
    parse_format,
    parse_location,
)

DELIMITER = Check(
    text="one character that is no quote and ends no line",
    accepts=lambda value: isinstance(value, str) and len(value) == 1 and value not in '"\r\n\0',
)


def _is_name(text: object) -> bool:
    """Return whether *text* can name a column and an attribute. `date()` has a type and no name."""
    if not isinstance(text, str) or "\0" in text or not is_unicode(text):
        return False
    _, bare = split_typed(text)
    return bool(bare.strip())


def _to_delimiter(given: object) -> object:
    """Return a delimiter, in which a tab may be written as a shell can."""
    return "\t" if given in {r"\t", "tab"} else given


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


def _location_of(source: Source) -> Location:
    """Return what the text of a source names."""
    if source.path is None:
        msg = "source: pass a path, or the location itself."
        raise InvalidInputError(msg)
    if has_literal_password(source.path):
        msg = "source: write ${NAME}, an environment variable, in place of the password."
        raise InvalidInputError(msg)
    return parse_location(source.path, source.query, source.format)


@documented
@attrs.frozen(kw_only=True)
class Source:
    """Where members come from, and in which columns they are.

    The fields but `location` are what a person writes. A saved plan keeps them and reads the source again.
    """

    path: str | None = attrs.field(
        default=None,
        repr=False,
        metadata=metadata("Read this file, directory, pattern or database.", unit="source"),
    )
    query: str | None = attrs.field(
        default=None,
        repr=False,
        metadata=metadata(
            "Select the members with this query, if the source is a database.", unit="SQL", group="source"
        ),
    )
    id_column: str | None = option(
        "Read IDs from this column or number. Default: id, user_id, custom_id.",
        default=None,
        check=optional(instance_of(str)),
        unit="column",
        group="source",
    )
    attributes: Mapping[str, str] = attrs.field(
        factory=dict,
        converter=_to_attributes,
        hash=False,
        metadata=metadata(
            "Send these columns as attributes, some under another name.", unit="columns", group="source"
        ),
    )
    tags_column: str | None = option(
        "Read tags from this column: a list, or comma-separated text.",
        default=None,
        check=optional(instance_of(str)),
        unit="column",
        group="source",
    )
    format: Format | None = attrs.field(
        default=None,
        converter=parse_format,
        metadata=metadata(
            "Read files in this format. Default: detected by the name of each file.",
            check=optional(one_of(Format, *Format)),
            group="source",
        ),
    )
    header: bool = option(
        "Read the first line of CSV files as a header.", default=True, check=FLAG, group="source"
    )
    delimiter: str | None = option(
        "Separate the cells of CSV files with this character. Default: detected.",
        default=None,
        check=optional(DELIMITER),
        converter=_to_delimiter,
        unit="character",
        group="source",
    )
    source_timeout: float = option(
        "Wait this long for a database that is locked or does not answer.",
        default=30.0,
        check=SECONDS,
        unit="seconds",
        group="source",
    )
    location: Location = attrs.field(default=attrs.Factory(_location_of, takes_self=True))

    @property
    def label(self) -> str:
        """The name of the source for reports, without password and IDs."""
        return self.location.label

    def rereadable(self) -> Self:
        """Return the source for another process and directory: its path is absolute.

        Raises:
            InvalidInputError: It can be read only once, or it holds a password.
        """
        if isinstance(self.location, Database | Objects) and self.path is None:
            msg = (
                "A saved plan holds no password. Put it into an environment variable, and write '${NAME}' in "
                "its place, such as 'postgresql://me:${PGPASSWORD}@host/db'."
            )
            raise InvalidInputError(msg)
        if self.path is None or isinstance(self.location, StandardInput):
            msg = f"A saved plan reads its source again, and {self.label} can be read only once. Use a file."
            raise InvalidInputError(msg)
        if isinstance(self.location, Database | Objects | LakeTable) or self.path.startswith("${"):
            return self
        return attrs.evolve(self, path=str(Path(self.path).absolute()), location=self.location)

    @classmethod
    def parse(
        cls,
        text: str | os.PathLike[str],
        *,
        query: str | None = None,
        attributes: Iterable[str] | Mapping[str, str] | None = None,
        format: str | None = None,  # noqa: A002  # the command line's word
        **reading: Any,
    ) -> Self:
        """Return the source that a path or an address describes.

        Args:
            text: A file, a directory, a glob pattern, `-` for standard input, or a database: `duckdb:///file`,
                `duckdb://` for a query of files, `sqlite:///file`, `postgresql://user@host/name`, or
                `adbc+DRIVER://` for any ADBC driver. Objects at `s3://`, `gs://` and `az://` and files at
                `https://` are read like files, and `delta://` and `iceberg://` name tables. In an address,
                `${NAME}` is an environment variable.
            query: The SELECT, for a database only.
            attributes: Columns that become attributes, or a mapping of column to attribute's name.
            format: `csv`, `jsonl` or `parquet`. None to detect it by the files' names.
            **reading: `id_column`, the column of IDs by name, or by number from 1. `tags_column`, the column
                of tags. `header`, whether CSV files have one: if not, columns are named by their numbers.
                `delimiter`, the character between two cells of CSV files. `source_timeout` in seconds.

        Raises:
            InvalidInputError: If it is not a source, or its parts do not fit together.
        """
        path = os.fspath(text)
        return cls(
            path=None if has_literal_password(path) else path,
            query=query,
            attributes=attributes,
            format=format,
            **reading,
            location=parse_location(path, query, format),
        )

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
