"""An S3 server for all tests of a process, and an empty prefix in it for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from .s3_server import S3Server, running_s3

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
