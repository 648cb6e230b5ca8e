"""Names and tokens from arguments or from standard input."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from ...errors import InvalidInputError
from .._arguments import STDIN
from .._signals import in_thread

__all__ = ["read_words", "stdin_lines"]

_T = TypeVar("_T")
# Enough characters for any word. A binary file without newlines must not fill the memory.
_LONGEST_LINE = 1024 * 1024


async def read_words(words: Iterable[str], parse: Callable[[str], _T]) -> list[_T]:
    """Return the parsed words of the command line. STDIN stands for the words on standard input.

    Args:
        words: Arguments.
        parse: Parses one word.

    Raises:
        InvalidInputError: A word is invalid, or standard input is not text.
    """
    parsed: list[_T] = []
    for word in words:
        if word == STDIN:
            words = await in_thread(lambda: [word for line in stdin_lines() for word in line.split()])
            parsed += map(parse, words)
        else:
            parsed.append(parse(word))
    return parsed


def stdin_lines() -> Iterator[str]:
    """Yield the lines of standard input.

    Raises:
        InvalidInputError: Standard input is closed or is not text.
    """
    if sys.stdin is None:
        msg = "Standard input is closed."
        raise InvalidInputError(msg)
    # Not sys.stdin itself: a thread that still reads it would abort the interpreter's exit.
    with open(sys.stdin.fileno(), encoding="utf-8-sig", closefd=False) as file:
        try:
            while line := file.readline(_LONGEST_LINE):
                if len(line) == _LONGEST_LINE:
                    msg = f"Standard input has a line of more than {_LONGEST_LINE:,} characters. Is it text?"
                    raise InvalidInputError(msg)
                yield line
        except UnicodeDecodeError:
            msg = "Standard input is not UTF-8 text. Convert it first."
            raise InvalidInputError(msg) from None
