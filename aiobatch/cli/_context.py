"""The context of a command: its global options, and where it writes."""

from __future__ import annotations

import sys
from typing import Annotated

import attrs
from cyclopts import Parameter
from rich.console import Console

from ..errors import InvalidInputError
from ._arguments import STDIN
from .options._common import GlobalOptions
from .output._messages import Level, is_json_lines, print_message
from .output._progress import Progress
from .output._tables import Output, is_screen, is_terminal

__all__ = ["Context", "InjectedContext"]


@attrs.frozen(kw_only=True)
class Context:
    """Where a command writes.

    Attributes:
        options: Options of every command.
        output: Writes data to stdout.
    """

    options: GlobalOptions
    output: Output

    @classmethod
    def of(cls, options: GlobalOptions) -> Context:
        """Return the context for *options*."""
        return cls(options=options, output=Output(as_json=options.json))

    def info(self, text: str, level: Level = "info") -> None:
        """Print a message to stderr unless --quiet is set.

        Args:
            text: The message.
            level: Its severity.
        """
        if not self.options.quiet:
            print_message(text, level)

    def progress(self, *, transient: bool = False) -> Progress:
        """Return a progress display.

        Args:
            transient: Whether to remove the display at the end.
        """
        bars = not self.options.quiet and not is_json_lines() and is_screen(sys.stderr)
        return Progress(Console(stderr=True), self.info, bars=bars, transient=transient)

    def confirm(self, question: str, *, yes: bool, source: str | None = None) -> None:
        """Ask before an operation that cannot be undone.

        Args:
            question: The question.
            yes: Whether --yes answers it.
            source: The path of the data. Standard input cannot hold both the data and the answer.

        Raises:
            InvalidInputError: The answer is no, or there is no terminal to ask at.
        """
        if yes:
            return
        if source == STDIN or is_json_lines() or not is_terminal(sys.stdin) or not is_terminal(sys.stderr):
            reason = "standard input holds the data" if source == STDIN else "not running in a terminal"
            msg = f"{question} Cannot prompt: {reason}. Pass --yes to confirm. Nothing was sent."
            raise InvalidInputError(msg)
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            msg = "Not confirmed. Nothing was sent."
            raise InvalidInputError(msg)


#: The parameter through which a command gets its context.
InjectedContext = Annotated[Context, Parameter(parse=False)]
