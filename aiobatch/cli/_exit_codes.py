"""What the command line's exit codes mean: one table for scripts, schedulers and the documentation."""

from __future__ import annotations

import enum
from typing import Self

import attrs

__all__ = ["ExitCode", "Explanation"]


class ExitCode(enum.IntEnum):
    """How a command ended.

    Attributes:
        meaning: One line for the documentation.
    """

    meaning: str

    DONE = 0, "Done; a sync that found nothing to do is done as well."
    FAILED = 1, "Batch refused or was out of reach, the state is unusable, or only a part went through."
    USAGE = 2, "Wrong usage or bad input: an option, a name, a file, a key that is missing. Nothing was sent."
    NOT_FOUND = 3, "There is no such audience, or no such run."
    NOT_APPLIED = 4, "Sent, but not APPLIED in time; `aiobatch wait` goes on waiting."
    REPLACED = 5, "A later replace superseded what was sent: someone else writes to this audience."
    CHANGED = 10, "Done, and something was changed; only with `--detailed-exitcode`."
    GUARDED = (
        11,
        "The guard refuses the plan; nothing was sent. Its message names the flag that allows it once.",
    )
    LOCKED = 12, "Another run holds this audience or the state; nothing was sent."
    DRIFTED = 13, "Batch counts other members than we do; of `verify`, and of a sync with `--strict`."
    BAD_SOURCE = 14, "The source cannot be read, or not to its end; nothing was sent."
    STALE = 15, "The saved plan is stale: its source or the state has moved; nothing was sent."
    UNKNOWN_MEMBERS = 16, "The audience has members that the state knows nothing of; nothing was sent."
    INTERRUPTED = 130, "Ended by Ctrl-C (SIGINT)."
    BROKEN_PIPE = 141, "Whoever read the output went away, as `head` does."
    TERMINATED = 143, "Ended by SIGTERM."

    def __new__(cls, value: int, meaning: str) -> Self:
        """Make a member that is its number and knows its meaning."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


@attrs.frozen
class Explanation:
    """What is said of an error.

    Attributes:
        code: The exit code.
        lines: What to print, without the program's name.
    """

    code: ExitCode
    lines: tuple[str, ...]
