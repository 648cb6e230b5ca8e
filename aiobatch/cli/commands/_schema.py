"""The `init` and `schema` commands: a new config, and JSON Schemas of what is read and written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import orjson
from cyclopts import Parameter

from ...errors import InvalidInputError
from ...sync.config import config_schema, config_template
from .._context import InjectedContext
from .._exit_codes import ExitCode
from ..inputs._config import DEFAULT_CONFIG
from ..output._command_hints import command
from ..output._sync_report import report_schema
from ._history import history_schema
from .doctor._doctor import doctor_schema

__all__ = ["SCHEMAS", "init", "schema"]

#: Name -> function that returns the schema.
SCHEMAS: Final = {
    "config": config_schema,
    "report": report_schema,
    "history": history_schema,
    "doctor": doctor_schema,
}


def init(
    file: Annotated[Path, Parameter(metavar="FILE")] = DEFAULT_CONFIG, /, *, context: InjectedContext
) -> ExitCode:
    """Write a commented config to start from.

    An existing file is not changed.

    Example: `aiobatch init && aiobatch run --check`

    Args:
        file: The config to create.
    """
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(config_template())
    except FileExistsError:
        msg = f"{file} exists already, and was not changed. Name another file, or move it away."
        raise InvalidInputError(msg) from None
    context.info(f"Wrote {file}. Edit it, then run {command('run', str(file), '--check')}.")
    return ExitCode.DONE


def schema(
    what: Literal["config", "report", "history", "doctor"], /, *, context: InjectedContext
) -> ExitCode:
    """Print the JSON Schema of the config or of JSON output.

    Example: `aiobatch schema config > aiobatch.schema.json`

    Args:
        what: `config`: the config of run. `report`: the --json output of commands that sync. `history`: the
            --json output of runs, show and status. `doctor`: the --json output of doctor.
    """
    document = SCHEMAS[what]()
    for line in orjson.dumps(document, option=orjson.OPT_INDENT_2).decode().splitlines():
        context.output.line(line)
    return ExitCode.DONE
