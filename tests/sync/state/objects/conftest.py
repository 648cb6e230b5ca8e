"""The stores of the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

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
