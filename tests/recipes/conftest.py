"""The place in which a recipe runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from aiobatch.sandbox import Sandbox, SandboxOptions

from ..helpers.s3_server import S3Server, running_s3
from .page import Place


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """Return a directory, and a sandbox that applies updates at once."""
    async with Sandbox(SandboxOptions(indexing_delay=0.01)) as sandbox:
        yield Place(tmp_path, sandbox)


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """Run one S3 server, with the bucket of the pages."""
    with running_s3() as server:
        server.create_bucket("my-bucket")
        yield server
