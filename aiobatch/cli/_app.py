"""The command line: its commands, its entry point and its exit codes."""

from __future__ import annotations

import inspect
import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Literal, TextIO

from cyclopts import App, Group, Parameter

from .._version import __version__
from ._arguments import encode_stdin_dash, has_option, reject_keys
from ._context import Context, InjectedContext
from ._exit_codes import ExitCode
from ._signals import SignalledError, run
from .options._common import GlobalOptions
from .output._command_hints import command_context, flatten_options
from .output._errors import report_error
from .output._logging import logging_to_stderr
from .output._messages import print_error, use_json_lines
from .output._tables import Output, OutputError, writing
from .output._telemetry import telemetry

__all__ = ["app", "main"]

_logger = logging.getLogger("aiobatch.cli")
_GLOBALS = GlobalOptions()
# Group -> command -> its module and function. A module is imported with the first of its commands, so that
# `view` does not load the sync engine.
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
        "plan": "_plan:plan",
        "apply": "_plan:apply",
        "run": "_run:run_many",
        "settle": "_settle:settle",
    },
    "Sync: history and repair": {
        "status": "_status:status",
        "report": "report._report:report",
        "runs": "_history:runs",
        "show": "_history:show",
        "verify": "_repair:verify",
        "resync": "_sync:resync",
        "adopt": "_repair:adopt",
        "rollback": "_repair:rollback",
        "forget": "_repair:forget",
        "state": "_repair:state",
    },
    "Tools": {
        "doctor": "doctor._doctor:doctor",
        "sandbox": "_sandbox:sandbox",
        "demo": "_demo:demo",
        "init": "_schema:init",
        "schema": "_schema:schema",
        "completion": "",  # `_completion`, which needs the application
    },
}

_NAMES = frozenset(name for commands in _COMMANDS.values() for name in commands)
# These print one report object with --json, also when they fail.
_REPORTING = frozenset({"sync", "plan", "apply", "run", "resync", "adopt", "rollback"})
# What a signal left, and what to do next.
_NOTHING_SENT = "Nothing was sent."
_IDS_KEPT = "IDs sent so far were kept. Running the command again is safe."
_UNKNOWN = "Whether Batch has done it is unknown: check with `aiobatch list`."
_SANDBOX_GONE = "The sandbox and its data are gone."
_JOURNALED = "Progress is saved. Run the same command again to continue."
_INTERRUPTED_MESSAGES = {
    "create": _UNKNOWN,
    "delete": _UNKNOWN,
    "update": _IDS_KEPT,
    "replace": _IDS_KEPT,
    "wait": "Indexing continues at Batch. Run the same command to wait again.",
    "demo": _SANDBOX_GONE,
    "sandbox": _SANDBOX_GONE,
    "sync": _JOURNALED,
    "apply": f"{_JOURNALED} It fails if the plan has become stale.",
    "run": _JOURNALED,
    "settle": _JOURNALED,
    "resync": _JOURNALED,
    "rollback": _JOURNALED,
}

_HELP = """Create, fill and sync audiences on Batch.com.

Keys come from the environment or from a file (--env-file), never from an argument: BATCH_REST_API_KEY, and
BATCH_PROJECT_KEY for API 2.x or BATCH_API_KEY for 1.x.

Data goes to stdout: a table in a terminal, tab-separated text elsewhere, JSON with --json. Progress and
messages go to stderr.
"""


# Descriptions of commands are their docstrings.
_STRIPPED = (
    "Python runs with -OO, which removes the descriptions. Run it without -OO to read them."
    if sys.flags.optimize > 1
    else ""
)


def _epilogue() -> str:
    """Return the list of exit codes."""
    codes = (f"- `{int(code)}` {code.meaning}" for code in ExitCode)
    return "\n".join([*([_STRIPPED, ""] if _STRIPPED else []), "Exit codes:", "", *codes])


def _make_app() -> App:
    """Return the application with all commands."""
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
        for rank, (name, module) in enumerate(commands.items()):
            place = f"{__package__}.commands.{module}" if module else _completion
            app.command(place, name=name, group=group, sort_key=rank, help_epilogue=_STRIPPED)
    app.meta.suppress_keyboard_interrupt = False  # main has an exit code of its own
    app.meta.default(_launch)
    return app


def _completion(shell: Literal["bash", "zsh", "fish"], /, *, context: InjectedContext) -> ExitCode:
    """Print the completion of a shell.

    Example: `aiobatch completion bash > ~/.local/share/bash-completion/completions/aiobatch`

    Example: `aiobatch completion zsh > ~/.zfunc/_aiobatch`

    Args:
        shell: The shell.
    """
    for line in app.generate_completion(shell=shell).splitlines():
        context.output.line(line)
    return ExitCode.DONE


def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    options: GlobalOptions = _GLOBALS,
) -> ExitCode:
    """Parse *tokens* and call the command."""
    command, bound, left = app.parse_args(tokens)
    if "context" not in left:  # no command was given, so `command` prints the help
        command(*bound.args, **bound.kwargs)
        return ExitCode.USAGE
    bound.apply_defaults()
    context = command_context(**flatten_options(bound.arguments))
    with logging_to_stderr(options), context, telemetry(_command_name(tokens)):
        try:
            result = command(*bound.args, **bound.kwargs, context=Context.of(options))
            return run(result) if inspect.iscoroutine(result) else result
        except Exception as error:
            _logger.debug("the command failed", exc_info=True)
            if isinstance(error, BrokenPipeError | OutputError):
                raise
            return _fail(tokens, error)


app = _make_app()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments after the program's name. Default: those of the process.

    Returns:
        The exit code, see `ExitCode`.
    """
    words = encode_stdin_dash(sys.argv[1:] if argv is None else argv)
    with use_json_lines(has_option(words, "--log-format", "json")):
        try:
            code = _run(words)
            with writing():
                if sys.stdout is not None:
                    sys.stdout.flush()  # while a broken pipe can still be reported
        except BrokenPipeError:
            code = ExitCode.BROKEN_PIPE
        except OutputError as error:
            code = report_error(error)
    for stream in (sys.stdout, sys.stderr):
        _discard_unwritten(stream)
    return int(code)


def _run(words: Sequence[str]) -> ExitCode:
    """Run a command, report its errors and return the exit code."""
    try:
        reject_keys(words)
        if "--version" not in words and _NAMES.isdisjoint(words):
            app.resolved_commands()  # the list of commands needs the docstring of each
        return app.meta(words) or ExitCode.DONE  # None of --help and --version
    except (BrokenPipeError, OutputError):
        raise
    except SystemExit:  # rich turns a broken pipe into this
        raise BrokenPipeError from None
    except SignalledError as error:
        message = error.message or _INTERRUPTED_MESSAGES.get(_command_name(words), _NOTHING_SENT)
        print_error(f"Interrupted. {message}")
        return error.code
    except KeyboardInterrupt:  # outside of the event loop, at a question
        print_error(f"Interrupted. {_NOTHING_SENT}")
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - a user of the command line gets a line, not a traceback
        return _fail(words, error)


def _fail(words: Sequence[str], error: Exception) -> ExitCode:
    """Report an error, as JSON too if the command promises a report, and return the exit code."""
    code, command = report_error(error), _command_name(words)
    if command in _REPORTING and has_option(words, "--json"):
        from .output._sync_report import failure  # noqa: PLC0415 - most commands do not load the engine

        Output(as_json=True).json(failure(command, error, code))
    return code


def _command_name(words: Sequence[str]) -> str:
    """Return the first word that names a command, or an empty string."""
    return next((word for word in words if word in _NAMES), "")


def _discard_unwritten(stream: TextIO | None) -> None:
    """Redirect a stream that cannot be flushed to /dev/null, so that the interpreter can exit."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
