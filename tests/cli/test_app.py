from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Awaitable
from pathlib import Path

import pytest
from cyclopts import App
from rich.console import Console

import aiobatch
from aiobatch import cli
from aiobatch.cli import ExitCode, _app
from aiobatch.cli._app import app
from aiobatch.sandbox import Sandbox

from .conftest import Result, Run, Terminal

COMMANDS = [name for name in app if not name.startswith("-")]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_an_example(command: str, run: Run) -> None:
    """Each command explains itself and each of its options, and shows an example of itself."""
    result = run(command, "--help")
    assert result.code == 0
    assert f"Usage: aiobatch {command}" in result.out
    assert "Example: " in result.out
    assert f"aiobatch {command}" in result.out.split("Example: ")[1]
    assert result.err == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained(command: str) -> None:
    """Each argument and option of each command has a line of help."""
    command_app = app[command]
    assert isinstance(command_app, App)
    arguments = [one for one in command_app.assemble_argument_collection(parse_docstring=True) if one.parse]
    assert [argument.name for argument in arguments if argument.show and not argument.parameter.help] == []


def test_help_documents_every_exit_code(run: Run) -> None:
    """`aiobatch --help` lists the commands and each exit code with its meaning."""
    result = run("--help")
    words = " ".join(result.out.split())
    assert result.code == 0
    for code in ExitCode:
        assert f"• {int(code)} {code.meaning.replace('`', '')}" in words
    for command in COMMANDS:
        assert f" {command} " in words


def test_missing_command_shows_the_help(run: Run) -> None:
    """Without a command there is help and the exit code of invalid usage."""
    result = run("--quiet")
    assert result.code == ExitCode.USAGE
    assert result.out.startswith("Usage: aiobatch")


def test_version_option_prints_the_package_version(run: Run) -> None:
    """--version prints the version that the package has."""
    assert run("--version") == Result(0, f"aiobatch {aiobatch.__version__}\n", "")


@pytest.mark.parametrize(
    ("argv", "nouns"),
    [
        (["frobnicate"], ["frobnicate", "aiobatch --help"]),
        (["list", "--frobnicate"], ["--frobnicate", "aiobatch list --help"]),
        (["create"], ["NAME", "aiobatch create --help"]),
        (["wait", "a:update:b", "--timeout", "0"], ["--timeout", "aiobatch wait --help"]),
        (["wait", "a:update:b", "--timeout", "inf"], ["--timeout"]),
        (["wait", "a:update:b", "--timeout", "soon"], ["--timeout", '"soon"']),
        (["sandbox", "--port", "70000"], ["port"]),
        (["sandbox", "--fault", "flood=0.1"], ["'flood'"]),
        (["sandbox", "--rate", "0/s"], ["rate"]),
        (["sandbox", "--indexing-delay", "9-2"], ["indexing_delay"]),
        (["list", "--rate", "five"], ["--rate", "'five'"]),
        (["list", "--log-level", "chatty"], ["--log-level"]),
        (["synk", "vip", "users.csv"], ['Did you mean "sync"?']),
        (["run", "--jobs", "0"], ["--jobs", "aiobatch run --help"]),
        (["runs", "--limit", "0"], ["--limit"]),
        (["verify", "vip", "--drift", "-1"], ["--drift"]),
        (["status", "aiobatch.toml"], ["Unexpected argument 'aiobatch.toml'."]),
    ],
    ids=lambda value: " ".join(value) if value[0].islower() else "",
)
def test_invalid_usage_has_two_lines_at_most(
    argv: list[str], nouns: list[str], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An invalid usage exits with 2 and names the argument and the help."""
    monkeypatch.setenv("BATCH_REST_API_KEY", "r")
    monkeypatch.setenv("BATCH_PROJECT_KEY", "p")
    result = run(*argv)
    assert result.code == ExitCode.USAGE
    assert result.out == ""
    assert all(noun in result.err for noun in nouns)
    lines = result.err.splitlines()
    assert len(lines) <= 2
    assert all(line.startswith("aiobatch: ") for line in lines)


@pytest.mark.parametrize(
    "option",
    [
        "--rest-api-key=hunter2",
        "--api-key=hunter2",
        "--project-key=hunter2",
        "--token=hunter2",
        "-KEY=hunter2",
    ],
)
def test_keys_are_rejected_as_arguments(option: str, run: Run) -> None:
    """An option that would take a key is rejected with the alternative, and its value is not repeated."""
    result = run("list", option)
    assert result.code == ExitCode.USAGE
    assert "--env-file" in result.err
    assert "hunter2" not in result.err


def test_words_after_the_delimiter_are_not_options(run: Run) -> None:
    """After `--` a word is a word, whatever it looks like."""
    result = run("view", "--", "--api-key=x")
    assert result.code == ExitCode.USAGE
    assert "audience name '--api-key=x'" in result.err


def test_arguments_are_the_process_own_by_default(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without arguments from the caller, the process's own are used."""
    monkeypatch.setattr(sys, "argv", ["aiobatch", "--help"])
    assert cli.main() == 0
    assert "Usage: aiobatch" in capfd.readouterr().out


def _fail(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make the next command fail with *error*."""

    def run_command(command: Awaitable[ExitCode]) -> ExitCode:
        command.close()  # type: ignore[attr-defined]  # it is a coroutine
        raise error

    monkeypatch.setattr(_app, "run", run_command)


def test_bugs_are_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug is named by its type and place, and its text is not shown."""
    _fail(monkeypatch, ZeroDivisionError("a secret"))
    result = run("list")
    assert result.code == ExitCode.FAILED
    assert "ZeroDivisionError at cli/test_app.py:" in result.err
    assert len(result.err.splitlines()) == 1
    assert "secret" not in result.err


def test_debug_log_has_the_traceback_of_a_bug(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The debug log of a bug has its traceback."""
    _fail(monkeypatch, ZeroDivisionError())
    result = run("list", "--log-level", "debug")
    assert "Traceback (most recent call last)" in result.err


def test_commands_restore_the_logging(run: Run) -> None:
    """A command leaves the logging as it found it."""
    before = list(logging.getLogger().handlers), logging.getLogger("aiobatch").level
    run("list", "-vv")
    assert (logging.getLogger().handlers, logging.getLogger("aiobatch").level) == before


def test_ctrl_c_outside_of_the_loop_has_its_code(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while no event loop runs ends with 130 too."""
    _fail(monkeypatch, KeyboardInterrupt())
    assert run("list") == Result(ExitCode.INTERRUPTED, "", "aiobatch: Interrupted. Nothing was sent.\n")


def test_broken_pipes_have_their_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken pipe leaves an output that the interpreter can flush."""
    reader, writer = os.pipe()
    os.close(reader)
    # Rich stays quiet after this, and other tests need its output.
    loud = property(lambda _: False, lambda console, _: vars(console).update(quiet=False))
    monkeypatch.setattr(Console, "quiet", loud, raising=False)
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert cli.main(["--version"]) == ExitCode.BROKEN_PIPE
        sys.stdout.write("lost")
        sys.stdout.flush()


@pytest.mark.parametrize(
    "words", [["--version"], ["view", "--help"], ["view", "vip"], ["wait", "a:update:b"]]
)
def test_only_sync_commands_load_the_engine(words: list[str]) -> None:
    """Commands that need no sync engine start without it."""
    code = f"import sys; from aiobatch.cli import main; main({words}); sys.exit('duckdb' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout or "BATCH_REST_API_KEY" in done.stderr


def test_closed_streams_are_no_bug(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    """Without any stream a command still has its exit code."""
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    assert cli.main(["create", "vip", "--quiet"]) == ExitCode.DONE
    assert cli.main(["update", "vip", "--add", "-"]) == ExitCode.USAGE


def test_missing_extra_is_named() -> None:
    """Where the extra's packages are not installed, one line names what to install."""
    for package in ("cyclopts", "rich"):
        code = f"import sys; sys.modules[{package!r}] = None; from aiobatch import __main__ as m; m.main([])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.stdout == ""
        assert (
            done.stderr == "aiobatch: the command line needs its extra: pip install 'aiobatch-client[cli]'\n"
        )


def test_quiet_prints_only_data(run: Run, sandbox: Sandbox, tmp_path: Path) -> None:
    """--quiet leaves nothing but data."""
    (tmp_path / "ids").write_text("a\nb\n")
    assert run("create", "vip", "--wait", "-q").err == ""
    assert run("update", "vip", "--add", str(tmp_path / "ids"), "--quiet").err == ""


def test_quiet_shows_no_bars(terminal: Terminal, sandbox: Sandbox) -> None:
    """--quiet shows no bars either."""
    assert terminal.run("create", "vip", "--wait", "--quiet") == 0
    screen = terminal.screen()
    assert "vip" in screen
    assert "wait until" not in screen
