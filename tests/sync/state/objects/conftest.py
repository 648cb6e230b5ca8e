"""The stores of the tests."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiobatch.sync.state.objects._open import open_store
from aiobatch.sync.state.objects._store import ObjectStore
from aiobatch.sync.state.objects.stores._memory import MemoryStore

from ....helpers.s3_server import S3Server, running_s3

_prefixes = itertools.count()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """Run one S3 server for all tests, with the bucket `bucket`."""
    with running_s3() as server:
        server.create_bucket("bucket")
        yield server


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """Return the server after this process's environment names it."""
    for name, value in s3_server.environ.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture
def s3_url(s3: S3Server) -> str:
    """Return the URL of an empty prefix."""
    return f"s3://bucket/test-{next(_prefixes)}/state"


@pytest.fixture(params=["memory", "file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """Return an empty store of each kind."""
    if request.param == "memory":
        return MemoryStore()
    if request.param == "file":
        return open_store(f"file://{tmp_path}/state")
    return open_store(request.getfixturevalue("s3_url"))
