from __future__ import annotations

import os
import resource
import signal
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiobatch.sync._private_files import write_private


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let the system refuse files of more than 100 bytes, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    """Whoever could read what stood there before, nobody else can read what is written."""
    path = tmp_path / "plan.json"
    path.write_bytes(b"something longer")
    path.chmod(0o644)
    write_private(path, b"ids")
    assert path.read_bytes() == b"ids"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_pipe_keeps_its_mode(tmp_path: Path) -> None:
    """What is no file belongs to somebody else, who decides who reads it."""
    path, read = tmp_path / "pipe", []
    os.mkfifo(path, 0o640)
    path.chmod(0o640)
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    write_private(path, b"ids")
    reader.join()
    assert read == [b"ids"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_no_half_of_a_file_is_left(tmp_path: Path, small_files: None) -> None:
    """What could not be written whole is not there to be taken for a whole one."""
    path = tmp_path / "plan.json"
    with pytest.raises(OSError, match="File too large"):
        write_private(path, b"x" * 1000)
    assert not path.exists()


def test_a_device_that_is_full_stays(tmp_path: Path) -> None:
    """A device is not taken away for having refused."""
    path = Path("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        write_private(path, b"ids")
    assert path.exists()
