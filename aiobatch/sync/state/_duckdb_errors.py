"""What went wrong with a state file, in a word, and what to do about it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import duckdb

from .._errors import StateError

_FULL = ("No space left", "File too large", "quota exceeded", "max_temp_directory_size")
_DAMAGED = (
    "Corrupt",
    "not a valid DuckDB",
    "enough bytes",
    "checksum",
    "deserialize",
    "This WAL was created",
)
_REMEDIES = {
    "directory": "it is a directory; name a file in it, such as state.duckdb",
    "full": "the disk is full; nothing that was recorded is lost: free space, then run again",
    "damaged": "it is no readable DuckDB file; restore a backup, or move it away and `adopt` the members",
    "newer": "another version of DuckDB wrote it; install the duckdb that wrote it, or a newer one",
    "memory": "too little memory for this many ids; raise the memory limit, or what this process may have",
}


def damaged_state_error(path: Path) -> StateError:
    """Return the error of a file that is no readable state.

    Args:
        path: The state file.
    """
    return StateError(_REMEDIES["damaged"], path=str(path), reason="damaged")


@contextlib.contextmanager
def duckdb_errors(path: Path) -> Iterator[None]:
    """Turn what DuckDB and the file system raise into one error that says what to do.

    Args:
        path: The state file.

    Raises:
        StateError: Something was raised.
    """
    try:
        yield
    except duckdb.Error as exc:
        reason = _reason(exc)
        msg = _REMEDIES.get(reason) or (
            f"DuckDB failed with {type(exc).__name__}, and nothing was changed; check the path, its rights "
            "and the disk"
        )
        raise StateError(msg, path=str(path), reason=reason) from exc
    except OSError as exc:
        msg = f"{exc.strerror}; check the path, its rights and the free space"
        raise StateError(msg, path=str(path), reason="failed") from exc


def _reason(exc: duckdb.Error) -> str:
    """Name what went wrong: DuckDB tells most of it in words alone."""
    text = str(exc)
    if any(words in text for words in _FULL):
        return "full"
    if "Is a directory" in text:
        return "directory"
    if "version number" in text:
        return "newer"
    if any(words in text for words in _DAMAGED):
        return "damaged"
    return "memory" if isinstance(exc, duckdb.OutOfMemoryException) else "failed"
