"""Whole processes: real signals, real pipes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import orjson
import pytest

from aiobatch.cli import ExitCode, main
from aiobatch.cli.commands import _sandbox
from aiobatch.sandbox import API_KEY, API_KEY_ANDROID, PROJECT_KEY, REST_API_KEY, Sandbox

from ..conftest import Run

ROOT = Path(__file__).resolve().parents[3]
# Seconds after which nothing comes any more, however busy the machine is.
_PATIENCE = 120

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start the command line as a process, which does not outlive the test."""
    with contextlib.ExitStack() as stack:

        def start_process(*argv: str, stdin: int | None = None) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "aiobatch", *argv]
            pipe = subprocess.PIPE
            process = subprocess.Popen(command, cwd=ROOT, stdin=stdin, stdout=pipe, stderr=pipe, text=True)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start_process


def _wait_for_polls(sandbox: Sandbox, count: int) -> None:
    """Wait until tokens were asked about so often."""
    deadline = time.monotonic() + _PATIENCE
    while sandbox.operation_counts["view"] + sandbox.operation_counts["list"] < count:
        assert time.monotonic() < deadline, "no token is polled"
        time.sleep(0.01)


def _read_until(stream: IO[str] | None, text: str) -> str:
    """Read lines until one has *text*."""
    assert stream is not None
    seen = ""
    while text not in seen:
        line = stream.readline()
        assert line, f"it ended before {text!r}: {seen}"
        seen += line
    return seen


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGTERM, ExitCode.TERMINATED)],
)
def test_signals_end_a_wait_with_its_tokens(
    number: signal.Signals, code: ExitCode, slow: Sandbox, start: Start, tmp_path: Path
) -> None:
    """Ctrl-C and SIGTERM end a wait without a traceback, with the tokens that resume it on stdout."""
    (tmp_path / "ids").write_text("u1\n")
    polls = slow.operation_counts["view"] + slow.operation_counts["list"] + 1
    process = start("update", "vip", "--add", str(tmp_path / "ids"))
    _read_until(process.stderr, "send to 'vip'")
    _wait_for_polls(slow, polls)
    process.send_signal(number)
    out, err = process.communicate(timeout=_PATIENCE)
    assert process.returncode == code
    assert re.fullmatch(r"vip:update:\S+\n", out)
    assert "`aiobatch wait`" in err
    assert "Traceback" not in err


def test_ctrl_c_ends_reading_of_standard_input(slow: Sandbox, start: Start) -> None:
    """A process that reads standard input ends at once."""
    reader, writer = os.pipe()
    process = start("update", "vip", "--add", "-", "-vv", stdin=reader)
    os.write(writer, b"u1\n")
    _read_until(process.stderr, "reading IDs: file=stdin")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=_PATIENCE)
    os.close(reader)
    os.close(writer)
    assert (process.returncode, out) == (ExitCode.INTERRUPTED, "")
    assert "aiobatch: Interrupted. " in err
    assert "Traceback" not in err


def test_sandbox_prints_its_keys_for_a_shell(run: Run, start: Start, tmp_path: Path) -> None:
    """`aiobatch sandbox` prints lines that --env-file takes, serves, and ends with Ctrl-C."""
    process = start("sandbox", "--indexing-delay", "0", "--seed", "3", "--fault", "slow=0", "--rate", "500/s")
    lines = _read_until(process.stdout, API_KEY_ANDROID)
    keys = tmp_path / "keys.env"
    keys.write_text(lines)
    keys.chmod(0o600)
    for key in (REST_API_KEY, PROJECT_KEY, API_KEY):
        assert f"={key}\n" in lines
    assert run("create", "vip", "--wait", "--env-file", str(keys)).code == 0
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=_PATIENCE)
    assert (process.returncode, out) == (ExitCode.INTERRUPTED, "")
    assert re.search(r"http://127\.0\.0\.1:\d+", err)
    assert "requests answered" in err


def test_sandbox_serves_other_containers(
    run: Run, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --host it listens on all addresses, and the lines for a shell name what another machine needs."""
    process = start("sandbox", "--host", "0.0.0.0", "--taken-name", "409", "--indexing-delay", "0")  # noqa: S104 - as in a container
    lines = _read_until(process.stdout, "BATCH_ALLOW_HTTP=1")
    assert re.search(r"^export BATCH_BASE_URL=http://127\.0\.0\.1:\d+$", lines, re.MULTILINE)
    keys = tmp_path / "keys.env"
    keys.write_text(
        lines.replace("127.0.0.1", "sandbox.invalid").replace("# export BATCH_ALLOW", "BATCH_ALLOW")
    )
    keys.chmod(0o600)
    seen = run("list", "--env-file", str(keys))
    assert "keys are sent without encryption: host=sandbox.invalid:" in seen.err
    assert seen.code == ExitCode.FAILED  # no such machine
    monkeypatch.setenv("BATCH_ALLOW_HTTP", "1")
    keys.write_text(keys.read_text().replace("\nBATCH_ALLOW_HTTP=1", ""))
    assert run("list", "--env-file", str(keys)).code == ExitCode.USAGE  # the file replaces the environment
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=_PATIENCE)


@pytest.mark.parametrize("host", ["203.0.113.9", "no-such-host.invalid"])
def test_sandbox_names_an_address_that_is_not_its_own(run: Run, host: str) -> None:
    """An address of another machine, or an unknown name, is invalid input."""
    result = run("sandbox", "--host", host)
    assert result.code == ExitCode.USAGE
    assert f"Cannot listen on {host!r}: it is no address of this machine. Check --host." in result.err


@contextlib.contextmanager
def _signalling(number: signal.Signals, ready: Callable[[], object]) -> Iterator[None]:
    """Send this process a signal as soon as *ready* returns."""

    def work() -> None:
        ready()
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join()


def test_signal_handlers_are_restored(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal ends a command that runs in the main thread, and the handlers are as they were."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    serving, serve_until_signal = threading.Event(), _sandbox._serve_until_signal

    async def serve() -> None:
        serving.set()
        await serve_until_signal()

    def ready() -> None:
        assert serving.wait(_PATIENCE)

    monkeypatch.setattr(_sandbox, "_serve_until_signal", serve)
    with _signalling(signal.SIGTERM, ready):
        assert main(["sandbox", "--json"]) == ExitCode.TERMINATED
    assert [signal.getsignal(number) for number in numbers] == before
    record = orjson.loads(capfd.readouterr().out)
    assert record["api_keys"] == [API_KEY, API_KEY_ANDROID]
    assert record["base_url"].startswith("http://127.0.0.1:")


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["lines", "JSON"])
def test_interrupted_waits_print_their_tokens(
    options: list[str], slow: Sandbox, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """An interrupted wait leaves its tokens on stdout, as lines or JSON."""
    (tmp_path / "ids").write_text("u1\n")
    polls = slow.operation_counts["view"] + slow.operation_counts["list"] + 1
    with _signalling(signal.SIGINT, lambda: _wait_for_polls(slow, polls)):
        assert main(["update", "vip", "--add", str(tmp_path / "ids"), *options]) == ExitCode.INTERRUPTED
    assert "vip:update:" in capfd.readouterr().out


def test_commands_run_in_another_thread(sandbox: Sandbox, capfd: pytest.CaptureFixture[str]) -> None:
    """In a thread, where Python handles no signals, commands run as well."""
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main(["list"])))
    thread.start()
    thread.join()
    assert codes == [0]


@pytest.mark.parametrize("argv", [["list"], ["view", "vip"], ["wait", "vip:update:x"]])
def test_closed_pipes_have_their_code(argv: Sequence[str], slow: Sandbox, start: Start) -> None:
    """A closed pipe ends each command quietly, with a pipe's code."""
    process = start(*argv)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(_PATIENCE) == ExitCode.BROKEN_PIPE
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()


def test_used_ports_are_named(run: Run, sandbox: Sandbox) -> None:
    """A port in use exits with 2 and is named."""
    result = run("sandbox", "--port", str(sandbox.port))
    assert result.code == ExitCode.USAGE
    assert f"port {sandbox.port}" in result.err


@pytest.mark.sweep
def test_a_run_that_is_killed_while_it_reads_can_run_again(
    run: Run, start: Start, sandbox: Sandbox, tmp_path: Path
) -> None:
    """A pipe is copied beside the state. The next run deletes the copy, and syncs."""
    state, source = tmp_path / "state.duckdb", tmp_path / "users.csv"
    arguments = ("--create", "--state", str(state))
    reading, writing = os.pipe()
    try:
        process = start("sync", "vip", "-", *arguments, stdin=reading)
        os.write(writing, b"user_id\nu1\n")
        spill, deadline = tmp_path / "state.duckdb.spill", time.monotonic() + _PATIENCE
        while not list(spill.glob("aiobatch-*")):
            assert time.monotonic() < deadline, "the pipe is not copied"
            time.sleep(0.01)
        process.kill()
        process.wait()
    finally:
        os.close(reading)
        os.close(writing)
    assert list(spill.iterdir())
    source.write_text("user_id\nu1\nu2\n", encoding="utf-8")
    result = run("sync", "vip", str(source), *arguments)
    assert result.code == ExitCode.DONE, result.err
    assert set(sandbox.members("vip")) == {"u1", "u2"}
