"""Files and standard input as relations.

DuckDB 2.0 detects most damage. This module checks the rest: the checksum of a gzip file, and whether a file
changes while it is read.
"""

from __future__ import annotations

import gzip
import io
import stat
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

import attrs

from ..._errors import SourceError
from ..._private_files import SPOOL_PREFIX
from .._location import Files, Format, StandardInput
from .._relation import ColumnsError, ReadContext, Relation, Relations, temp_directory
from .._source_file import QuoteScan, SourceFile
from ._csv import bare_relations, csv_relation
from ._find import check_no_table, check_unchanged, find_files, take_stamp, take_stamps
from ._jsonl import jsonl_relation
from ._parquet import parquet_relation
from ._pipe import open_without_waiting, piped_blocks
from ._recognise import ENDS_EARLY, HEAD, IS_WIDE, MARKS, misnamed, recognised

_SUFFIXES = {
    ".csv": Format.CSV,
    ".tsv": Format.CSV,
    ".parquet": Format.PARQUET,
    ".pq": Format.PARQUET,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".json": Format.JSONL,
}
_RELATIONS: dict[Format, Callable[[ReadContext, SourceFile], Relation]] = {
    Format.CSV: csv_relation,
    Format.PARQUET: parquet_relation,
    Format.JSONL: jsonl_relation,
}
# A list of IDs shrinks to a tenth, not to a thousandth as a file of zeros.
_MOST_RATIO = 200
_MOST_PLAIN = 256 * 1024 * 1024
# Bytes that are more than any mark of a compressed file has.
_START = 16
_BLOCK = 1024 * 1024


def read_files(context: ReadContext, location: Files) -> Relations:
    """Yield one relation per file, in the order of their paths. The files are one snapshot with one contract.

    Raises:
        SourceError: If there is no file, they differ, one of them cannot be read, or they change meanwhile.
    """
    with _file_errors(location.path):
        paths = find_files(location.path)
        formats = {path: location.format or _format_of(context, path) for path in paths}
        check_no_table(paths)
        stamps = take_stamps(paths)
    check_one_format(formats.values(), location.path)
    yield from with_one_contract(_read(context, path, one) for path, one in formats.items())
    with _file_errors(location.path):
        check_unchanged(location.path, stamps)


def check_one_format(formats: Iterable[Format], location: str) -> None:
    """Raise SourceError if the files of a source have several formats.

    Raises:
        SourceError: They have.
    """
    if len(set(formats)) > 1:
        names = ", ".join(sorted(set(formats)))
        msg = f"the files have several formats ({names}). Use a pattern that matches one of them"
        raise SourceError(msg, location=location)


def with_one_contract(files: Iterable[Relations]) -> Relations:
    """Yield the relations of files, which need the same columns.

    Raises:
        SourceError: They differ.
    """
    first: Relation | None = None
    for relations in files:
        for relation in _same_columns(relations, first):
            yield relation
            first = first if first is not None and first.contract.id_name else relation


def _same_columns(relations: Relations, first: Relation | None) -> Relations:
    """Yield the relations of a file that has the columns of the first one."""
    with closing(relations):
        try:
            for relation in relations:
                if first is not None and (difference := first.contract.difference(relation.contract)):
                    msg = f"it differs from {first.location!r}: {difference}. Read them apart"
                    raise SourceError(msg, location=relation.location)
                yield relation
        except ColumnsError as error:
            if first is None:
                raise
            msg = f"its columns differ from those of {first.location!r}: {error.problem}"
            raise SourceError(msg, location=error.location, line=error.line) from None


def read_standard_input(context: ReadContext, location: StandardInput) -> Relations:
    """Yield the relation of standard input. It is first copied to a temporary file.

    Raises:
        SourceError: If standard input is a terminal or closed, or cannot be read.
    """
    if sys.stdin is None:
        msg = "standard input is closed. Name a file, or pipe the IDs in"
        raise SourceError(msg, location=location.label)
    if sys.stdin.isatty():
        msg = "standard input is a terminal. Name a file, or pipe the IDs in"
        raise SourceError(msg, location=location.label)
    yield from _copied(context, sys.stdin.buffer, location.format, location.label)


def _format_of(context: ReadContext, path: str) -> Format:
    """Return a file's format by its name. A pipe without a known suffix is a CSV."""
    if stat.S_ISREG(Path(path).stat().st_mode):
        return format_of(context, path, path)
    return _SUFFIXES.get(_suffix(path), Format.CSV)


def _suffix(name: str) -> str:
    """Return the suffix of a file's name, without that of its compression."""
    path = Path(name.lower())
    return Path(path.stem).suffix if path.suffix in MARKS else path.suffix


def format_of(context: ReadContext, name: str, location: str) -> Format:
    """Return the format of a file by its name.

    Raises:
        SourceError: The name has no known suffix.
    """
    if found := _SUFFIXES.get(_suffix(name)):
        return found
    if context.bare:
        return Format.CSV
    msg = f"its name has no known suffix. Set the format to one of {', '.join(Format)}"
    if name == location:
        msg = f"{msg}. For a database, use duckdb:///{name} or sqlite:///{name} and a query"
    raise SourceError(msg, location=location)


def _read(context: ReadContext, path: str, file_format: Format) -> Relations:
    """Yield the relation of one file. A pipe is first copied to a temporary file."""
    with _file_errors(path):
        regular = stat.S_ISREG(Path(path).stat().st_mode)
    if regular:
        yield from checked_file(context, path, file_format, path)
        return
    # Otherwise opening would wait for a writer, and nothing could stop it.
    with _file_errors(path), open_without_waiting(path) as pipe:
        yield from _copied(context, pipe, file_format, path)


def _copied(
    context: ReadContext, stream: IO[bytes] | io.RawIOBase, file_format: Format, shown: str
) -> Relations:
    """Copy *stream* to a temporary file, and yield that file's relation."""
    with tempfile.NamedTemporaryFile(prefix=SPOOL_PREFIX, dir=temp_directory(context)) as spool:  # mode 0600
        with _file_errors(shown):
            for block in piped_blocks(context, stream):
                spool.write(block)
            spool.flush()
        yield from checked_file(context, spool.name, file_format, shown)


def checked_file(context: ReadContext, path: str, file_format: Format, shown: str) -> Relations:
    """Yield a file's relation. Check that the file is complete, and that it does not change.

    Args:
        context: The context.
        path: The file, which may be a copy.
        file_format: Its format.
        shown: Its name in errors.

    Raises:
        SourceError: It is damaged, something else than its name promises, or changes.
    """
    with _file_errors(shown):
        before = take_stamp(path)
        start = _start_of(path)
        if words := misnamed(start, shown):
            raise SourceError(words, location=shown)
        file = SourceFile(path=path, shown=shown, compressed=start.startswith(MARKS[".gz"]))
        file = _inspect(context, file, file_format)
        with file.open() as stream:
            head = stream.read(HEAD)
    if words := recognised(head, file_format):
        raise SourceError(words, location=shown, line=1 if words == IS_WIDE else None)
    if context.bare:
        yield from bare_relations(file)
    else:
        yield _RELATIONS[file_format](context, file)
    # A writer that is not finished, or that replaces the file, changes its inode, size or time.
    with _file_errors(shown):
        after = take_stamp(path)
    if after != before:
        msg = "it changed while being read. Write it elsewhere, and move it here when it is complete"
        raise SourceError(msg, location=shown)


def _start_of(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(_START)


def _inspect(context: ReadContext, file: SourceFile, file_format: Format) -> SourceFile:
    """Read a file once before DuckDB does, and return what is known of it.

    Python compares the checksums of gzip, DuckDB does not.
    """
    scan, total = QuoteScan(), 0
    most = max(_MOST_PLAIN, _MOST_RATIO * Path(file.path).stat().st_size)
    is_csv = file_format is Format.CSV and not context.bare
    if file.compressed or is_csv:
        with file.open() as stream:
            for block in iter(lambda: stream.read(_BLOCK), b""):
                context.interruptible.arrived()
                context.interruptible.check()
                total += len(block)
                if file.compressed and total > most:
                    msg = (
                        f"it expands to more than {_MOST_RATIO} times its size, unlike a list of IDs. If it "
                        "is one, decompress it first"
                    )
                    raise SourceError(msg, location=file.shown)
                if is_csv:
                    scan.feed(block)
    return attrs.evolve(file, quotes=scan)


@contextmanager
def _file_errors(shown: str) -> Iterator[None]:
    """Raise errors of the operating system and gzip as SourceError."""
    try:
        yield
    except EOFError as exc:
        raise SourceError(ENDS_EARLY, location=shown) from exc
    except (gzip.BadGzipFile, zlib.error) as exc:
        msg = f"the compressed file is damaged ({exc}). Write or copy it again"
        raise SourceError(msg, location=shown) from exc
    except OSError as exc:
        msg = f"it cannot be read: {exc.strerror or exc}. Check the path and its permissions"
        raise SourceError(msg, location=shown) from exc
