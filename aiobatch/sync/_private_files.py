"""Files with mode 0600: they contain user IDs, or names of audiences and sources."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

_MODE = 0o600


def write_private(path: Path, data: bytes) -> None:
    """Write a file with mode 0600. A pipe or a device keeps its mode.

    Args:
        path: The file. An existing one is overwritten. A link is followed: `/dev/stdout` is one.
        data: The content.

    Raises:
        OSError: If it cannot be written. No partial file is left.
    """
    descriptor = _open(path, os.O_TRUNC)
    is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
    try:
        _write(descriptor, data)
    except OSError:
        if is_file:
            path.unlink()
        raise


def append_private(path: Path, data: bytes) -> None:
    """Append to a file with mode 0600. Create it if it does not exist.

    Args:
        path: The file.
        data: The content to add.

    Raises:
        OSError: If it cannot be written.
    """
    _write(_open(path, os.O_APPEND), data)


def replace_private(path: Path, data: bytes) -> None:
    """Replace a file by one with mode 0600, atomically: a reader sees the old or the new content.

    Args:
        path: The file.
        data: The new content.

    Raises:
        OSError: If it cannot be written. The old content is still there.
    """
    draft = path.with_name(f"{path.name}.tmp")
    descriptor = _open(draft, os.O_TRUNC | os.O_NOFOLLOW)
    try:
        _write(descriptor, data)
        draft.replace(path)
    except OSError:
        draft.unlink()
        raise


def create_private(path: Path) -> None:
    """Create an empty file with mode 0600 if there is none.

    Raises:
        OSError: If it cannot be created.
    """
    with contextlib.suppress(FileExistsError):
        os.close(_open(path, os.O_EXCL))


def _open(path: Path, flags: int) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, _MODE)


def _write(descriptor: int, data: bytes) -> None:
    with open(descriptor, "wb") as file:  # a descriptor
        # The mode of open() applies to new files only.
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fchmod(descriptor, _MODE)
        file.write(data)
