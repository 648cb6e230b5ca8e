"""States and locks that the file system does not let us use: refused before anybody is asked."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aiobatch.sync import StateError
from aiobatch.sync.state._state import State

from ..sync_env import sync_env
from .states import open_state

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
