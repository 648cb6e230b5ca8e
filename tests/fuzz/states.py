"""Targets for damaged files of a run: state, journal, lock and status."""

from __future__ import annotations

import contextlib
import functools
import shutil
from pathlib import Path

from aiobatch.errors import SyncError
from aiobatch.sync._errors import LockedError
from aiobatch.sync.state._journal import Journal
from aiobatch.sync.state._lock import FileLock, read_holder
from aiobatch.sync.state._state import State, sibling_path
from aiobatch.sync.state._status import _read_file, take_status, write_status

from ..sync.state.states import open_state, plan, sync, vip
from ..sync.steps import mark_sending, mark_sent
from .scratch_dir import scratch_dir

_FLIP = 4  # bytes of the input for one change: its position and the bits to flip


@functools.cache
def _valid_state() -> Path:
    """Create a state with an open run and a write-ahead log, and return its directory."""
    directory = scratch_dir() / "valid"
    directory.mkdir()
    path = scratch_dir() / "made" / "state.duckdb"
    with open_state(path) as state:
        sync(state, [f"u{number}" for number in range(500)])
        state.rows("CHECKPOINT")
        journal = Journal.begin(state, plan(state, ["u1", "u2", "u900"], size=100))
        mark_sending(journal, [journal.chunks[0].n])
        write_status(path, take_status(state, running=[journal]))
        for suffix in ("", ".wal", ".lock", ".status.json"):
            shutil.copy(sibling_path(path, suffix), directory)
    return directory


def read_state(data: bytes) -> None:
    """Open a damaged state. It is read or raises an error, and it is not deleted."""
    if len(data) < _FLIP:
        return
    directory = scratch_dir() / "damaged"
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(_valid_state(), directory)
    path = directory / "state.duckdb"
    _damage(sibling_path(path, (".wal", "", "", "")[data[0] % 4]), data[1:], cut=data[0] & 4 != 0)
    before = path.stat().st_size
    with contextlib.suppress(SyncError), open_state(path) as state:
        _use(state)
    assert path.stat().st_size >= before, "the state was truncated"
    with contextlib.suppress(SyncError), State.read(path) as state:
        take_status(state)


def _damage(path: Path, data: bytes, *, cut: bool) -> None:
    """Change bytes of a file, or truncate it. Each four bytes of *data* are a position and a change."""
    content = bytearray(path.read_bytes())
    for start in range(0, len(data) - _FLIP + 1, _FLIP):
        at = int.from_bytes(data[start : start + 3], "big") % len(content)
        content[at] ^= data[start + 3]
        if cut:
            del content[at + 1 :]
            break
    path.write_bytes(content)


def _use(state: State) -> None:
    """Use a state as a run does."""
    take_status(state)
    audience = vip(state)
    with contextlib.suppress(SyncError):
        plan(state, ["u1", "u3"])
    journal = Journal.resume(state, audience)
    if journal is not None:
        mark_sent(journal, journal.chunks[0].n, "vip:update:t1")


def read_notes(data: bytes) -> None:
    """Read damaged files of a lock's holder and a run's status."""
    lock = scratch_dir() / "notes.lock"
    lock.write_bytes(data)
    assert str(LockedError(path=str(lock), holder=read_holder(lock)))
    FileLock(lock).acquire("fuzz").release()
    path = scratch_dir() / "notes.status.json"
    path.write_bytes(data)
    status = _read_file(path)
    assert status is None or repr(status)
