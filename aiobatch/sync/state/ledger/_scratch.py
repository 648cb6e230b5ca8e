"""The private directory of a process for a state on object storage.

Its owner holds a lock, which ends with the process. If no process holds it, the owner was killed, and the
next process deletes the directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

import attrs

from .._lock import FileLock, read_holder

_PREFIX: Final = "aiobatch-state-"
# The lock gets its name when it is held, so that no other process takes it before the owner does.
_OWNER: Final = "owner"
_DRAFT: Final = "owner.new"


@attrs.frozen(eq=False)
class Scratch:
    """A private directory, from `create` to `delete`.

    Attributes:
        path: The directory, with mode 0700.
    """

    path: Path
    _lock: FileLock

    @classmethod
    def create(cls, what: str) -> Self:
        """Create a directory in the user's temporary one. Delete those of killed processes before.

        Args:
            what: What this process does.

        Raises:
            StateError: Its lock cannot be taken.
            OSError: It cannot be created.
        """
        delete_abandoned(Path(tempfile.gettempdir()))
        path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        try:
            lock = FileLock(path / _DRAFT).acquire(what)
            (path / _DRAFT).rename(path / _OWNER)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        return cls(path, lock)

    def delete(self) -> None:
        """Delete the directory. A second call does nothing."""
        _delete(self.path)
        self._lock.release()


def delete_abandoned(parent: Path) -> None:
    """Delete the directories of this user's killed processes on this machine. Leave out all others.

    Args:
        parent: The directory that contains them.
    """
    for path in _own(parent):
        with contextlib.suppress(OSError):
            descriptor = os.open(path / _OWNER, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                # Another machine's lock may be invisible here, if its directory is shared.
                if read_holder(path / _OWNER).get("host") == socket.gethostname():
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _delete(path)
            finally:
                os.close(descriptor)


def _own(parent: Path) -> Iterator[Path]:
    """Yield the private directories of this user."""
    with contextlib.suppress(OSError):
        for path in parent.glob(f"{_PREFIX}*"):
            with contextlib.suppress(FileNotFoundError):
                found = path.lstat()
                if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
                    yield path


def _delete(path: Path) -> None:
    """Delete a directory, and its lock last, so that a killed deletion is completed by the next process."""
    with contextlib.suppress(OSError):
        for entry in list(path.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != _OWNER:
                entry.unlink()
    shutil.rmtree(path, ignore_errors=True)
