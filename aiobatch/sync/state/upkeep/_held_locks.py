"""The locks of a state file that processes hold."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

from .._lock import audience_lock_path, read_holder
from .._state import sibling_path


@attrs.frozen(kw_only=True)
class HeldLock:
    """A lock that a process holds.

    Attributes:
        path: The lock file.
        pid: The holder's process. None if it is unknown, as are the others then.
        host: The holder's machine.
        since: When it took the lock, in ISO 8601 and UTC.
        what: What the holder does: `sync vip`.
    """

    path: Path
    pid: int | None = None
    host: str | None = None
    since: str | None = None
    what: str | None = None


def held_locks(state: Path, keys: Iterable[str]) -> Iterator[HeldLock]:
    """Yield the locks of a state file and of audiences that are held. None is taken or created.

    Args:
        state: The state file. It need not exist.
        keys: The keys of audiences in the state.
    """
    beside = sibling_path(state, ".locks")
    audiences = (path for key in keys for path in (audience_lock_path(key), beside / f"{key}.lock"))
    for path in (sibling_path(Path(os.path.realpath(state)), ".lock"), *audiences):
        if _is_held(path):
            known = {name: value for name, value in read_holder(path).items() if name in _FIELDS}
            yield HeldLock(path=path, **known)


_FIELDS = frozenset({"pid", "host", "since", "what"})


def _is_held(path: Path) -> bool:
    """Return whether a writer holds a lock. Its file is only opened for reading."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
    return False
