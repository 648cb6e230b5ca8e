from __future__ import annotations

import errno
import fcntl
import getpass
import os
import pickle
import signal
import socket
import stat
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aiobatch.sync._errors import LockedError, StateError
from aiobatch.sync.state import _lock
from aiobatch.sync.state._lock import FileLock, audience_lock, read_holder, whoami

_HOLD = """
import sys, time
from pathlib import Path
from aiobatch.sync.state._lock import FileLock
lock = FileLock(Path(sys.argv[1])).acquire("sync vip")
print("held", flush=True)
time.sleep(60)
"""
_FORK = """
import os, sys, time
from pathlib import Path
from aiobatch.sync.state._lock import FileLock
lock = FileLock(Path(sys.argv[1])).acquire("sync vip")
if os.fork() == 0:
    print("forked", flush=True)
    time.sleep(60)
os.kill(os.getpid(), 9)
"""


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "state.lock"


def _descriptors() -> int:
    """Count the open files of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def _start(code: str, path: Path) -> subprocess.Popen[str]:
    """Start a process that takes the lock, and wait until it has it."""
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def test_lock_file_is_private_and_describes_its_holder(path: Path) -> None:
    """The file has mode 0600 in a directory of mode 0700 and names process, host, user, time and command."""
    with FileLock(path).acquire("sync vip"):
        holder = read_holder(path)
    assert (holder["pid"], holder["user"], holder["what"]) == (os.getpid(), whoami(), "sync vip")
    assert holder["host"]
    assert holder["since"].endswith("+00:00")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_second_holder_fails_at_once(path: Path) -> None:
    """While one object holds the lock, another in the same process gets an error that names the holder."""
    with FileLock(path).acquire("sync vip"), pytest.raises(LockedError) as info:
        FileLock(path).acquire("sync other")
    assert (info.value.pid, info.value.what) == (os.getpid(), "sync vip")
    assert f"process {os.getpid()} of" in str(info.value)
    assert vars(pickle.loads(pickle.dumps(info.value))) == vars(info.value)  # noqa: S301  # our own


def test_killed_process_does_not_keep_the_lock(path: Path) -> None:
    """A process that holds the lock blocks others until it is killed with SIGKILL, and no longer."""
    with _start(_HOLD, path) as process:
        with pytest.raises(LockedError) as info:
            FileLock(path).acquire("sync vip")
        process.kill()
    assert info.value.pid == process.pid
    FileLock(path).acquire("sync vip").release()


def test_forked_child_does_not_hold_its_parents_lock(path: Path) -> None:
    """A child that outlives its killed parent does not keep the lock."""
    process = _start(_FORK, path)
    assert process.wait() == -signal.SIGKILL
    FileLock(path).acquire("sync vip").release()
    assert process.stdout is not None
    process.stdout.close()


def test_forked_child_does_not_unlock_its_parents_lock(path: Path) -> None:
    """A forked child closes its copy of the descriptor, and the parent keeps the lock."""
    lock, released = FileLock(path).acquire("sync vip"), FileLock(path.with_name("other")).acquire("sync vip")
    parents = os.dup(lock._descriptor or -1)
    released.release()
    _lock._drop_all()
    lock.release()
    with pytest.raises(LockedError):
        FileLock(path).acquire("sync vip")
    os.close(parents)


def test_lock_can_be_released_twice(path: Path) -> None:
    """A lock can be taken again after it was released twice."""
    lock = FileLock(path).acquire("sync vip")
    lock.release()
    lock.release()
    FileLock(path).acquire("sync vip").release()


def test_readers_share_the_lock(path: Path) -> None:
    """Two readers hold the lock together. A writer keeps readers out."""
    with FileLock(path).acquire_shared(), FileLock(path).acquire_shared():
        pass
    with FileLock(path).acquire("sync vip"), pytest.raises(LockedError) as info:
        FileLock(path).acquire_shared()
    assert info.value.what == "sync vip"


def test_writer_waits_for_a_reader(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader does not fail a run: the run waits a moment."""
    monkeypatch.setattr(_lock, "_READERS_PATIENCE", 60)
    reader = FileLock(path).acquire_shared()
    timer = threading.Timer(0.05, reader.release)
    timer.start()
    FileLock(path).acquire("sync vip").release()
    timer.join()


def test_writer_stops_waiting_for_a_reader(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while, a reader that keeps the lock is reported as an unknown process."""
    monkeypatch.setattr(_lock, "_READERS_PATIENCE", 0.02)
    with FileLock(path).acquire_shared(), pytest.raises(LockedError, match="locked by another process"):
        FileLock(path).acquire("sync vip")


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_unreadable_holder_is_unknown(path: Path, text: str) -> None:
    """A lock file without a valid description names no holder."""
    path.parent.mkdir()
    path.write_text(text)
    assert read_holder(path) == {}


def test_error_waits_for_the_holders_description(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder describes itself a moment after it has taken the lock, and the error waits for that."""
    monkeypatch.setattr(_lock, "_HOLDERS_PATIENCE", 60)
    with FileLock(path).acquire("sync vip"):
        said = path.read_bytes()
        path.write_bytes(b"")
        timer = threading.Timer(0.05, path.write_bytes, [said])
        timer.start()
        with pytest.raises(LockedError) as info:
            FileLock(path).acquire("plan vip")
        timer.join()
    assert info.value.pid == os.getpid()


def test_released_lock_has_no_description(path: Path) -> None:
    """A released lock does not name its last holder."""
    FileLock(path).acquire("sync vip").release()
    assert read_holder(path) == {}


def test_missing_lock_file_has_no_holder(path: Path) -> None:
    """Without a file there is no holder."""
    assert read_holder(path) == {}


def test_lock_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    """A directory in the place of the file is an error of the state."""
    with pytest.raises(StateError, match="cannot be opened"):
        FileLock(tmp_path).acquire("sync vip")


@pytest.mark.parametrize(
    ("number", "said"), [(errno.ENOLCK, "local disk"), (errno.EIO, "Input/output error")]
)
def test_file_system_without_locks_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    """A lock that the file system refuses is an error with advice, and leaves no descriptor open."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    before = _descriptors()
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StateError, match=said):
        FileLock(path).acquire("sync vip")
    assert _descriptors() == before


def test_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's user without a name is identified by its number."""

    def fail() -> str:
        raise KeyError

    monkeypatch.setattr(getpass, "getuser", fail)
    assert whoami() == f"uid {os.getuid()}"


_HOLD_NAME = """
import os, sys
from aiobatch.sync.state._lock import audience_lock
lock = audience_lock(sys.argv[1], "https://api.example").acquire("sync vip")
print("held", flush=True)
sys.stdin.read()
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's own")


@contextmanager
def _other_home(home: Path, key: str) -> Iterator[subprocess.Popen[str]]:
    """Start a process with another home that holds an audience's lock."""
    env = os.environ | {"XDG_DATA_HOME": str(home)}
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD_NAME, key],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=env,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


@linux
def test_processes_with_other_homes_exclude_each_other(tmp_path: Path) -> None:
    """An audience has one lock on a machine, whatever the home of a process, and it ends with the process."""
    key = uuid.uuid4().hex  # of this test alone
    with _other_home(tmp_path / "other", key) as holder:
        with pytest.raises(
            LockedError, match=rf"locked by process {holder.pid} of uid {os.getuid()} on "
        ) as info:
            audience_lock(key, "https://api.example").acquire("sync vip")
        assert (info.value.pid, info.value.since) == (holder.pid, None)
        audience_lock(key, "https://sandbox.example").acquire("sync vip").release()
        holder.kill()
        holder.wait()
    lock = audience_lock(key, "https://api.example/").acquire("sync vip")
    with pytest.raises(LockedError, match="sync vip"):
        audience_lock(key, "https://api.example").acquire("sync vip")
    lock.release()
    audience_lock(key, "https://api.example").acquire("sync vip").release()


@linux
def test_a_home_that_cannot_be_written_needs_no_lock_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a data directory the socket alone excludes other processes."""
    monkeypatch.setenv("XDG_DATA_HOME", "/proc/none")  # not even root can write there
    key = uuid.uuid4().hex
    with audience_lock(key, "https://api.example").acquire("sync vip"), pytest.raises(LockedError):
        audience_lock(key, "https://api.example").acquire("sync vip")
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(StateError, match="cannot be opened"):
        audience_lock(key, "https://api.example").acquire("sync vip")


@linux
def test_sockets_that_are_forbidden_leave_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no socket can be bound, the lock file still excludes the processes that share it."""

    class Forbidden(socket.socket):
        def bind(self, _: object) -> None:
            raise PermissionError(errno.EPERM, "forbidden")

    monkeypatch.setattr(socket, "socket", Forbidden)
    key = uuid.uuid4().hex
    with audience_lock(key, "https://api.example").acquire("sync vip"), pytest.raises(LockedError) as info:
        audience_lock(key, "https://api.example").acquire("sync vip")
    assert info.value.what == "sync vip"
