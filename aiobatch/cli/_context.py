"""What a command gets beside its arguments: where data and messages go."""

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

_YES = {"y", "yes"}


@attrs.frozen(kw_only=True)
class Context:
    """Where a command writes.

    Attributes:
        options: What holds for every command.
        output: For data.
    """

    options: GlobalOptions
    output: Output

    @classmethod
    def of(cls, options: GlobalOptions) -> Context:
        """Return the context that *options* ask for."""
        return cls(options=options, output=Output(as_json=options.json))

    def info(self, text: str, level: Level = "info") -> None:
        """Write a message to stderr, unless that is quiet.

        Args:
            text: What to say.
            level: How bad it is.
        """
        if not self.options.quiet:
            print_message(text, level)

    def progress(self, *, transient: bool = False) -> Progress:
        """Return a display of what is under way.

        Args:
            transient: Whether nothing of it stays.
        """
        bars = not self.options.quiet and not is_json_lines() and is_screen(sys.stderr)
        return Progress(Console(stderr=True), self.info, bars=bars, transient=transient)

    def confirm(self, question: str, *, yes: bool, source: str | None = None) -> None:
        """Ask before something that cannot be undone.

        Args:
            question: What to ask.
            yes: Whether it was answered beforehand.
            source: Where the data come from; from standard input, no answer can.

        Raises:
            InvalidInputError: The answer is no, or nobody can be asked.
        """
        if yes:
            return
        if source == STDIN or is_json_lines() or not is_terminal(sys.stdin) or not is_terminal(sys.stderr):
            msg = f"{question} Nobody can be asked here: say so with --yes. Nothing was sent."
            raise InvalidInputError(msg)
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in _YES:
            msg = "not confirmed; nothing was sent"
            raise InvalidInputError(msg)


#: The parameter of a command that takes the context.
InjectedContext = Annotated[Context, Parameter(parse=False)]
