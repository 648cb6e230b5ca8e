"""Print the JSON Schemas of what the command line reads and writes."""

from __future__ import annotations

from typing import Literal

import orjson

from ..sync._config_schema import config_schema
from ._context import Here
from ._exit import ExitCode
from ._sync_report import report_schema

__all__ = ["schema"]


def schema(what: Literal["config", "report"], /, *, context: Here) -> ExitCode:
    """Print the JSON Schema of the config of run, for editors, or of what --json prints, for schedulers.

    Example: `aiobatch schema config > aiobatch.schema.json`

    Args:
        what: Which one.
    """
    document = config_schema() if what == "config" else report_schema()
    context.output.line(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    return ExitCode.DONE
