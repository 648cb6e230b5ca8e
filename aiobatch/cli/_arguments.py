"""Checks and rewrites of the raw argument list, before the parser reads it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence

from ..errors import InvalidInputError

__all__ = ["SET_KEYS_HINT", "STDIN", "decode_stdin_dash", "encode_stdin_dash", "has_option", "reject_keys"]

# What `-` becomes, because the parser reads a bare `-` as an option.
STDIN = "/dev/stdin"
SET_KEYS_HINT = (
    "Set BATCH_REST_API_KEY, and BATCH_PROJECT_KEY for API 2.x or BATCH_API_KEY for 1.x, "
    "in the environment or in a file that you pass with --env-file."
)
_KEY_OPTION = re.compile(r"--?[a-z0-9_-]*(key|token|secret|password)(=.*)?", re.IGNORECASE | re.DOTALL)


def encode_stdin_dash(argv: Iterable[str]) -> list[str]:
    """Return *argv* with each `-` as a path that the parser accepts."""
    return [STDIN if word == "-" else word for word in argv]


def decode_stdin_dash(text: str) -> str:
    """Undo `encode_stdin_dash` for an argument that is no file."""
    return "-" if text == STDIN else text


def has_option(words: Sequence[str], option: str, value: str | None = None) -> bool:
    """Return whether an option is given, with *value* unless that is None.

    Errors of the parser need the answer too, so it cannot come from the parser.
    """
    options = list(itertools.takewhile(lambda word: word != "--", words))
    if value is None:
        return option in options
    return f"{option}={value}" in options or (option, value) in itertools.pairwise(options)


def reject_keys(argv: Sequence[str]) -> None:
    """Raise InvalidInputError if an option would take a key, because other users can read the arguments."""
    for word in itertools.takewhile(lambda word: word != "--", argv):
        if _KEY_OPTION.fullmatch(word):
            msg = (
                f"Option {word.partition('=')[0]}: keys cannot be passed as arguments, because other users "
                f"of this machine can read those. {SET_KEYS_HINT}"
            )
            raise InvalidInputError(msg)
