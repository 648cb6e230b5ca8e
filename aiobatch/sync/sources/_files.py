"""Files as relations: which ones, in what form, and whether they are whole.

DuckDB 2.0 refuses most damage by itself. What it takes without a word is checked here: a gzip file whose
checksum is wrong, and a file that changes while it is read.
"""

from __future__ import annotations

import glob
import gzip
import os
import stat
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .._errors import SourceError
from ._csv import bare_relations, csv_relation
from ._jsonl import jsonl_relation
from ._parquet import parquet_relation
from ._relation import ReadContext, Relation, Relations, SourceFile
from ._source import Files, Format, StandardInput

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
_GZIP = b"\x1f\x8b"
_BLOCK = 1024 * 1024


def read_files(context: ReadContext, location: Files) -> Relations:
    """Give one relation per file, in the order of their paths.

    Raises:
        SourceError: There is none, they are of several formats, or one of them cannot be read.
    """
    with _sound(location.path):
        paths = _find(location.path)
        formats = {path: location.format or _format_of(path, bare=context.bare) for path in paths}
    if len(set(formats.values())) > 1:
        names = ", ".join(sorted(set(formats.values())))
        msg = f"holds files of several formats ({names}); name one kind of them with a pattern"
        raise SourceError(msg, location=location.path)
    for path, file_format in formats.items():
        yield from _read(context, path, file_format)


def read_standard_input(context: ReadContext, location: StandardInput) -> Relations:
    """Give what is piped in; it is read to its end before anything else happens.

    Raises:
        SourceError: Nothing is piped in, or it cannot be read.
    """
    if sys.stdin is None:
        msg = "standard input is closed; give a file, or pipe the ids in"
        raise SourceError(msg, location=location.label)
    if sys.stdin.isatty():
        msg = "nothing is piped into standard input; give a file, or pipe the ids in"
        raise SourceError(msg, location=location.label)
    yield from _spooled(context, sys.stdin.buffer, location.format, location.label)


def _find(text: str) -> list[str]:
    """List the files that *text* stands for."""
    if Path(text).is_dir():
        found = _in_directory(text)
    elif Path(text).exists() or not glob.has_magic(text):
        return [text]
    else:
        matches = glob.glob(text, recursive=True)  # noqa: PTH207  # Path.glob() takes no absolute pattern
        found = sorted(path for path in matches if not Path(path).is_dir())
    if not found:
        msg = "no file there: the directory is empty, or the pattern matches nothing"
        raise SourceError(msg, location=text)
    return found


def _in_directory(directory: str) -> list[str]:
    """List a directory's files but for hidden ones and markers such as `_SUCCESS`."""
    entries = [entry for entry in os.scandir(directory) if not entry.name.startswith((".", "_"))]
    if any(entry.is_dir() for entry in entries):
        msg = f"holds directories; to read what is in them, give a pattern such as '{directory}/**/*.parquet'"
        raise SourceError(msg, location=directory)
    return sorted(entry.path for entry in entries)


def _format_of(path: str, *, bare: bool) -> Format:
    """Tell a file's format by its name."""
    suffix = Path(path.lower().removesuffix(".gz")).suffix
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    if bare or not stat.S_ISREG(Path(path).stat().st_mode):
        return Format.CSV
    msg = (
        f"its name tells no format; say which with format (--format): {', '.join(Format)}; export what is "
        f"none of them, and give a database as duckdb:///{path} or sqlite:///{path}, with a query"
    )
    raise SourceError(msg, location=path)


def _read(context: ReadContext, path: str, file_format: Format) -> Relations:
    """Give the relation of one file; a pipe is read into a file first."""
    with _sound(path):
        regular = stat.S_ISREG(Path(path).stat().st_mode)
    if regular:
        yield from _whole(context, path, file_format, path)
        return
    with _sound(path), Path(path).open("rb") as pipe:
        yield from _spooled(context, pipe, file_format, path)


def _spooled(context: ReadContext, stream: IO[bytes], file_format: Format, shown: str) -> Relations:
    """Read *stream* to its end into a file that nobody else can read, and give that file's relation."""
    with tempfile.NamedTemporaryFile(prefix="aiobatch-", dir=_spool_directory(context)) as spool:  # mode 0600
        with _sound(shown):
            for block in iter(lambda: stream.read(_BLOCK), b""):
                context.interruptible.check()
                spool.write(block)
            spool.flush()
        yield from _whole(context, spool.name, file_format, shown)


def _spool_directory(context: ReadContext) -> str | None:
    """Return where DuckDB spills to, so that one setting chooses the disk; None where it is not there."""
    row = context.connection.execute("SELECT current_setting('temp_directory')").fetchall()[0]
    return row[0] if row[0] and Path(row[0]).is_dir() else None


def _whole(context: ReadContext, path: str, file_format: Format, shown: str) -> Relations:
    """Give a file's relation between two checks that the file is whole and stays the same."""
    with _sound(shown):
        before = _stamp(path)
        file = SourceFile(path=path, shown=shown, compressed=_is_gzip(path))
        if file.compressed:
            _check_gzip(context, path)
    if path.endswith(".gz") and not file.compressed:
        msg = "its name ends in .gz but it is not compressed; it was cut short or misnamed"
        raise SourceError(msg, location=shown)
    if context.bare:
        yield from bare_relations(file)
    else:
        yield _RELATIONS[file_format](context, file)
    with _sound(shown):
        after = _stamp(path)
    if after != before:
        msg = "it changed while it was read; write it elsewhere and move it here when it is complete"
        raise SourceError(msg, location=shown)


def _is_gzip(path: str) -> bool:
    with Path(path).open("rb") as file:
        return file.read(len(_GZIP)) == _GZIP


def _check_gzip(context: ReadContext, path: str) -> None:
    """Decompress a file to nowhere: Python compares the checksums, DuckDB does not."""
    with gzip.open(path) as file:
        while file.read(_BLOCK):
            context.interruptible.check()


def _stamp(path: str) -> tuple[int, int, int]:
    status = Path(path).stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


@contextmanager
def _sound(shown: str) -> Iterator[None]:
    """Turn what the operating system and gzip raise into SourceError."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as exc:
        msg = f"the compressed file is cut short or damaged ({exc}); write or copy it again"
        raise SourceError(msg, location=shown) from exc
    except OSError as exc:
        msg = f"cannot be read: {exc.strerror or exc}; check the path and its permissions"
        raise SourceError(msg, location=shown) from exc
