"""Rewrites of the raw argument list, before the parser reads it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ..errors import InvalidInputError

__all__ = [
    "SET_KEYS_HINT",
    "STDIN",
    "decode_stdin_dash",
    "encode_stdin_dash",
    "name_default_state",
    "reject_keys",
]

# What `-` becomes: the parser takes a bare `-` for an option.
STDIN = "/dev/stdin"
SET_KEYS_HINT = (
    "set BATCH_REST_API_KEY and, for API 2.x, BATCH_PROJECT_KEY or, for 1.x, BATCH_API_KEY "
    "in the environment, or in a file given with --env-file"
)
_KEY_OPTION = re.compile(r"--?[a-z0-9_-]*(key|token|secret|password)(=.*)?", re.IGNORECASE | re.DOTALL)


def encode_stdin_dash(argv: Iterable[str]) -> list[str]:
    """Write `-` in a way that the parser does not take for an option."""
    return [STDIN if word == "-" else word for word in argv]


def decode_stdin_dash(text: str) -> str:
    """Undo `encode_stdin_dash` for a word that was not meant as a file."""
    return "-" if text == STDIN else text


def name_default_state(argv: Sequence[str]) -> list[str]:
    """Let a bare `--state` mean the state in the user's data directory."""
    words = list(argv)
    options = words[: words.index("--")] if "--" in words else words
    for place in reversed(range(len(options))):
        following = options[place + 1 : place + 2]
        if options[place] == "--state" and (not following or following[0].startswith("-")):
            words.insert(place + 1, _default_state())
    return words


def _default_state() -> str:
    """Return the state in the user's data directory."""
    from ..sync import default_state_path  # noqa: PLC0415 - only who names a state needs the engine

    return str(default_state_path())


def reject_keys(argv: Sequence[str]) -> None:
    """Refuse a key among the arguments, where every user of the machine could read it.

    Raises:
        InvalidInputError: There is an option that would take one; its value is not repeated.
    """
    for word in argv:
        if word == "--":
            return
        if _KEY_OPTION.fullmatch(word):
            msg = (
                f"{word.partition('=')[0]}: keys are never given as arguments, where other users of this "
                f"machine can read them; {SET_KEYS_HINT}"
            )
            raise InvalidInputError(msg)
