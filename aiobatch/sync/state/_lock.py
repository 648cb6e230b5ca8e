"""Advisory file locks: one writer at a time.

The kernel holds the lock (`flock`), so it ends with its process, however that ends. The file remains, and
contains a description of its last holder.
"""

from __future__ import annotations

import datetime as dt
import errno
import fcntl
import getpass
import os
import socket
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, Self

import attrs
import orjson
import platformdirs

from .._errors import LockedError, StateError
from .._private_files import open_private

# The errors of a file system without advisory locks.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
# Seconds that a writer waits for readers, which hold the lock while they read a report.
_READERS_PATIENCE = 5.0
_PAUSE = 0.01
# Seconds between taking the lock and describing the holder, at most.
_HOLDERS_PATIENCE = 0.5
_MAX_HOLDER_BYTES = 4096

_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


def default_directory() -> Path:
    """Return the user's data directory of aiobatch. It may not exist."""
    return platformdirs.user_data_path("aiobatch")


def audience_lock_path(key: str) -> Path:
    """Return the lock file that all runs of an audience on this machine share, whatever their state file."""
    return default_directory() / "locks" / f"{key}.lock"


def whoami() -> str:
    """Return the user of this process. In a container it may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def read_holder(path: Path) -> Mapping[str, Any]:
    """Return the description of a lock's last holder. Empty if there is none."""
    try:
        with path.open("rb") as file:
            holder = orjson.loads(file.read(_MAX_HOLDER_BYTES))
    except (OSError, orjson.JSONDecodeError):
        return {}
    return holder if isinstance(holder, dict) else {}


@attrs.define(eq=False, weakref_slot=True)
class FileLock:
    """An advisory lock on a file: exclusive for writers, shared by readers. It also works within a process.

    Attributes:
        path: The lock file. It is created with mode 0600, and never deleted.
    """

    path: Path
    _descriptor: int | None = attrs.field(default=None, init=False)
    _is_described: bool = attrs.field(default=False, init=False)

    def acquire(self, what: str) -> Self:
        """Take the lock for writing. Do not wait for other writers.

        Args:
            what: What this process does (`sync vip`), for the error of other processes.

        Raises:
            LockedError: If another writer holds it.
            StateError: If the file cannot be opened, or its file system has no locks.
        """
        deadline = time.monotonic() + _READERS_PATIENCE
        descriptor = self._open()
        while not self._try(descriptor, fcntl.LOCK_EX):
            # A shared lock is granted while only readers are in the way.
            if time.monotonic() > deadline or not self._try(descriptor, fcntl.LOCK_SH):
                self._fail(descriptor)
            self._try(descriptor, fcntl.LOCK_UN)
            time.sleep(_PAUSE)
        self._keep(descriptor)
        self._is_described = True
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, orjson.dumps(_describe(what)), 0)
        return self

    def acquire_shared(self) -> Self:
        """Take the lock for reading, for moments only: a writer waits for it.

        Raises:
            LockedError: If a writer holds it.
            StateError: If the file cannot be opened, or its file system has no locks.
        """
        descriptor = self._open()
        if not self._try(descriptor, fcntl.LOCK_SH):
            self._fail(descriptor)
        self._keep(descriptor)
        return self

    def release(self) -> None:
        """Release the lock. A second call does nothing."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            if self._is_described:
                os.ftruncate(descriptor, 0)  # before the unlock: the description must not outlive the lock
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _open(self) -> int:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return open_private(self.path)
        except OSError as exc:
            reason = "it is a symbolic link" if exc.errno == errno.ELOOP else exc.strerror
            msg = f"this lock file cannot be opened ({reason}). Check its directory's permissions."
            raise StateError(msg, path=str(self.path), reason="failed") from exc

    def _try(self, descriptor: int, operation: int) -> bool:
        """Return whether the kernel grants the lock at once."""
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as exc:
            os.close(descriptor)
            has_none = exc.errno in _NO_LOCKS
            reason = "its file system has no locks. Use a local disk" if has_none else exc.strerror
            msg = f"this lock file cannot be locked: {reason}."
            raise StateError(msg, path=str(self.path), reason="failed") from exc
        return True

    def _fail(self, descriptor: int) -> NoReturn:
        """Raise LockedError. A holder that has just taken the lock describes itself in a moment."""
        os.close(descriptor)
        deadline = time.monotonic() + _HOLDERS_PATIENCE
        while not (holder := read_holder(self.path)) and time.monotonic() < deadline:
            time.sleep(_PAUSE)
        raise LockedError(path=str(self.path), holder=holder)

    def _keep(self, descriptor: int) -> None:
        self._descriptor = descriptor
        _held.add(self)

    def _drop(self) -> None:
        """Close the file without unlocking it."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)


def _describe(what: str) -> dict[str, Any]:
    since = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "user": whoami(), "since": since, "what": what}


def _drop_all() -> None:
    """Close a forked child's copies of the locks.

    Parent and child share the open file. To unlock it would take the parent's lock away, and to keep it open
    would hold the lock beyond the parent's death.
    """
    for lock in list(_held):
        lock._drop()  # noqa: SLF001  # the same module's


os.register_at_fork(after_in_child=_drop_all)
