from __future__ import annotations

import os
import resource
import signal
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiobatch.sync._private_files import append_private, create_private, replace_private, write_private


@pytest.fixture
def small_files() -> Iterator[None]:
    """Limit files to 100 bytes, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_written_file_is_private(tmp_path: Path) -> None:
    """The mode becomes 0600 even if the file existed with another one."""
    path = tmp_path / "plan.json"
    path.write_bytes(b"something longer")
    path.chmod(0o644)
    write_private(path, b"ids")
    assert path.read_bytes() == b"ids"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_pipe_keeps_its_mode(tmp_path: Path) -> None:
    """The mode of a pipe is the business of its owner."""
    path, read = tmp_path / "pipe", []
    os.mkfifo(path, 0o640)
    path.chmod(0o640)
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    write_private(path, b"ids")
    reader.join()
    assert read == [b"ids"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_no_partial_file_is_left(tmp_path: Path, small_files: None) -> None:
    """A file that could not be written completely is deleted."""
    path = tmp_path / "plan.json"
    with pytest.raises(OSError, match="File too large"):
        write_private(path, b"x" * 1000)
    assert not path.exists()


def test_full_device_is_not_deleted(tmp_path: Path) -> None:
    """Only regular files are deleted after an error."""
    path = Path("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        write_private(path, b"ids")
    assert path.exists()


def test_appended_file_is_private(tmp_path: Path) -> None:
    """Appending creates the file if necessary, and makes it private."""
    path = tmp_path / "rejects.csv"
    append_private(path, b"a\n")
    path.chmod(0o644)
    append_private(path, b"b\n")
    assert path.read_bytes() == b"a\nb\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_replaced_file_is_private_and_follows_no_link(tmp_path: Path) -> None:
    """The draft of a new content is private, and a link in its place is an error, not the target."""
    path, other = tmp_path / "state.status.json", tmp_path / "other"
    replace_private(path, b"old")
    other.write_bytes(b"untouched")
    (tmp_path / "state.status.json.tmp").symlink_to(other)
    with pytest.raises(FileExistsError):
        replace_private(path, b"new")
    assert (path.read_bytes(), other.read_bytes()) == (b"old", b"untouched")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_failed_replacement_leaves_the_old_file(tmp_path: Path, small_files: None) -> None:
    """Where the disk is full, the old content is still there, and no draft."""
    path = tmp_path / "plan.json"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="too large"):
        replace_private(path, b"x" * 100_000)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_created_file_is_private_and_kept(tmp_path: Path) -> None:
    """An existing file keeps its content."""
    path = tmp_path / "log"
    create_private(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(b"log")
    create_private(path)
    assert path.read_bytes() == b"log"
