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


def test_no_command_shows_the_help_and_is_wrong(run: Run) -> None:
    """Without a command there is help, and the code says that nothing was done."""
    result = run("--quiet")
    assert result.code == ExitCode.USAGE
    assert result.out.startswith("Usage: aiobatch")


def test_version_option_prints_the_package_version(run: Run) -> None:
    """--version prints the version that the package has."""
    assert run("--version") == Result(0, f"aiobatch {aiobatch.__version__}\n", "")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["frobnicate"], ['Unknown command "frobnicate"', "see: aiobatch --help"]),
        (["list", "--frobnicate"], ["Unknown option: --frobnicate", "see: aiobatch list --help"]),
        (["create"], ["NAME requires an argument", "see: aiobatch create --help"]),
        (["wait", "a:update:b", "--timeout", "0"], ["a number of seconds above 0", "aiobatch wait --help"]),
        (["wait", "a:update:b", "--timeout", "inf"], ["a number of seconds above 0"]),
        (["wait", "a:update:b", "--timeout", "soon"], ['unable to convert "soon"']),
        (["sandbox", "--port", "70000"], ["port must be an integer from 0"]),
        (["sandbox", "--fault", "flood=0.1"], ["Fault 'flood' is unknown"]),
        (["sandbox", "--rate", "0/s"], ["rate must be above 0"]),
        (["sandbox", "--indexing-delay", "9-2"], ["the shortest delay 9.0 is longer"]),
        (["list", "--log-level", "chatty"], ["--log-level"]),
        (["synk", "vip", "users.csv"], ['Did you mean "sync"?']),
        (["run", "--jobs", "0"], ["--jobs", "Must be >= 1", "aiobatch run --help"]),
        (["runs", "--limit", "0"], ["--limit", "Must be >= 1"]),
        (["verify", "vip", "--drift", "-1"], ["--drift", "Must be >= 0"]),
    ],
    ids=lambda value: " ".join(value) if value[0].islower() else "",
)
def test_wrong_usage_is_two_lines_at_most(argv: list[str], said: list[str], run: Run) -> None:
    """A usage that is wrong exits with 2 and says what is wrong and where to look."""
    result = run(*argv)
    assert result.code == ExitCode.USAGE
    assert result.out == ""
    assert all(text in result.err for text in said)
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
def test_keys_are_no_arguments(option: str, run: Run) -> None:
    """An option that would take a key is refused with the way to give it, and its value is not repeated."""
    result = run("list", option)
    assert result.code == ExitCode.USAGE
    assert "keys are never given as arguments" in result.err
    assert "--env-file" in result.err
    assert "hunter2" not in result.err


def test_words_after_the_delimiter_are_no_options(run: Run) -> None:
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
    """Let whatever runs next fail with *error*."""

    def run_command(command: Awaitable[ExitCode]) -> ExitCode:
        command.close()  # type: ignore[attr-defined]  # it is a coroutine
        raise error

    monkeypatch.setattr(_app, "run", run_command)


def test_a_defect_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is nobody's fault but ours is named by its type and place, and shows nothing of its text."""
    _fail(monkeypatch, ZeroDivisionError("a secret"))
    result = run("list")
    assert result.code == ExitCode.FAILED
    assert result.err.startswith("aiobatch: a defect of aiobatch: ZeroDivisionError at cli/test_app.py:")
    assert len(result.err.splitlines()) == 1
    assert "secret" not in result.err


def test_a_traceback_is_in_the_log(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for the log of a defect gets its traceback."""
    _fail(monkeypatch, ZeroDivisionError())
    result = run("list", "--log-level", "debug")
    assert "Traceback (most recent call last)" in result.err


def test_the_log_goes_with_the_command(run: Run) -> None:
    """Logging is as it was when a command has ended."""
    before = list(logging.getLogger().handlers), logging.getLogger("aiobatch").level
    run("list", "-vv")
    assert (logging.getLogger().handlers, logging.getLogger("aiobatch").level) == before


def test_ctrl_c_outside_of_the_loop(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while no event loop runs ends with 130 as well."""
    _fail(monkeypatch, KeyboardInterrupt())
    assert run("list") == Result(ExitCode.INTERRUPTED, "", "aiobatch: interrupted; nothing was sent\n")


def test_a_reader_that_went_away_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken pipe leaves an output that the interpreter can flush."""
    reader, writer = os.pipe()
    os.close(reader)
    # Rich keeps quiet for good after this, and other tests want to read.
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
def test_the_engine_is_loaded_by_its_own_commands_only(words: list[str]) -> None:
    """What needs no sync engine does not load it, so that it starts at once."""
    code = f"import sys; from aiobatch.cli import main; main({words}); sys.exit('duckdb' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout or "no keys are set" in done.stderr


def test_closed_streams_are_no_defect(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    """Without any stream the exit code still says how it ended."""
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    assert cli.main(["create", "vip", "--quiet"]) == ExitCode.DONE
    assert cli.main(["update", "vip", "--add", "-"]) == ExitCode.USAGE


def test_missing_extra_is_one_clear_line() -> None:
    """Where the extra's packages are not installed, one line names what to install."""
    for package in ("cyclopts", "rich"):
        code = f"import sys; sys.modules[{package!r}] = None; from aiobatch import __main__ as m; m.main([])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.stdout == ""
        assert (
            done.stderr == "aiobatch: the command line needs its extra: pip install 'aiobatch-client[cli]'\n"
        )


def test_quiet_is_quiet(run: Run, sandbox: Sandbox, tmp_path: Path) -> None:
    """--quiet leaves nothing but data."""
    (tmp_path / "ids").write_text("a\nb\n")
    assert run("create", "vip", "--wait", "-q").err == ""
    assert run("update", "vip", "--add", str(tmp_path / "ids"), "--quiet").err == ""


def test_quiet_at_a_terminal(terminal: Terminal, sandbox: Sandbox) -> None:
    """--quiet shows no bars either."""
    assert terminal.run("create", "vip", "--wait", "--quiet") == 0
    screen = terminal.screen()
    assert "vip" in screen
    assert "wait until" not in screen
