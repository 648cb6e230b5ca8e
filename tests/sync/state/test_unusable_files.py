"""States and locks that the file system does not let us use: refused before anybody is asked."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aiobatch.sync import StateError
from aiobatch.sync.state._state import State, sibling_path

from ..sync_env import sync_env
from .states import open_state, sync

_NOBODY = 65534


@pytest.fixture
def shared() -> Iterator[Path]:
    """Give a directory that every user may enter."""
    with tempfile.TemporaryDirectory(prefix="aiobatch-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory
        directory.chmod(0o755)


@contextmanager
def _nobody() -> Iterator[None]:
    """Run as a user without root's permissions."""
    user = os.geteuid()
    if not user:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("attempt", [open_state, State.read])
def test_unreadable_state_is_an_error(attempt: Callable[[Path], State], shared: Path) -> None:
    """The error names the file and what to check."""
    path = shared / "state.duckdb"
    open_state(path).close()
    for file in shared.iterdir():
        file.chmod(0o666 if file.suffix == ".lock" else 0o000)
    shared.chmod(0o777)
    with (
        _nobody(),
        pytest.raises(StateError, match="Permission denied") as caught,
    ):
        attempt(path)
    assert caught.value.path == str(path)


def test_unwritable_directory_is_an_error(shared: Path) -> None:
    """Neither a new state nor an old one can be locked in it."""
    path = shared / "state.duckdb"
    open_state(path).close()
    shared.chmod(0o555)
    for state in (path, shared / "new.duckdb"):
        with (
            _nobody(),
            pytest.raises(StateError, match=r"cannot be opened.*directory's permissions"),
        ):
            open_state(state)


@pytest.mark.parametrize("place", ["state.duckdb.lock", "data/aiobatch/locks"])
async def test_unusable_lock_stops_before_the_first_request(place: str, tmp_path: Path) -> None:
    """The error names the state's or the audience's lock, and no request was sent."""
    if place.endswith(".lock"):
        (tmp_path / place).mkdir()
    else:
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).touch()
    async with sync_env(tmp_path) as env:
        with pytest.raises(StateError, match=f"{place}.*cannot be opened"):
            await env.sync(["a"])
        assert env.sandbox.request_count == 0


@pytest.mark.parametrize("suffix", [".lock", ".wal", ".spill"])
def test_links_beside_the_state_are_not_followed(tmp_path: Path, suffix: str) -> None:
    """Another user's link at the place of a file of the state ends in an error that names it."""
    path = tmp_path / "state.duckdb"
    with open_state(path) as state:
        sync(state, ["a"])
    target = tmp_path / "target"
    target.write_text("precious")
    sibling_path(path, suffix).unlink(missing_ok=True)
    sibling_path(path, suffix).symlink_to(target)
    with pytest.raises(StateError, match="symbolic link"), open_state(path) as state:
        sync(state, ["b"])
    assert target.read_text() == "precious"


@pytest.mark.parametrize("entry", ["file", "directory"])
def test_foreign_spill_entry_is_kept(tmp_path: Path, entry: str) -> None:
    """A file, or a directory with other files, at the place of the spill directory is not deleted."""
    path = tmp_path / "state.duckdb"
    spill = sibling_path(path, ".spill")
    if entry == "directory":
        spill.mkdir(parents=True)
    notes = spill / "notes.txt" if entry == "directory" else spill
    notes.parent.mkdir(exist_ok=True)
    notes.write_text("precious")
    with pytest.raises(StateError, match=re.escape(spill.name)):
        open_state(path)
    assert notes.read_text() == "precious"


def test_restored_files_become_private(tmp_path: Path) -> None:
    """The log, lock and spill directory have private modes, whatever a backup restored and a kill left."""
    path = tmp_path / "state.duckdb"
    with open_state(path) as state:
        sync(state, ["a"])
    sibling_path(path, ".lock").chmod(0o644)
    sibling_path(path, ".wal").touch(mode=0o644)
    sibling_path(path, ".spill").mkdir(mode=0o755)
    (sibling_path(path, ".spill") / "duckdb_temp_storage_DEFAULT-0.tmp").write_text("IDs of a killed run")
    with open_state(path) as state:
        sync(state, ["b"])
        assert not list(sibling_path(path, ".spill").iterdir())
        modes = {
            suffix: stat.S_IMODE(sibling_path(path, suffix).stat().st_mode)
            for suffix in (".lock", ".wal", ".spill")
        }
    assert modes == {".lock": 0o600, ".wal": 0o600, ".spill": 0o700}


@pytest.mark.parametrize("suffix", ["", ".wal"])
@pytest.mark.parametrize("is_read", [False, True])
def test_pipe_is_no_state(tmp_path: Path, suffix: str, *, is_read: bool) -> None:
    """DuckDB would wait for the other end of a pipe, and no signal would end that."""
    path = tmp_path / "state.duckdb"
    if suffix:
        with open_state(path) as state:
            sync(state, ["a"])
        sibling_path(path, suffix).unlink(missing_ok=True)
    os.mkfifo(sibling_path(path, suffix))
    with pytest.raises(StateError, match=f"duckdb{suffix}.*a pipe or a device"):
        (State.read(path) if is_read else open_state(path).__enter__()).close()
