"""Fixtures: a server of buckets, whose address is in the environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest

from ....helpers.s3_server import S3Server, running_s3
from .buckets import Bucket


@pytest.fixture(scope="package")
def server() -> Iterator[S3Server]:
    """Return a running server."""
    with running_s3() as running:
        yield running


@pytest.fixture
def bucket_of(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, bytes]], Bucket]:
    """Return a function that creates a bucket with objects."""
    for name, value in server.environ.items():
        monkeypatch.setenv(name, value)
    return lambda files: Bucket.create(server, files)
