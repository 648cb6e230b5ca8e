"""The command line. Only this package imports the packages for the terminal."""

from __future__ import annotations

from ._app import main
from ._exit_codes import ExitCode

__all__ = ["ExitCode", "main"]
