"""Real servers for the tests of the sync engine, and a data directory of each test's own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ..helpers.ports import reserved_port

_PASSWORD = "pa/ss:w@rd%1"


def _program(name: str) -> str | None:
    """Return the path of one of PostgreSQL's programs. Debian keeps most of them off the PATH."""
    found = shutil.which(name)
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return found or next(map(str, places), None)


def _unprivileged() -> dict[str, Any]:
    """Return the user to run the server as. PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL refuses to run as root, and there is neither a user 'postgres' nor 'nobody'")


def _initialise(initdb: str, directory: Path, identity: dict[str, Any]) -> None:
    """Create a cluster whose only user needs a password."""
    if identity:
        os.chown(directory, identity["user"], identity["group"])
    secret = directory / "password"
    secret.write_text(_PASSWORD)
    secret.chmod(0o644)
    options = [
        "-U",
        "aio",
        "-A",
        "scram-sha-256",
        f"--pwfile={secret}",
        "--no-sync",
        "-E",
        "UTF8",
        "--locale=C",
    ]
    subprocess.run(
        [initdb, "-D", directory / "data", *options],
        check=True,
        capture_output=True,
        timeout=120,
        cwd=directory,
        **identity,
    )


@contextmanager
def _started(
    postgres: str, data: Path, port: int, identity: dict[str, Any]
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a server. Stop it at the end, even if clients are connected."""
    command = [postgres, "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", "", "-F"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet, cwd=data.parent, **identity) as server:
        try:
            yield server
        finally:
            server.send_signal(signal.SIGINT)


def _wait_until_ready(server: subprocess.Popen[bytes], pg_isready: str, port: int) -> None:
    """Wait until the server accepts connections."""
    for _ in range(600):
        ready = subprocess.run(
            [pg_isready, "-h", "127.0.0.1", "-p", str(port), "-t", "1"], capture_output=True, check=False
        )
        if ready.returncode == 0:
            return
        try:
            server.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail(f"PostgreSQL ended at once, with {server.returncode}")
    pytest.fail("PostgreSQL did not get ready in a minute")


@pytest.fixture(scope="session")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """Return one connection for all examples of a property."""
    with duckdb.connect(config={"threads": 2}) as connection:
        yield connection


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """Start a server on a free port, and return its address with the password percent-encoded."""
    programs = [_program(name) for name in ("initdb", "postgres", "pg_isready")]
    if None in programs:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    initdb, postgres, pg_isready = [str(program) for program in programs]
    identity = _unprivileged()
    # Not under pytest's own directory: the server's user may not enter that.
    directory = Path(tempfile.mkdtemp(prefix="aiobatch-pg-"))
    directory.chmod(0o755)
    try:
        _initialise(initdb, directory, identity)
        with reserved_port() as port, _started(postgres, directory / "data", port, identity) as server:
            _wait_until_ready(server, pg_isready, port)
            yield f"postgresql://aio:pa%2Fss%3Aw%40rd%251@127.0.0.1:{port}/postgres"
    finally:
        shutil.rmtree(directory)


@pytest.fixture(autouse=True)
def _own_data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test its own directory for the locks of audiences."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def quick_path(tmp_path: Path) -> Iterator[Path]:
    """Return a directory in memory if possible, so that many runs need not wait for a disk."""
    memory = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="aiobatch-") as directory:
        yield Path(directory)
