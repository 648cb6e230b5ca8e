from __future__ import annotations

import errno
import fcntl
import getpass
import os
import pickle
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from aiobatch.sync._errors import LockedError, StateError
from aiobatch.sync.state import _lock
from aiobatch.sync.state._lock import FileLock, read_holder, whoami

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
    """Run a process that takes the lock, until it says that it has."""
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def test_a_lock_is_private_and_says_who_holds_it(path: Path) -> None:
    """The file has mode 0600 in a directory of mode 0700 and names process, host, user, time and command."""
    with FileLock(path).acquire("sync vip"):
        holder = read_holder(path)
    assert (holder["pid"], holder["user"], holder["what"]) == (os.getpid(), whoami(), "sync vip")
    assert holder["host"]
    assert holder["since"].endswith("+00:00")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_second_holder_is_refused_at_once(path: Path) -> None:
    """While one object holds the lock, another of the same process is refused and told who has it."""
    with FileLock(path).acquire("sync vip"), pytest.raises(LockedError) as info:
        FileLock(path).acquire("sync other")
    assert (info.value.pid, info.value.what) == (os.getpid(), "sync vip")
    assert f"process {os.getpid()} of" in str(info.value)
    assert vars(pickle.loads(pickle.dumps(info.value))) == vars(info.value)  # noqa: S301  # our own


def test_another_process_is_refused_and_a_killed_one_does_not_block(path: Path) -> None:
    """A process that holds the lock blocks others until it is killed with SIGKILL, and no longer."""
    with _start(_HOLD, path) as process:
        with pytest.raises(LockedError) as info:
            FileLock(path).acquire("sync vip")
        process.kill()
    assert info.value.pid == process.pid
    FileLock(path).acquire("sync vip").release()


def test_a_forked_child_does_not_hold_its_parents_lock(path: Path) -> None:
    """A child that outlives its killed parent does not keep the lock."""
    process = _start(_FORK, path)
    assert process.wait() == -signal.SIGKILL
    FileLock(path).acquire("sync vip").release()
    assert process.stdout is not None
    process.stdout.close()


def test_forgetting_a_lock_in_a_child_does_not_unlock_it(path: Path) -> None:
    """What runs in a forked child closes its copy of the descriptor and leaves the lock with the parent."""
    lock, released = FileLock(path).acquire("sync vip"), FileLock(path.with_name("other")).acquire("sync vip")
    parents = os.dup(lock._descriptor or -1)
    released.release()
    _lock._drop_all()
    lock.release()
    with pytest.raises(LockedError):
        FileLock(path).acquire("sync vip")
    os.close(parents)


def test_releasing_twice_is_no_error(path: Path) -> None:
    """A lock can be taken again after it was given back, and given back twice."""
    lock = FileLock(path).acquire("sync vip")
    lock.release()
    lock.release()
    FileLock(path).acquire("sync vip").release()


def test_readers_share_the_lock_and_keep_out_no_reader(path: Path) -> None:
    """Two readers hold the lock together; a writer keeps readers out."""
    with FileLock(path).acquire_shared(), FileLock(path).acquire_shared():
        pass
    with FileLock(path).acquire("sync vip"), pytest.raises(LockedError) as info:
        FileLock(path).acquire_shared()
    assert info.value.what == "sync vip"


def test_a_writer_waits_for_a_reader(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report that is being read does not fail a run: the run waits the moment that it takes."""
    monkeypatch.setattr(_lock, "_READERS_PATIENCE", 60)
    reader = FileLock(path).acquire_shared()
    timer = threading.Timer(0.05, reader.release)
    timer.start()
    FileLock(path).acquire("sync vip").release()
    timer.join()


def test_a_writer_does_not_wait_for_a_reader_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that does not end is named as unknown after a while."""
    monkeypatch.setattr(_lock, "_READERS_PATIENCE", 0.02)
    with FileLock(path).acquire_shared(), pytest.raises(LockedError, match="locked by another process"):
        FileLock(path).acquire("sync vip")


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_an_unreadable_holder_is_unknown(path: Path, text: str) -> None:
    """A lock file that says nothing sensible names nobody."""
    path.parent.mkdir()
    path.write_text(text)
    assert read_holder(path) == {}


def test_who_has_just_taken_the_lock_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between taking the lock and saying who took it there is a moment, which a refused one waits for."""
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


def test_a_lock_that_was_given_back_names_nobody(path: Path) -> None:
    """Nobody is refused in the name of who is gone."""
    FileLock(path).acquire("sync vip").release()
    assert read_holder(path) == {}


def test_a_missing_lock_file_names_nobody(path: Path) -> None:
    """Without a file there is no holder."""
    assert read_holder(path) == {}


def test_a_lock_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    """A directory in the place of the file is an error of the state."""
    with pytest.raises(StateError, match="cannot be opened"):
        FileLock(tmp_path).acquire("sync vip")


@pytest.mark.parametrize(
    ("number", "said"), [(errno.ENOLCK, "local disk"), (errno.EIO, "Input/output error")]
)
def test_a_file_system_without_locks_is_named(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    """A lock that the file system refuses is an error with a remedy, and leaves no descriptor open."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    before = _descriptors()
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StateError, match=said):
        FileLock(path).acquire("sync vip")
    assert _descriptors() == before


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's user that no database knows is named by number."""

    def fail() -> str:
        raise KeyError

    monkeypatch.setattr(getpass, "getuser", fail)
    assert whoami() == f"uid {os.getuid()}"
