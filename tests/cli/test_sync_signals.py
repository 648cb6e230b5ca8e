"""Syncs as whole processes, and as this one, ended by signals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from aiobatch.cli import ExitCode
from aiobatch.sandbox import Sandbox
from aiobatch.sync import Phase, SyncEngine, SyncProgress

from .conftest import Result, Run, SandboxThread, apply_all, set_keys
from .reports import report, users, write
from .signals import PATIENCE, signal_when, wait_until

pytestmark = pytest.mark.usefixtures("workdir")

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, ExitCode.TERMINATED), (signal.SIGINT, ExitCode.INTERRUPTED)],
)
def test_signals_stop_a_process_gracefully(
    number: signal.Signals, code: ExitCode, slow: Sandbox, run: Run
) -> None:
    """After a signal, chunks in flight finish, and the report and the exit code are those of the signal."""
    path = Path(write(users(range(25_000)))).absolute()
    command = [sys.executable, "-m", "aiobatch", "sync", "vip", str(path), "--json", "--log-format", "json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process:
        wait_until(lambda: slow.operation_counts["update"] == 3)
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
    values = report(Result(process.returncode, out, err))
    assert process.returncode == code
    assert values["outcome"] == "interrupted"
    assert values["error"] in err
    assert "Stopping" in err
    slow._store._draw_delay = lambda: 0.0
    (vip,) = run("status", "--json").objects
    assert (vip["open_run"], vip["open_ids"]) == (1, {"sent": 25_000})


def test_signals_stop_this_process_gracefully(slow: Sandbox, run: Run) -> None:
    """A command that was called as a function has the same code and report."""
    path = write(["a"])
    watch = signal_when(lambda: slow.operation_counts["update"], signal.SIGTERM)
    result = run("sync", "vip", path, "--json")
    watch.join()
    assert result.code == ExitCode.TERMINATED
    assert report(result)["error_type"] == "InterruptedRunError"


@pytest.mark.parametrize("option", ["--env-file", "--config"])
def test_signal_ends_the_wait_for_a_file(option: str, run: Run) -> None:
    """A pipe that never ends, as the config or the file of keys, is not waited for."""
    os.mkfifo("pipe")
    writers: list[int] = []

    def is_read() -> bool:
        with contextlib.suppress(OSError):  # nothing reads it yet
            writers.append(os.open("pipe", os.O_WRONLY | os.O_NONBLOCK))
        return bool(writers)

    watch = signal_when(is_read, signal.SIGTERM)
    result = run("sync", "vip", write(["a"]), option, "pipe")
    watch.join()
    os.close(writers[0])
    assert result.code == ExitCode.TERMINATED
    assert "Stopping" not in result.err


def test_killed_runs_are_resumed(slow: Sandbox, run: Run) -> None:
    """After kill -9 the next run finishes the killed one, and ends with exactly the source."""
    path = Path(write(users(range(25_000)))).absolute()
    command = [sys.executable, "-m", "aiobatch", "sync", "vip", str(path), "--quiet"]
    with subprocess.Popen(command, cwd=ROOT) as process:
        wait_until(lambda: slow.operation_counts["update"] >= 1)
        process.kill()
    apply_all(slow)
    assert report(run("sync", "vip", str(path), "--json"))["settled_run"] == 1
    assert set(slow.members("vip")) == set(users(range(25_000)))


def test_settling_an_interrupted_run_is_no_success(run: Run, sandbox: Sandbox) -> None:
    """If a signal left chunks unsent, settle fails, and the next sync sends them."""
    run("create", "vip", "--wait")
    path = write(users(range(120_000)))
    watch = signal_when(lambda: sandbox.operation_counts["update"] >= 2, signal.SIGTERM)
    assert run("sync", "vip", path, "--grace", "0", "--rate", "2").code == ExitCode.TERMINATED
    watch.join()
    for again in (run("settle", "vip"), run("settle", "vip")):
        assert again.code == ExitCode.FAILED
        assert again.rows == [["vip", "1", "FAILED"]]
        assert "120,000 changes" in again.err
    assert run("sync", "vip", path).code == ExitCode.DONE
    assert run("settle", "vip").rows == [["vip", "2", "APPLIED"]]
    assert set(sandbox.members("vip")) == set(users(range(120_000)))


@pytest.mark.parametrize("read", [0, 5])
def test_second_signals_cancel(
    read: int, sandbox: Sandbox, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second signal cancels the run, and its report has the last progress."""
    began = threading.Event()

    async def hang(engine: SyncEngine, *_: object) -> None:
        if read:
            assert engine.on_progress is not None
            engine.on_progress(SyncProgress(audience="vip", phase=Phase.READING, read=read))
        began.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(SyncEngine, "sync", hang)
    watch = signal_when(began.is_set, signal.SIGTERM, signal.SIGTERM)
    result = run("sync", "vip", "users.csv", "--json")
    watch.join()
    assert result.code == ExitCode.TERMINATED
    values = report(result)
    assert (values["outcome"], values["read"], values["error_type"]) == (
        "interrupted",
        read,
        "CancelledError",
    )
    assert values["error"].startswith("Cancelled.")


def test_reports_of_cancelled_runs_have_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second signal leaves a slow chunk, and the report has the run and its plan."""
    with SandboxThread(indexing_delay=0, slow_answer=60) as sandbox:
        set_keys(monkeypatch, sandbox)
        run("create", "vip", "--wait")
        sandbox.fail_next("slow", operation="update")
        path = write(users(range(5)))
        watch = signal_when(lambda: sandbox.operation_counts["update"], signal.SIGTERM, signal.SIGTERM)
        result = run("sync", "vip", path, "--json")
        watch.join()
        values = report(result)
        assert result.code == ExitCode.TERMINATED
        assert (values["outcome"], values["error_type"]) == ("interrupted", "CancelledError")
        assert (values["run"], values["read"], values["adds"], values["applied"]) == (1, 5, 5, 0)
        assert values["error"].startswith("Cancelled.")
        settled = report(run("sync", "vip", path, "--json"))
        assert (settled["settled_run"], settled["adds"]) == (1, 5)
        assert set(sandbox.members("vip")) == set(users(range(5)))


def test_signals_stop_settle_gracefully(slow: Sandbox, run: Run) -> None:
    """An interrupted settle leaves the run open."""
    run("sync", "vip", write(["a"]), "--no-wait")
    before = slow.operation_counts["view"]
    watch = signal_when(lambda: slow.operation_counts["view"] > before, signal.SIGTERM)
    result = run("settle", "vip")
    watch.join()
    assert result.code == ExitCode.TERMINATED
    assert run("status", "--json").objects[0]["open_run"] == 1
