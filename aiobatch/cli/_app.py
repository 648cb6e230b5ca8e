"""The command line as a whole: parse, call, render, and end with an exit code."""

from __future__ import annotations

import importlib.metadata
import inspect
import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated

from cyclopts import App, CycloptsError, Group, Parameter

from ._context import Context, complain
from ._errors import explain
from ._exit import ExitCode
from ._files import hide_dashes, name_default_state
from ._logs import logging_to_stderr
from ._loop import run
from ._options import GlobalOptions
from ._target import refuse_keys

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

_HELP = """Fetch, fill and wait for audiences on Batch.com.

Keys come from the environment or a file (--env-file), never from an argument: BATCH_REST_API_KEY, and
BATCH_PROJECT_KEY for API 2.x or BATCH_API_KEY for 1.x.

Data goes to stdout: a table on a terminal, tab-separated text elsewhere, JSON with --json. Progress and
messages go to stderr.
"""


def _epilogue() -> str:
    """List the exit codes."""
    return "Exit codes:\n\n" + "\n".join(f"- `{int(code)}` {code.meaning}" for code in ExitCode)


def _version() -> str:
    """Name the installed version."""
    try:
        return f"aiobatch {importlib.metadata.version('aiobatch')}"
    except importlib.metadata.PackageNotFoundError:
        return "aiobatch, from its source tree"


def _make_app() -> App:
    """Put the commands together."""
    app = App(
        name="aiobatch",
        help=_HELP,
        help_epilogue=_epilogue(),
        help_format="markdown",
        group_commands=Group("Help", sort_key=len(_COMMANDS)),
        version=_version,
        version_flags=("--version",),
        default_parameter=Parameter(negative_iterable=()),
        print_error=False,
        exit_on_error=False,
        result_action="return_value",
    )
    for order, (title, commands) in enumerate(_COMMANDS.items()):
        group = Group(title, sort_key=order)
        for rank, (name, place) in enumerate(commands.items()):
            app.command(f"{__package__}.{place}", name=name, group=group, sort_key=rank, help_epilogue="")
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
    with logging_to_stderr(options):
        try:
            result = command(*bound.args, **bound.kwargs, context=Context.of(options))
            return run(result) if inspect.iscoroutine(result) else result
        except Exception:
            _logger.debug("the command failed", exc_info=True)
            raise


app = _make_app()


def _load(words: Sequence[str]) -> None:
    """Load all commands where none is named: their list says what each does."""
    names = {name for commands in _COMMANDS.values() for name in commands}
    if "--version" not in words and names.isdisjoint(words):
        app.resolved_commands()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments after the program's name; the process's own by default.

    Returns:
        The exit code: see `ExitCode`.
    """
    words = name_default_state(hide_dashes(sys.argv[1:] if argv is None else argv))
    try:
        refuse_keys(words)
        _load(words)
        code = app.meta(words) or ExitCode.DONE  # None of --help and --version
        _flush()
    except CycloptsError as error:
        complain(f"{error}")
        complain(f"see: {' '.join(('aiobatch', *(error.command_chain or ()), '--help'))}")
        code = ExitCode.USAGE
    except BrokenPipeError:
        _discard_output()
        code = ExitCode.BROKEN_PIPE
    except KeyboardInterrupt:  # outside of the event loop, at a question
        code = ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - a user of the command line gets a line, not a traceback
        explanation = explain(error)
        for line in explanation.lines:
            complain(line)
        code = explanation.code
    if code in {ExitCode.INTERRUPTED, ExitCode.TERMINATED}:
        complain("interrupted")
    return int(code)


def _flush() -> None:
    """Let what was printed go out, where a broken pipe can still be noticed."""
    if sys.stdout is not None:
        sys.stdout.flush()


def _discard_output() -> None:
    """Let the interpreter flush its output at its end without an error."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
