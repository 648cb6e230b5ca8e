"""Objects and files on web servers as the sources of commands."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiobatch.cli._exit_codes import ExitCode
from aiobatch.sandbox import Sandbox
from aiobatch.sync.sources.objects import _read

from ...helpers.s3_server import KEY_ID, SECRET, S3Server, running_s3
from ...sync.sources.objects.buckets import Bucket
from ..conftest import Run
from ..signals import signal_when

IDS = [f"user-{number}" for number in range(30)]
BODY = "\n".join(["user_id", *IDS, ""]).encode()


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    """Return a running server of buckets."""
    with running_s3() as running:
        yield running


@pytest.fixture
def bucket(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """Return a bucket with a list of IDs, which the environment allows to read."""
    for name, value in server.environ.items():
        monkeypatch.setenv(name, value)
    return Bucket.create(server, {"users/part-0.csv": BODY})


def _digest(run: Run, source: str, home: Path) -> tuple[str, int]:
    """Return the digest and the additions of a saved plan."""
    path = home / "plan.json"
    result = run("plan", "vip", source, "--create", "--out", str(path), "--state", str(home / "new.duckdb"))
    assert result.code in {ExitCode.DONE, ExitCode.CHANGED}, result.err
    text = path.read_text()
    assert KEY_ID not in text
    assert SECRET not in text
    plan: dict[str, Any] = json.loads(text)
    return plan["source_digest"], plan["adds"]


def test_objects_are_synced_and_reported_without_credentials(
    bucket: Bucket, run: Run, sandbox: Sandbox, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report names the object. The config, `update` and `sync` accept it."""
    result = run("sync", "vip", bucket.url("users"), "--create", "--json")
    assert result.code == ExitCode.DONE, result.err
    assert set(sandbox.members("vip")) == set(IDS)
    assert result.objects[0]["source"] == bucket.url("users")
    assert not any(secret in result.out + result.err for secret in (KEY_ID, SECRET))
    (workdir / "aiobatch.toml").write_text(
        '[projects.web]\nrest_api_key = "${BATCH_REST_API_KEY}"\nproject_key = "${BATCH_PROJECT_KEY}"\n'
        f'[audiences.vip]\nsource = "s3://{bucket.name}/${{FOLDER}}/*.csv"\nprojects = ["web"]\n'
    )
    monkeypatch.setenv("FOLDER", "users")
    assert run("run", "--check", "--config", "aiobatch.toml").code == ExitCode.DONE
    run("create", "other")
    result = run("update", "other", "--add", bucket.url("users/part-0.csv"), "--column", "user_id")
    assert result.code == ExitCode.DONE, result.err
    assert set(sandbox.members("other")) == set(IDS)


def test_equal_bytes_give_equal_plans(bucket: Bucket, run: Run, sandbox: Sandbox, workdir: Path) -> None:
    """The place of the bytes is no part of the digest."""
    (workdir / "users.csv").write_bytes(BODY)
    assert sandbox.url
    assert _digest(run, bucket.url("users/*.csv"), workdir) == _digest(run, "users.csv", workdir)


def test_an_object_that_changes_stops_the_run_without_a_call(
    bucket: Bucket, run: Run, sandbox: Sandbox, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit code is that of a bad source, and nothing was written in Batch."""
    copy = _read._copy_stream

    async def copy_and_change(*arguments: Any) -> int:
        end = await copy(*arguments)
        bucket.put("users/part-0.csv", BODY + b"user-x\n")
        return end

    monkeypatch.setattr(_read, "_copy_stream", copy_and_change)
    run("create", "vip")
    result = run("sync", "vip", bucket.url("users"), "--state", str(workdir / "s.duckdb"))
    assert result.code == ExitCode.BAD_SOURCE
    assert "changed while being read" in result.err
    assert not sandbox.members("vip")


@pytest.fixture
def hanging() -> Iterator[tuple[str, threading.Event]]:
    """Return the address of a server that sends half a file, and whether it did."""
    begun, held = threading.Event(), []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            held.append(connection)
            with connection:
                connection.recv(65_536)
                connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\nETag: "1"\r\n\r\nuser_id\n')
                begun.set()
                connection.recv(1)  # until the test ends

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/users.csv?sig=hunter2", begun
        with contextlib.suppress(OSError):  # the client may have closed it
            held[0].shutdown(socket.SHUT_RDWR)
        thread.join(60)


def test_signals_end_a_download_that_hangs(
    hanging: tuple[str, threading.Event], run: Run, sandbox: Sandbox
) -> None:
    """SIGTERM ends it long before the source timeout, and the signature is shown nowhere."""
    url, begun = hanging
    run("create", "vip")
    thread = signal_when(begun.is_set, signal.SIGTERM)
    result = run("sync", "vip", url, "--source-timeout", "3600")
    thread.join()
    assert result.code == ExitCode.TERMINATED
    assert "hunter2" not in result.out + result.err
    assert not sandbox.members("vip")


def test_the_source_timeout_ends_a_download_that_hangs(
    hanging: tuple[str, threading.Event], run: Run, sandbox: Sandbox
) -> None:
    """It limits the wait for the next bytes."""
    url, _ = hanging
    run("create", "vip")
    result = run("sync", "vip", url, "--source-timeout", "1")
    assert result.code == ExitCode.BAD_SOURCE
    assert "nothing arrived for 1 seconds" in result.err
    assert "hunter2" not in result.out + result.err
    assert not sandbox.members("vip")
