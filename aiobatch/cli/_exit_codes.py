"""Exit codes of the command line, and the explanation of an error."""

from __future__ import annotations

import enum
from typing import Self

import attrs

__all__ = ["ExitCode", "Explanation"]


class ExitCode(enum.IntEnum):
    """The exit code of a command.

    Attributes:
        meaning: One line for the documentation.
    """

    meaning: str

    DONE = 0, "Success, also when a sync had nothing to do."
    FAILED = (
        1,
        (
            "Batch rejected the request or was unreachable, the state file is unusable, or the run was only "
            "partly successful."
        ),
    )
    USAGE = 2, "Invalid usage or input: an option, a name, a file or a missing key. Nothing was sent."
    NOT_FOUND = 3, "The audience or the run does not exist."
    NOT_APPLIED = 4, "Sent, but not APPLIED in time. Continue with `aiobatch wait` or `aiobatch settle`."
    REPLACED = 5, "A later replace superseded the update: another writer uses this audience."
    CHANGED = 10, "Success with changes. Only with `--detailed-exitcode`."
    GUARDED = 11, "The guard refused the plan. Nothing was sent. The message names the flag to allow it once."
    LOCKED = 12, "Another run holds the audience or the state. Nothing was sent."
    DRIFTED = 13, "Batch's member count differs from the state: from `verify`, or with `--strict`."
    BAD_SOURCE = 14, "The source cannot be read completely. None of its IDs were sent."
    STALE = 15, "The source or the state has changed since the plan was saved. Nothing was sent."
    UNKNOWN_MEMBERS = 16, "The audience has members that the state does not know. Nothing was sent."
    OVERDUE = 17, "A place was never loaded, or not recently enough: from `status --max-age`."
    UNHEALTHY = 18, "A check found a problem: from `doctor`."
    BUSY = 75, "The source is locked by another program. Nothing was sent. Try again later."
    INTERRUPTED = 130, "Ended by Ctrl-C (SIGINT)."
    BROKEN_PIPE = 141, "The reader closed the output, for example `head`."
    TERMINATED = 143, "Ended by SIGTERM."

    def __new__(cls, value: int, meaning: str) -> Self:
        """Create a member that equals *value*."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


@attrs.frozen
class Explanation:
    """The report of an error on the command line.

    Attributes:
        code: The exit code.
        lines: The lines to print, without the program's name.
    """

    code: ExitCode
    lines: tuple[str, ...]
