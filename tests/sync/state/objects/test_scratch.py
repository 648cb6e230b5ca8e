"""Private directories of a state on object storage: the next process deletes those of killed ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from aiobatch.sync import StateUrl
from aiobatch.sync.state._lock import FileLock
from aiobatch.sync.state.ledger import _scratch
from aiobatch.sync.state.ledger._scratch import Scratch
from aiobatch.sync.state.objects._open_state import open_state

_OWNER = """
import sys
from pathlib import Path
from aiobatch.sync.state.ledger._scratch import Scratch
scratch = Scratch.create("test")
(scratch.path / "cache.duckdb").write_text("IDs")
print(scratch.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put private directories into one of the test's own."""
    path = tmp_path / "tmp"
    path.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(path))
    monkeypatch.setenv("TMPDIR", str(path))
    return path


def leave(directory: Path, name: str, **owner: str | int) -> Path:
    """Leave a directory as a killed process does. Its lock is held by no process."""
    left = directory / f"aiobatch-state-{name}"
    (left / "cache.duckdb.spill").mkdir(parents=True)
    (left / "cache.duckdb.spill" / "duckdb_temp_block-1").write_text("IDs")
    (left / "cache.duckdb").write_text("IDs")
    holder = {"pid": 1, "host": os.uname().nodename, **owner}
    (left / "owner").write_bytes(orjson.dumps(holder))
    return left


def test_directory_of_a_killed_process_is_deleted(directory: Path) -> None:
    """While its process lives, other processes leave it alone. After a kill, the next one deletes it."""
    with subprocess.Popen(
        [sys.executable, "-c", _OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        owned = Path(owner.stdout.readline().strip())
        Scratch.create("test").delete()
        assert (owned / "cache.duckdb").exists()
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        Scratch.create("test").delete()
    assert not list(directory.iterdir())


def test_each_opening_deletes_what_was_left(directory: Path, tmp_path: Path) -> None:
    """A run and a report start with it."""
    left = leave(directory, "a")
    with open_state(StateUrl(f"file://{tmp_path}/store"), what="test", memory_limit="256MB") as state:
        assert not left.exists()
        assert state.path.exists()
    assert not list(directory.iterdir())


def test_other_directories_are_left_alone(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine, another user, a link, a start in progress and another program keep what they have."""
    elsewhere = leave(directory, "elsewhere", host="another-machine")
    starting = directory / "aiobatch-state-starting"
    starting.mkdir()
    other = directory / "another-program"
    other.mkdir()
    outside = leave(tmp_path, "outside")
    link = directory / "aiobatch-state-link"
    link.symlink_to(outside)
    fake = leave(directory, "fake")
    (fake / "owner").unlink()
    (fake / "owner").symlink_to(outside / "owner")
    _scratch.delete_abandoned(directory)
    assert all(path.exists() for path in (elsewhere, starting, other, outside / "cache.duckdb", link, fake))
    mine = leave(directory, "mine")
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 12345)
        _scratch.delete_abandoned(directory)
    assert mine.exists()
    _scratch.delete_abandoned(directory)
    assert not mine.exists()


def test_a_start_that_fails_leaves_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the lock cannot be taken, the directory is deleted."""

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(FileLock, "acquire", fail)
    with pytest.raises(KeyboardInterrupt):
        Scratch.create("test")
    assert not list(directory.iterdir())


def test_links_in_a_directory_are_not_followed(directory: Path, tmp_path: Path) -> None:
    """What a link leads to is kept."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    left = leave(directory, "a")
    (left / "link").symlink_to(kept)
    _scratch.delete_abandoned(directory)
    assert not left.exists()
    assert (kept / "file").exists()
