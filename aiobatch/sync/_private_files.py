"""Files with mode 0600: they contain user IDs, or names of audiences and sources."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from pathlib import Path
from typing import Final

_MODE = 0o600
# The start of the names of copies of sources, in the directory that DuckDB spills to.
SPOOL_PREFIX: Final = "aiobatch-"


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
    """Replace a file by one with mode 0600, atomically and durably: it has the old or the new content.

    Args:
        path: The file.
        data: The new content.

    Raises:
        OSError: If it cannot be written. The old content is still there.
    """
    draft = path.with_name(f"{path.name}.tmp")
    if not draft.is_symlink():
        draft.unlink(missing_ok=True)  # a killed process may have left it
    descriptor = _open(draft, os.O_EXCL | os.O_NOFOLLOW)
    try:
        _write(descriptor, data, durably=True)
        draft.replace(path)
    except OSError:
        draft.unlink()
        raise
    sync_directory(path.parent)


def save_private(path: Path, data: bytes) -> None:
    """Write a file with mode 0600, atomically if it is a file. A pipe or a device keeps its mode.

    Raises:
        OSError: If it cannot be written. A file has the old content still.
    """
    is_special = path.exists() and not path.is_file()
    (write_private if is_special else replace_private)(path, data)


def open_private(path: Path) -> int:
    """Return a descriptor of a file with mode 0600, for reading and writing. Create it if there is none.

    Args:
        path: The file. An existing one keeps its content, and its mode becomes 0600 if this user owns it.

    Raises:
        OSError: If it cannot be opened, or is a link.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE)
    with contextlib.suppress(PermissionError):  # another user's file that we may write
        os.fchmod(descriptor, _MODE)
    return descriptor


def create_private(path: Path) -> None:
    """Create an empty file with mode 0600, durably. An existing one gets this mode.

    Raises:
        OSError: If it cannot be created, or is a link.
    """
    is_new = not path.exists()
    os.close(open_private(path))
    if is_new:
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names of a directory durable: without it, a loss of power may undo a create or a rename.

    Raises:
        OSError: If the directory cannot be synced.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create_private_directory(path: Path, prefixes: tuple[str, ...]) -> None:
    """Create an empty directory with mode 0700. Delete what a killed process left in it.

    Args:
        path: The directory.
        prefixes: The starts of the names of such files and directories. If there are others, none is deleted.

    Raises:
        OSError: If it cannot be created or emptied, is a link or a file, or has other entries.
    """
    if path.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    with contextlib.suppress(FileNotFoundError):
        entries = list(path.iterdir())
        if not all(entry.name.startswith(prefixes) for entry in entries):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(path))
        for entry in entries:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        path.rmdir()
    path.mkdir(mode=0o700)


def _open(path: Path, flags: int) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, _MODE)


def _write(descriptor: int, data: bytes, *, durably: bool = False) -> None:
    with open(descriptor, "wb") as file:  # a descriptor
        # The mode of open() applies to new files only.
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fchmod(descriptor, _MODE)
        file.write(data)
        if durably:
            file.flush()
            os.fsync(descriptor)
