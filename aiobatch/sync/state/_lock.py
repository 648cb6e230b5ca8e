"""Advisory locks: one writer at a time.

The kernel holds the lock (`flock`), so it ends with its process, however that ends. The file remains, and
contains a description of its last holder.

Processes with different home directories have different lock files. On Linux they exclude each other by the
name of an abstract Unix socket, which all processes of a network namespace share.
"""

from __future__ import annotations

import datetime as dt
import errno
import fcntl
import getpass
import hashlib
import logging
import os
import socket
import struct
import sys
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, Self

import attrs
import orjson
import platformdirs

from ..._validation import to_unicode
from ...errors import InvalidInputError
from .._errors import LockedError, StateError
from .._private_files import open_private

_logger = logging.getLogger("aiobatch.sync")

# The errors of a file system without advisory locks.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
# The errors of a home that is missing or read-only.
_NO_HOME = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR}
# Seconds that a writer waits for readers, which hold the lock while they read a report.
_READERS_PATIENCE = 5.0
_PAUSE = 0.01
# Seconds between taking the lock and describing the holder, at most.
_HOLDERS_PATIENCE = 0.5
_MAX_HOLDER_BYTES = 4096
# Linux's struct ucred: process, user and group.
_CREDENTIALS = struct.Struct("3i")

# The directory of locks of a user without a home: nothing can be created below a file.
_NOWHERE = Path("/dev/null/aiobatch")

_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


def default_directory() -> Path:
    """Return the user's data directory of aiobatch. It may not exist.

    Raises:
        InvalidInputError: The user has no home directory, as an unknown user of a container.
    """
    try:
        return platformdirs.user_data_path("aiobatch")
    except RuntimeError:
        msg = "This user has no home directory for the default state. Name a state file."
        raise InvalidInputError(msg) from None


def audience_lock_path(key: str) -> Path:
    """Return the lock file that all runs of an audience share whose user has the same home.

    Args:
        key: The audience's key.
    """
    try:
        return default_directory() / "locks" / f"{key}.lock"
    except InvalidInputError:
        return _NOWHERE / f"{key}.lock"


def audience_note_path(key: str, base_url: str) -> Path:
    """Return the file in which runs note the state of an audience.

    Args:
        key: The audience's key.
        base_url: The address of Batch. Another server, such as a sandbox, has other audiences.
    """
    return audience_lock_path(_place(key, base_url)).with_suffix(".json")


def _place(key: str, base_url: str) -> str:
    """Return a digest of an audience and its server."""
    return hashlib.blake2b(f"{base_url.rstrip('/')}\0{key}".encode(), digest_size=16).hexdigest()


def audience_lock(key: str, base_url: str, *, state: Path | None = None) -> FileLock:
    """Return the lock of an audience, which excludes every process of this machine that has it.

    Args:
        key: The audience's key.
        base_url: The address of Batch. Another server, such as a sandbox, has other audiences. Empty if it
            is not known, so that the file alone excludes others.
        state: The state file, beside which the lock file is if the home is missing or read-only.
    """
    beside = None if state is None else state.with_name(f"{state.name}.locks") / f"{key}.lock"
    return FileLock(audience_lock_path(key), name=_place(key, base_url) if base_url else None, beside=beside)


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
        name: A name that excludes processes with another lock file, on Linux. None: there is one file.
        beside: The file to lock if *path* cannot be created. None: there is none.
    """

    path: Path
    name: str | None = None
    beside: Path | None = None
    _socket: socket.socket | None = attrs.field(default=None, init=False)
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
        self._bind()
        try:
            self._acquire_file(what)
        except StateError as error:
            if self._socket is None or getattr(error.__cause__, "errno", None) not in _NO_HOME:
                self._unbind()
                raise
            # A home that is missing or read-only: the name excludes the others.
            _logger.debug("no lock file: %s", error)
        except BaseException:
            self._unbind()
            raise
        return self

    def _acquire_file(self, what: str) -> None:
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
        os.pwrite(descriptor, orjson.dumps(describe_process(what)), 0)

    def _bind(self) -> None:
        """Take the name. Raise LockedError if another process has it."""
        if self.name is None or sys.platform != "linux":
            return
        bound = socket.socket(socket.AF_UNIX)  # closed on exec
        try:
            bound.bind(f"\0aiobatch/audience/{self.name}")
            bound.listen(0)  # shows this process to others
        except OSError as exc:
            bound.close()
            if exc.errno == errno.EADDRINUSE:
                self._fail()
            _logger.debug("no socket for a lock: %s", exc.strerror)  # a sandbox may forbid them
            return
        self._socket = bound
        _held.add(self)

    def _unbind(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

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
        self._unbind()
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
            if self.beside is not None and exc.errno in _NO_HOME:
                self.path, self.beside = self.beside, None
                return self._open()
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

    def _fail(self, descriptor: int | None = None) -> NoReturn:
        """Raise LockedError. A holder that has just taken the lock describes itself in a moment."""
        if descriptor is not None:
            os.close(descriptor)
        peer = None if self.name is None else _find_peer(self.name)
        deadline = time.monotonic() + _HOLDERS_PATIENCE
        while not (holder := read_holder(self.path)) and time.monotonic() < deadline:
            time.sleep(_PAUSE)
        if peer is not None and holder.get("pid") != peer["pid"]:
            holder = peer  # it has another lock file, and this one describes an earlier holder
        raise LockedError(path=str(self.path), holder=holder)

    def _keep(self, descriptor: int) -> None:
        self._descriptor = descriptor
        _held.add(self)

    def _drop(self) -> None:
        """Close the file without unlocking it."""
        self._unbind()
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)


def describe_process(what: str) -> dict[str, Any]:
    """Return a description of this process, for the error of another one.

    Args:
        what: What this process does.
    """
    since = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "user": whoami(),
        "since": since,
        "what": to_unicode(what),
    }


def _find_peer(name: str) -> dict[str, Any] | None:
    """Return the process that holds a name. None if it cannot be seen, as in another container."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(_HOLDERS_PATIENCE)
        try:
            asking.connect(f"\0aiobatch/audience/{name}")
            credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:
            return None
    pid, uid, _ = _CREDENTIALS.unpack(credentials)
    return {"pid": pid, "user": f"uid {uid}", "host": socket.gethostname()} if pid else None


def _drop_all() -> None:
    """Close a forked child's copies of the locks.

    Parent and child share the open file. To unlock it would take the parent's lock away, and to keep it open
    would hold the lock beyond the parent's death.
    """
    for lock in list(_held):
        lock._drop()  # noqa: SLF001  # the same module's


os.register_at_fork(after_in_child=_drop_all)
