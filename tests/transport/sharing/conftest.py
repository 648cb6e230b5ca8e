"""A real Redis, in a process of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ...helpers.ports import reserved_port


def wait_for_port(port: int) -> None:
    """Wait until a server listens."""
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail("Redis did not get ready in a minute")


@contextmanager
def running_redis(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Redis that stores nothing."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("Redis is not installed: apt-get install redis-server")
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--requirepass", "pass/word"]
    with subprocess.Popen([program, *options], stdout=subprocess.DEVNULL) as server:
        try:
            wait_for_port(port)
            yield server
        finally:
            server.kill()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The URL of a running Redis."""
    with reserved_port() as port, running_redis(port):
        yield f"redis://:pass%2Fword@127.0.0.1:{port}/0"
