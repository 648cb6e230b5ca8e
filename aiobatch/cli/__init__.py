"""The command line: parse, call, render; the terminal's packages live here only."""

from __future__ import annotations

from ._app import main
from ._exit_codes import ExitCode

__all__ = ["ExitCode", "main"]
