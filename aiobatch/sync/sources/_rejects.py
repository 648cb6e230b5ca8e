"""The file of rejected rows, for the owner of the data alone."""

from __future__ import annotations

import csv
import fnmatch
import os
from collections.abc import Sequence
from pathlib import Path

from ...errors import InvalidInputError
from .._errors import StagingError
from ._source import Database, Files, Location


def refuse_overlap(path: Path, location: Location, state: Path) -> None:
    """Refuse a file of rejected rows that would overwrite what is read, or be read by the next run.

    Args:
        path: The file.
        location: Where the rows come from.
        state: The state file.

    Raises:
        InvalidInputError: It is the state, or the source or a part of it.
    """
    if _is_same(path, state) or (
        isinstance(location, Database) and location.path and _is_same(path, location.path)
    ):
        msg = f"rejects: {str(path)!r} is in use for something else; name another file"
    elif isinstance(location, Files) and _is_part(path, location.path):
        msg = f"rejects: {str(path)!r} is a part of the source {location.path!r}; write it elsewhere"
    else:
        return
    raise InvalidInputError(msg)


def _is_same(path: Path, other: Path | str) -> bool:
    """Tell whether two paths lead to one file, by whatever links; a file need not be there."""
    try:
        return path.samefile(other)
    except OSError:
        return os.path.realpath(path) == os.path.realpath(other)


def _is_part(path: Path, text: str) -> bool:
    """Tell whether a file is, or would be, among those that a path or a pattern stands for."""
    location = Path(text)
    if location.is_dir():
        return _is_same(path.parent, location) and not path.name.startswith((".", "_"))
    fits = fnmatch.fnmatchcase(path.name, location.name) and _is_same(path.parent, location.parent)
    return fits or _is_same(path, location)


def append_rejects(path: Path, ids: Sequence[str]) -> None:
    """Add ids that Batch refused; they have no row number any more.

    Args:
        path: The file; made, mode 0600, where there is none.
        ids: What was refused.

    Raises:
        StagingError: It cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with open(descriptor, "a", newline="", encoding="utf-8") as file:  # noqa: PTH123  # a descriptor, for its mode
            csv.writer(file).writerows(("batch", "", "refused_by_batch", id_) for id_ in ids)
    except OSError as exc:
        msg = f"the file of rejected rows cannot be written ({exc.strerror}); check its path and the disk"
        raise StagingError(msg) from exc
