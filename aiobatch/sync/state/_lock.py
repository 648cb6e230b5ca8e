"""One writer at a time: an advisory lock on a file beside what it protects.

The kernel holds the lock (`flock`), so it ends with its process, however that ends; the file stays and says
who held it last.
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
from typing import Any, Self

import attrs
import orjson

from .._errors import LockedError, StateError

# What a file system without advisory locks answers.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
# Seconds that a writer waits for readers, which hold the lock for as long as it takes to print a table.
_READERS_PATIENCE = 5.0
_READERS_PAUSE = 0.01
# Seconds in which who has just taken the lock has said so.
_HOLDERS_PATIENCE = 0.5
_MAX_HOLDER_BYTES = 4096

_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


def whoami() -> str:
    """Return the user of this process; a container may run one without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def read_holder(path: Path) -> Mapping[str, Any]:
    """Read who wrote the lock file last; empty where it does not say.

    Args:
        path: The lock file.
    """
    try:
        with path.open("rb") as file:
            holder = orjson.loads(file.read(_MAX_HOLDER_BYTES))
    except (OSError, orjson.JSONDecodeError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _wait_for_holder(path: Path) -> Mapping[str, Any]:
    """Read who holds a lock; who has just taken it says so in a moment."""
    deadline = time.monotonic() + _HOLDERS_PATIENCE
    while not (holder := read_holder(path)) and time.monotonic() < deadline:
        time.sleep(_READERS_PAUSE)
    return holder


@attrs.define(eq=False, weakref_slot=True)
class FileLock:
    """An advisory lock on a file, exclusive for writers and shared by readers, within one process too.

    Attributes:
        path: The lock file; made where it does not exist, mode 0600, and never deleted.
    """

    path: Path
    _descriptor: int | None = attrs.field(default=None, init=False)
    _says_who: bool = attrs.field(default=False, init=False)

    def acquire(self, what: str) -> Self:
        """Take the lock for writing, at once or not at all.

        Args:
            what: What this process is doing (`sync vip`), for whoever is refused.

        Raises:
            LockedError: Another writer holds it.
            StateError: The file cannot be opened, or its file system has no locks.
        """
        deadline = time.monotonic() + _READERS_PATIENCE
        descriptor = self._open()
        while not self._try(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > deadline or not self._try(descriptor, fcntl.LOCK_SH):
                os.close(descriptor)
                raise LockedError(path=str(self.path), holder=_wait_for_holder(self.path))
            self._try(descriptor, fcntl.LOCK_UN)  # only readers are in the way
            time.sleep(_READERS_PAUSE)
        self._keep(descriptor)
        self._says_who = True
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, orjson.dumps(_holder(what)), 0)
        return self

    def acquire_shared(self) -> Self:
        """Take the lock for reading, at once or not at all; for moments only, since a writer waits for it.

        Raises:
            LockedError: A writer holds it.
            StateError: The file cannot be opened, or its file system has no locks.
        """
        descriptor = self._open()
        if not self._try(descriptor, fcntl.LOCK_SH):
            os.close(descriptor)
            raise LockedError(path=str(self.path), holder=_wait_for_holder(self.path))
        self._keep(descriptor)
        return self

    def release(self) -> None:
        """Give the lock back; twice is no error."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            if self._says_who:
                os.ftruncate(descriptor, 0)  # nobody shall be refused in the name of who is gone
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _open(self) -> int:
        """Open the lock file; the descriptor does not survive exec."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            msg = f"this lock cannot be opened ({exc.strerror}); check its directory's rights"
            raise StateError(msg, path=str(self.path), reason="failed") from exc

    def _try(self, descriptor: int, how: int) -> bool:
        """Ask the kernel without waiting."""
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as exc:
            os.close(descriptor)
            hint = (
                "its file system has no locks, use a local disk" if exc.errno in _NO_LOCKS else exc.strerror
            )
            msg = f"this lock cannot be taken: {hint}"
            raise StateError(msg, path=str(self.path), reason="failed") from exc
        return True

    def _keep(self, descriptor: int) -> None:
        self._descriptor = descriptor
        _held.add(self)

    def _drop(self) -> None:
        """Close without unlocking: a forked child shares the open file, and so the lock, with its parent."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)


def _holder(what: str) -> dict[str, Any]:
    """Describe this process."""
    since = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "user": whoami(), "since": since, "what": what}


def _drop_all() -> None:
    """Let a forked child forget its parent's locks, else it would hold them beyond its parent's death."""
    for lock in list(_held):
        lock._drop()  # noqa: SLF001  # the same module's


os.register_at_fork(after_in_child=_drop_all)
