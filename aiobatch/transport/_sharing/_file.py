"""The store of a limit that all processes of one user on one machine share: a small locked file.

The kernel releases the lock of a process that dies, and the checksum reveals a line that it left incomplete.
A change takes some microseconds: a memory file system is preferred, and nothing waits for a lock.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from ...errors import InvalidInputError
from ...interfaces import Clock
from ._state import Change, Reply, SharedState, StoreError

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

# The same for all processes of a user, whatever their environment. The first is in memory.
_PLACES = (Path("/dev/shm"), Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - the directory in it is private
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MAX_BYTES = 1 << 18
_FILE_MODE, _DIRECTORY_MODE = 0o600, 0o700
# Seconds between two attempts to lock, and until the process that holds the lock must be frozen.
_RETRY, _PATIENCE = 0.001, 2.0


class FileStore:
    """A state in a file.

    Args:
        directory: The directory of the file. None for the user's own.
        name: The name of the state.
        clock: The clock of the times in it. All processes must have the same one.
        ceiling: The configured requests per second.
    """

    kind = "file"

    def __init__(self, directory: Path | None, name: str, clock: Clock, ceiling: float) -> None:
        self._directory = directory
        self._name = name
        self._clock = clock
        self._ceiling = ceiling
        self._path: Path | None = None
        self._boot = ""

    async def open(self) -> None:
        """Find the directory of the file. If there is none, the first change raises StoreError.

        Raises:
            InvalidInputError: This system has no locks.
        """
        if fcntl is None:
            msg = "Limits.shared: this system has no file locks. Share the limit through Redis."
            raise InvalidInputError(msg)
        with suppress(OSError):
            await self._prepare()

    async def transact(self, change: Change) -> Reply:
        """Apply *change* to the state and store it.

        Raises:
            StoreError: The file cannot be used, or another process blocks it.
        """
        give_up = self._clock.monotonic() + _PATIENCE
        try:
            if self._path is None:
                await self._prepare()
            while (reply := self._try(change)) is None:
                if self._clock.monotonic() > give_up:
                    msg = "locked by another process"
                    raise StoreError(msg)
                await self._clock.sleep(_RETRY)
        except OSError as exc:
            self._path = None  # the directory may have been deleted
            raise StoreError(errno.errorcode.get(exc.errno or 0, "OSError")) from None
        return reply

    async def aclose(self) -> None:
        """Do nothing: no change leaves the file open."""

    async def _prepare(self) -> None:
        """Find the directory, in a thread."""
        self._path = await asyncio.to_thread(_find_directory, self._directory) / f"{self._name}.limit"
        self._boot = await asyncio.to_thread(_read_boot)

    def _try(self, change: Change) -> Reply | None:
        """Apply *change* if the lock is free."""
        assert self._path is not None  # noqa: S101 - set by `_prepare`
        # Opened for each change, so that a file that was deleted splits the processes for a moment only.
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, _FILE_MODE)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
            if stat.S_IMODE(os.fstat(descriptor).st_mode) != _FILE_MODE:
                os.fchmod(descriptor, _FILE_MODE)
            return self._change(descriptor, change)
        finally:
            os.close(descriptor)  # unlocks as well

    def _change(self, descriptor: int, change: Change) -> Reply:
        old, now = os.pread(descriptor, _MAX_BYTES, 0), self._clock.monotonic()
        state = SharedState.decode(old, now, self._ceiling, self._boot) or SharedState.new(now, self._boot)
        result = change(state, now)
        new = state.encode()
        if os.pwrite(descriptor, new, 0) != len(new):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if len(old) > len(new):
            os.ftruncate(descriptor, len(new))
        return Reply(result, state, now, now)


def _find_directory(given: Path | None) -> Path:
    """Return the directory of the files, created with mode 0700. Raise OSError if there is none."""
    if given is not None:
        given.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        return given
    failure: OSError | None = None
    for place in _PLACES:
        directory = place / f"aiobatch-{os.geteuid()}"
        try:
            directory.mkdir(mode=_DIRECTORY_MODE, exist_ok=True)
            _check_private(directory)
        except OSError as exc:
            failure = exc
        else:
            return directory
    raise failure or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _check_private(directory: Path) -> None:
    """Raise PermissionError if another user owns *directory* or may write to it."""
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
    if stat.S_IMODE(status.st_mode) != _DIRECTORY_MODE:
        directory.chmod(_DIRECTORY_MODE)


def _read_boot() -> str:
    """Return what distinguishes this boot from earlier ones: the monotonic clock starts with it."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
