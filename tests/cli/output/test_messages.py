from __future__ import annotations

import errno
import io
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import orjson
import pytest

from aiobatch.cli import ExitCode, main
from aiobatch.cli.options._common import GlobalOptions
from aiobatch.cli.output import _messages
from aiobatch.cli.output._logging import logging_to_stderr
from aiobatch.cli.output._messages import log_context, print_message, update_log_context, use_json_lines
from aiobatch.sandbox import Sandbox

from ..conftest import Result, Run, Terminal
from ..reports import users, write

pytestmark = pytest.mark.usefixtures("workdir")

JSON = ("--log-format", "json")
CONFIG = """
[defaults]
create = true
[projects.web]
rest_api_key = "${BATCH_REST_API_KEY}"
project_key = "${BATCH_PROJECT_KEY}"
[audiences.vip]
source = "users.csv"
projects = ["web"]
[audiences.gone]
source = "gone.csv"
projects = ["web"]
"""


def lines(result: Result) -> list[dict[str, Any]]:
    """Return the JSON lines of stderr, each with the required fields."""
    found: list[dict[str, Any]] = [orjson.loads(line) for line in result.err.splitlines()]
    for line in found:
        assert {"time", "level", "logger", "message"} <= line.keys()
        assert line["level"] in {"debug", "info", "warning", "error"}
        assert not line["message"].startswith("aiobatch: ")
    return found


def test_step_lines_have_their_context(run: Run, sandbox: Sandbox) -> None:
    """The line of each step has its audience, its phase and, from sending on, its run."""
    done = run("sync", "vip", write(users(range(20))), "--create", "-vv", *JSON)
    steps = [line for line in lines(done) if line["logger"] == "aiobatch.cli" and line["level"] == "info"]
    said = [(line["phase"], line["message"].partition(":")[0], line.get("run")) for line in steps]
    assert said == [
        ("reading", "read the source", None),
        ("planning", "plan", None),
        ("creating", "create audience", None),
        ("sending", "send", 1),
        ("waiting", "wait until APPLIED", 1),
    ]
    assert {line["audience"] for line in steps} == {"vip"}
    requests = [line for line in lines(done) if line["logger"] != "aiobatch.cli"]
    assert {line.get("audience") for line in requests} >= {"vip"}


def test_errors_have_their_context(run: Run, sandbox: Sandbox) -> None:
    """An error has its remedy, its audience and its phase."""
    run("sync", "vip", write(["a"]), "--create")
    sandbox.replace_behind_back("vip", ["x", "y"])
    (error,) = lines(run("sync", "vip", "users.csv", "--strict", *JSON))
    assert (error["level"], error["audience"]) == ("error", "vip")
    assert "`aiobatch resync vip users.csv`" in error["message"]
    (missing,) = lines(run("sync", "nope", "users.csv", *JSON))
    assert missing["audience"] == "nope"
    assert "--create" in missing["message"]
    *_, empty = lines(run("sync", "vip", write([]), *JSON))
    assert (empty["level"], empty["audience"], empty["phase"]) == ("error", "vip", "planning")


@pytest.mark.parametrize(
    "argv",
    [
        ["frobnicate"],
        ["sync", "vip", "users.csv", "--frob"],
        ["sync"],
        ["list", "--api-key=hunter2"],
        ["view"],
        ["update", "vip"],
        ["run", "nope.toml"],
        ["apply", "nope.json"],
        ["forget", "vip"],
        ["replace", "vip", "users.csv"],
        ["settle", "vip", "--state", "nope.duckdb"],
        ["sandbox", "--port", "70000"],
        ["list", "--log-level", "chatty"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("option", [list(JSON), ["--log-format=json"]], ids=["two words", "one word"])
def test_every_error_is_a_json_line(argv: list[str], option: list[str], run: Run) -> None:
    """Each error is a JSON line if that was requested, also an error of the parser."""
    result = run(*argv, *option)
    assert result.code in {ExitCode.USAGE, ExitCode.FAILED}
    assert [line["level"] for line in lines(result)] == ["error"] * len(result.err.splitlines())
    assert result.err


def test_words_after_the_delimiter_select_no_format(run: Run) -> None:
    """A word after `--` is no option."""
    assert run("view", "--", "no name", *JSON).err.startswith("aiobatch: ")


def test_lines_of_run_have_audience_and_target(run: Run, sandbox: Sandbox) -> None:
    """Each line of `run` has its audience and its target."""
    write(users(range(3)))
    Path("aiobatch.toml").write_text(CONFIG)
    found = lines(run("run", *JSON))
    assert {(line["level"], line["audience"], line["target"]) for line in found} == {
        ("info", "vip", "web"),
        ("error", "gone", "web"),
    }
    assert [line["run"] for line in found if line["audience"] == "vip"] == [1, 1]


def test_commands_without_engine_write_the_same_lines(run: Run, sandbox: Sandbox) -> None:
    """Commands that need no engine write the same lines, and those of tokens that are late or REPLACED."""
    assert [line["level"] for line in lines(run("create", "vip", "--wait", *JSON))] == ["info", "info"]
    Path("ids").write_text("a\n")
    (sent, waited) = lines(run("update", "vip", "--add", "ids", *JSON))[-2:]
    assert "send to 'vip': 1 ID" in sent["message"]
    assert "wait until APPLIED" in waited["message"]
    (missing,) = lines(run("view", "nope", *JSON))
    assert missing["level"] == "error"


def test_json_lines_exclude_bars_and_questions(terminal: Terminal, sandbox: Sandbox) -> None:
    """With JSON lines a terminal shows no bars and no question."""
    assert terminal.run("create", "vip", "--wait", "--quiet") == 0
    assert terminal.run("sync", "vip", write(["a"]), "--json", *JSON) == ExitCode.DONE
    assert terminal.run("delete", "vip", *JSON) == ExitCode.USAGE
    screen = terminal.screen()
    assert "[y/N]" not in screen
    assert "\x1b[" not in screen.split("{", 1)[1]
    assert "--yes" in screen


def test_threads_log_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The record of a thread, which has no context of the command, is JSON too."""
    with logging_to_stderr(GlobalOptions(log_format="json")):
        thread = threading.Thread(target=logging.getLogger("aiobatch.sync").warning, args=["hello"])
        thread.start()
        thread.join()
    assert orjson.loads(capsys.readouterr().err)["message"] == "hello"


def test_contexts_nest(capsys: pytest.CaptureFixture[str]) -> None:
    """The fields of an inner context end with it, and without a context there are none."""
    with use_json_lines(wanted=True):
        update_log_context(run=1)
        with log_context(audience="vip"):
            update_log_context(phase="sending")
            with log_context(run=2):
                print_message("inner")
            print_message("middle", "warning")
        print_message("outer")
    inner, middle, outer = (orjson.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (inner["audience"], inner["phase"], inner["run"]) == ("vip", "sending", 2)
    assert "run" not in middle
    assert outer.keys() == {"time", "level", "logger", "message"}


# -- closed and full streams ----------------------------------------------------------------------


def _run_process(*argv: str, **streams: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the command line as a process."""
    root = Path(__file__).resolve().parents[3]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    return subprocess.run([sys.executable, "-m", "aiobatch", *argv], cwd=root, check=False, **pipes)


@pytest.fixture
def gone() -> Iterator[int]:
    """A pipe whose reader is closed."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.fixture
def full() -> Iterator[IO[str]]:
    """A device that is always full."""
    if not os.access("/dev/full", os.W_OK):
        pytest.skip("/dev/full cannot be written to here")
    with open("/dev/full", "w", encoding="utf-8") as file:  # noqa: PTH123  # a device
        yield file


def test_closed_stderr_does_not_stop_a_command(run: Run, sandbox: Sandbox, gone: int) -> None:
    """A command whose stderr was closed does its work and has its exit code."""
    run("create", "vip", "--wait")
    done = _run_process("sync", "vip", str(Path(write(["a", "b"])).absolute()), "-vv", stderr=gone)
    assert done.returncode == ExitCode.DONE
    assert done.stdout.startswith(b"vip: done: 2 added")
    assert set(sandbox.members("vip")) == {"a", "b"}
    assert _run_process("view", "nope", stderr=gone).returncode == ExitCode.NOT_FOUND


def test_full_stderr_does_not_stop_a_command(
    run: Run, sandbox: Sandbox, full: IO[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command whose stderr is full has its exit code."""
    assert _run_process("create", "vip", "--wait", stderr=full).returncode == ExitCode.DONE
    monkeypatch.setattr(sys, "stderr", full)
    assert main(["frobnicate"]) == ExitCode.USAGE


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "argv",
    [["sync", "vip", "--json"], ["run"], ["schema", "config"]],
    ids=" ".join,
)
def test_full_stdout_is_reported_once(argv: list[str], run: Run, sandbox: Sandbox, full: IO[str]) -> None:
    """A full stdout is a failure that is reported once. The work is done."""
    path = Path(write(["a"])).absolute()
    config = Path("aiobatch.toml")
    config.write_text(f'[defaults]\ncreate = true\n[audiences.vip]\nsource = "{path}"\n')
    more = {"sync": [str(path), "--create"], "run": [str(config.absolute())]}
    result = _run_process(*argv, *more.get(argv[0], ()), stdout=full)
    assert result.returncode == ExitCode.FAILED
    assert result.stderr.count(b"No space left on device") == 1
    assert b"Traceback" not in result.stderr
    if argv[0] in more:
        assert set(sandbox.members("vip")) == {"a"}


def test_unwritten_output_is_discarded(full: IO[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A full stdout can still be flushed at the interpreter's exit."""
    monkeypatch.setattr(sys, "stdout", full)
    assert main(["--version"]) == ExitCode.FAILED
    sys.stdout.write("lost")
    sys.stdout.flush()


class Full(io.StringIO):
    """A full stdout."""

    def write(self, _: str, /) -> int:
        """Fail."""
        raise OSError(errno.ENOSPC, "No space left on device")


class Gone(io.StringIO):
    """A stdout that its reader has closed."""

    def write(self, _: str, /) -> int:
        """Fail."""
        raise BrokenPipeError


@pytest.mark.parametrize(("stream", "code"), [(Full, ExitCode.FAILED), (Gone, ExitCode.BROKEN_PIPE)])
@pytest.mark.parametrize("argv", [["sync", "vip"], ["plan", "vip"], ["run"]], ids=" ".join)
def test_unwritable_stdout_has_its_code(
    argv: list[str],
    stream: type[io.StringIO],
    code: ExitCode,
    run: Run,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An unwritable stdout has its own exit code, whatever prints to it."""
    path = write(["a"])
    Path("aiobatch.toml").write_text(f'[defaults]\ncreate = true\n[audiences.vip]\nsource = "{path}"\n')
    monkeypatch.setattr(sys, "stdout", stream())
    assert run(*argv, *([path, "--create"] if "vip" in argv else [])).code == code


@pytest.mark.parametrize("width", [20, 40, 80])
def test_lines_break_between_words(width: int) -> None:
    """A terminal gets lines that end after a word, and a command in one piece that can be pasted."""
    hint = "`aiobatch resync vip 'my users.csv' --state s`."
    text = f"Audience 'vip': the plan removes 2,900 of 3,000 members. Run {hint}"
    lines = _messages._wrapped(text, width).split("\n")
    assert " ".join(lines) == text
    assert all(len(line) <= width for line in lines if hint not in line)
    assert any(hint in line for line in lines)
