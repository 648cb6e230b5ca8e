"""The command line as a whole: parse, call, render, and end with an exit code."""

from __future__ import annotations

import inspect
import itertools
import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated, TextIO

from cyclopts import App, Group, Parameter

from .._version import __version__
from ._arguments import encode_stdin_dash, name_default_state, reject_keys
from ._context import Context
from ._exit_codes import ExitCode
from ._signals import SignalledError, run
from .options._common import GlobalOptions
from .output._command_hints import command_context, flatten_options
from .output._errors import report_error
from .output._logging import logging_to_stderr
from .output._messages import print_error, use_json_lines
from .output._tables import Output, OutputError, writing

__all__ = ["app", "main"]

_logger = logging.getLogger("aiobatch.cli")
_GLOBALS = GlobalOptions()
# Group -> commands -> where they are. A file is loaded with the first of its commands, so that one that views
# an audience does not load the sync engine.
_COMMANDS = {
    "Audiences": {
        "view": "_audiences:view",
        "list": "_audiences:list_",
        "create": "_audiences:create",
        "delete": "_audiences:delete",
    },
    "Members": {
        "update": "_members:update",
        "replace": "_members:replace",
        "wait": "_wait:wait",
    },
    "Sync": {
        "sync": "_sync:sync",
        "plan": "_sync:plan",
        "apply": "_sync:apply",
        "run": "_run:run_many",
    },
    "Sync: history and repair": {
        "status": "_history:status",
        "runs": "_history:runs",
        "show": "_history:show",
        "verify": "_repair:verify",
        "resync": "_sync:resync",
        "adopt": "_repair:adopt",
        "rollback": "_repair:rollback",
        "forget": "_repair:forget",
    },
    "Tools": {
        "sandbox": "_sandbox:sandbox",
        "demo": "_demo:demo",
        "schema": "_schema:schema",
    },
}

_NAMES = frozenset(name for commands in _COMMANDS.values() for name in commands)
# Those that promise one report object with --json, whatever becomes of them.
_REPORTING = frozenset({"sync", "plan", "apply", "run", "resync", "adopt", "rollback"})
# What stands when a command ends by a signal, and what to do next.
_SENT = "what was sent stands, and ids that are sent twice change nothing: the same command begins anew"
_MADE = "whether Batch has done it, `aiobatch list` shows"
_JOURNALED = "what was sent is journaled: the same command settles it and goes on"
_GONE = "the sandbox is gone, and what it held"
_INTERRUPTED_MESSAGES = {
    "create": _MADE,
    "delete": _MADE,
    "update": _SENT,
    "replace": _SENT,
    "wait": "what was sent goes on at Batch: the same command waits again",
    "demo": _GONE,
    "sandbox": _GONE,
    "sync": _JOURNALED,
    "apply": f"{_JOURNALED}, or says that the plan is stale",
    "run": _JOURNALED,
    "resync": _JOURNALED,
    "rollback": _JOURNALED,
}
_UNSENT = "nothing was sent"

_HELP = """Fetch, fill and wait for audiences on Batch.com.

Keys come from the environment or a file (--env-file), never from an argument: BATCH_REST_API_KEY, and
BATCH_PROJECT_KEY for API 2.x or BATCH_API_KEY for 1.x.

Data goes to stdout: a table on a terminal, tab-separated text elsewhere, JSON with --json. Progress and
messages go to stderr.
"""


def _epilogue() -> str:
    """List the exit codes."""
    return "Exit codes:\n\n" + "\n".join(f"- `{int(code)}` {code.meaning}" for code in ExitCode)


def _make_app() -> App:
    """Put the commands together."""
    app = App(
        name="aiobatch",
        help=_HELP,
        help_epilogue=_epilogue(),
        help_format="markdown",
        group_commands=Group("Help", sort_key=len(_COMMANDS)),
        version=f"aiobatch {__version__}",
        version_flags=("--version",),
        default_parameter=Parameter(negative_iterable=()),
        print_error=False,
        exit_on_error=False,
        result_action="return_value",
    )
    for order, (title, commands) in enumerate(_COMMANDS.items()):
        group = Group(title, sort_key=order)
        for rank, (name, place) in enumerate(commands.items()):
            app.command(
                f"{__package__}.commands.{place}", name=name, group=group, sort_key=rank, help_epilogue=""
            )
    app.meta.suppress_keyboard_interrupt = False  # main ends with our own code
    app.meta.default(_launch)
    return app


def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    options: GlobalOptions = _GLOBALS,
) -> ExitCode:
    """Find the command among *tokens* and call it."""
    command, bound, left = app.parse_args(tokens)
    if "context" not in left:  # no command was given, and what is called shows the help
        command(*bound.args, **bound.kwargs)
        return ExitCode.USAGE
    with logging_to_stderr(options), command_context(**flatten_options(bound.arguments)):
        try:
            result = command(*bound.args, **bound.kwargs, context=Context.of(options))
            return run(result) if inspect.iscoroutine(result) else result
        except Exception as error:
            _logger.debug("the command failed", exc_info=True)
            if isinstance(error, BrokenPipeError | OutputError):
                raise
            return _fail(tokens, error)


app = _make_app()


def _load(words: Sequence[str]) -> None:
    """Load all commands where none is named: their list says what each does."""
    if "--version" not in words and _NAMES.isdisjoint(words):
        app.resolved_commands()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments after the program's name; the process's own by default.

    Returns:
        The exit code: see `ExitCode`.
    """
    words = encode_stdin_dash(sys.argv[1:] if argv is None else argv)
    with use_json_lines(_asks(words, "--log-format", "json")):
        try:
            code = _attempt(words)
            with writing():
                _flush()
        except BrokenPipeError:
            code = ExitCode.BROKEN_PIPE
        except OutputError as error:
            code = report_error(error)
    for stream in (sys.stdout, sys.stderr):
        _release(stream)
    return int(code)


def _attempt(words: Sequence[str]) -> ExitCode:
    """Do what *words* say, and say what went wrong."""
    try:
        words = name_default_state(words)
        reject_keys(words)
        _load(words)
        return app.meta(words) or ExitCode.DONE  # None of --help and --version
    except (BrokenPipeError, OutputError):
        raise
    except SystemExit:  # what rich makes of a broken pipe
        raise BrokenPipeError from None
    except SignalledError as error:
        print_error(f"interrupted; {error.left or _INTERRUPTED_MESSAGES.get(_command(words), _UNSENT)}")
        return error.code
    except KeyboardInterrupt:  # outside of the event loop, at a question
        print_error(f"interrupted; {_UNSENT}")
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - a user of the command line gets a line, not a traceback
        return _fail(words, error)


def _fail(words: Sequence[str], error: Exception) -> ExitCode:
    """Say what went wrong, in the report too where one was promised; return the exit code."""
    code, command = report_error(error), _command(words)
    if command in _REPORTING and _asks(words, "--json"):
        from .output._sync_report import failure  # noqa: PLC0415 - the commands of the client alone do not load it

        Output(as_json=True).json(failure(command, error, code))
    return code


def _command(words: Sequence[str]) -> str:
    """Return the command that is named, wherever it stands; none is an empty one."""
    return next((word for word in words if word in _NAMES), "")


def _asks(words: Sequence[str], option: str, value: str | None = None) -> bool:
    """Tell whether an option is given, before anything is parsed: what is refused has to be said as well."""
    options = list(itertools.takewhile(lambda word: word != "--", words))
    if value is None:
        return option in options
    return f"{option}={value}" in options or (option, value) in itertools.pairwise(options)


def _flush() -> None:
    """Let what was printed go out, where a broken pipe can still be noticed."""
    if sys.stdout is not None:
        sys.stdout.flush()


def _release(stream: TextIO | None) -> None:
    """Let the interpreter flush a stream at its end without an error: what nobody takes goes nowhere."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
