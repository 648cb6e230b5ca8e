"""One session of Spark for all tests, and an audience whose state is in a store."""

from __future__ import annotations

import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ..helpers.s3_server import S3Server, running_s3
from ..sync.cluster.parts import store_url
from ..sync.sync_env import INSTALLS, SyncEnv, sync_env


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder. Spark warns of a newer pandas, and its sockets close late."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.sweep)
            item.add_marker(pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::ResourceWarning"))


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """Run an S3 server with the bucket `bucket`."""
    with running_s3() as server:
        server.create_bucket("bucket")
        yield server


@pytest.fixture(scope="session")
def spark_environment(s3: S3Server) -> Iterator[None]:
    """Skip without Spark. Its executors use this interpreter, and find the S3 server."""
    pytest.importorskip("pyspark", reason="Spark is not installed: make test-spark")
    if shutil.which("java") is None:
        pytest.skip("Java is not installed: apt-get install openjdk-17-jre-headless")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.environ.items():
            patch.setenv(name, value)
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        yield


@pytest.fixture(scope="session")
def spark(spark_environment: None) -> Iterator[Any]:
    """Start Spark with two executors, which try a task three times."""
    from .sessions import start

    session = start("local[2,3]")
    yield session
    session.stop()


@pytest_asyncio.fixture
async def env(tmp_path: Path) -> AsyncIterator[SyncEnv]:
    """Return an environment whose state is in a store."""
    async with sync_env(tmp_path) as env:
        env.target, env.store = INSTALLS, store_url(tmp_path)
        yield env
