"""The `schema` command: JSON Schemas of what the command line reads and writes."""

from __future__ import annotations

from typing import Final, Literal

import orjson

from ...sync.config import config_schema
from .._context import InjectedContext
from .._exit_codes import ExitCode
from ..output._sync_report import report_schema
from ._history import history_schema

__all__ = ["SCHEMAS", "schema"]

#: Name -> function that returns the schema.
SCHEMAS: Final = {"config": config_schema, "report": report_schema, "history": history_schema}


def schema(what: Literal["config", "report", "history"], /, *, context: InjectedContext) -> ExitCode:
    """Print the JSON Schema of the config or of JSON output.

    Example: `aiobatch schema config > aiobatch.schema.json`

    Args:
        what: `config`: the config of run. `report`: the --json output of commands that sync. `history`: the
            --json output of runs, show and status.
    """
    document = SCHEMAS[what]()
    for line in orjson.dumps(document, option=orjson.OPT_INDENT_2).decode().splitlines():
        context.output.line(line)
    return ExitCode.DONE
