"""Errors of DuckDB and the file system, as errors of a state file."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import duckdb

from .._errors import StateError

# Every DuckDB file has this after a checksum: https://duckdb.org/docs/stable/internals/storage
_MAGIC: Final = b"DUCK"
_MAGIC_OFFSET: Final = 8
# DuckDB has one class for many causes: only the words of its messages differ.
_SIGNS = {
    "full": ("No space left", "File too large", "quota exceeded", "max_temp_directory_size"),
    "directory": ("Is a directory",),
    "newer": ("version number",),
    "damaged": (
        "Corrupt",
        "not a valid DuckDB",
        "enough bytes",
        "checksum",
        "deserialize",
        "This WAL was created",
    ),
}
_TEXTS = {
    "directory": "it is a directory. Name a file in it, such as state.duckdb.",
    "full": "the disk is full. Nothing that was recorded is lost. Free some space, then run again.",
    "damaged": (
        "it is not a readable DuckDB file. Restore a backup, or move it away and `adopt` the members again."
    ),
    "newer": "another version of DuckDB wrote it. Install that version of duckdb, or a newer one.",
    "memory": "not enough memory for this many IDs. Raise the memory limit, or the limit of this process.",
}
# Entries beside the state that aiobatch did not create.
_FOREIGN = {
    errno.ELOOP: "it is a symbolic link, which is not followed.",
    errno.ENOTEMPTY: "it contains files that aiobatch did not create.",
    errno.ENOTDIR: "it is a file, and aiobatch needs a directory of this name.",
}


def state_error(exc: duckdb.Error | OSError, path: Path) -> StateError:
    """Return the error of a state for one of DuckDB or the file system, with advice.

    Args:
        exc: What was raised.
        path: The state file.
    """
    if isinstance(exc, OSError):
        file = "" if exc.filename in (None, str(path), path) else f"{str(exc.filename)!r}: "
        if exc.errno in _FOREIGN:
            msg = f"{file}{_FOREIGN[exc.errno]} Delete it if you do not need it, or move the state."
        else:
            msg = f"{file}{exc.strerror}. Check the path, its permissions and the free space."
        return StateError(msg, path=str(path), reason="failed")
    reason = _reason(exc)
    msg = _TEXTS.get(reason) or (
        f"DuckDB failed. Nothing was changed. Check the path, its permissions and the disk. "
        f"[{type(exc).__name__}]"
    )
    return StateError(msg, path=str(path), reason=reason)


def _reason(exc: duckdb.Error) -> str:
    text = str(exc)
    for reason, signs in _SIGNS.items():
        if any(sign in text for sign in signs):
            return reason
    return "memory" if isinstance(exc, duckdb.OutOfMemoryException) else "failed"


@contextlib.contextmanager
def duckdb_errors(path: Path) -> Iterator[None]:
    """Raise errors of DuckDB and the file system as StateError."""
    try:
        yield
    except (duckdb.Error, OSError) as exc:
        raise state_error(exc, path) from exc


def check_database(path: Path) -> None:
    """Raise StateError if DuckDB must not open a file as a state.

    It would show a CSV as views, and store nothing. A pipe would block it, and no signal would end that.

    Args:
        path: The state file. It may not exist.

    Raises:
        StateError: It is no database, or it or its log is no file.
    """
    for file in (path, path.with_name(f"{path.name}.wal")):
        if file.exists() and not file.is_file() and not file.is_dir():
            msg = "it is a pipe or a device, not a file. Name a file, such as state.duckdb."
            raise StateError(msg, path=str(file), reason="failed")
    if path.is_file():
        with path.open("rb") as opened:
            start = opened.read(_MAGIC_OFFSET + len(_MAGIC))
        if start[_MAGIC_OFFSET:] != _MAGIC:
            raise StateError(_TEXTS["damaged"], path=str(path), reason="damaged")
