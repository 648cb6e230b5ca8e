"""The stores of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aiobatch.sync import StateUrl
from aiobatch.sync.state.objects._open import open_store
from aiobatch.sync.state.objects._store import ObjectStore
from aiobatch.sync.state.objects.stores._memory import MemoryStore


@pytest.fixture(params=["memory", "file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """Return an empty store of each kind."""
    if request.param == "memory":
        return MemoryStore()
    if request.param == "file":
        return open_store(f"file://{tmp_path}/state")
    return open_store(request.getfixturevalue("s3_url"))


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> StateUrl:
    """Return the URL of an empty store of each kind."""
    if request.param == "s3":
        return StateUrl(request.getfixturevalue("s3_url"))
    return StateUrl(f"file://{tmp_path}/store")


@pytest.fixture
def file_url(tmp_path: Path) -> StateUrl:
    """Return the URL of an empty directory."""
    return StateUrl(f"file://{tmp_path}/store")


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put private directories into one of the test's own, and check that none is left."""
    directory = tmp_path / "scratch"
    directory.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(directory))
    yield directory
    assert not list(directory.iterdir())
