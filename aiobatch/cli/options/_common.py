"""Groups of options that commands share."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import attrs
from cyclopts import Group, Parameter

from ...options import PollingPolicy

__all__ = [
    "Column",
    "Flag",
    "GlobalOptions",
    "IdTypeName",
    "OnOff",
    "Seconds",
    "Source",
    "TargetOptions",
    "WaitAfterwards",
    "WaitOnRequest",
    "WaitOptions",
    "Yes",
]

IdTypeName = Literal["custom_ids", "advertising_ids", "install_ids"]


def _check_seconds(_: object, value: float | None) -> None:
    """Refuse what is no time to wait."""
    if value is not None and not 0 < value < math.inf:
        msg = "It must be a number of seconds above 0."
        raise ValueError(msg)


#: A switch without a `--no-…` twin.
Flag = Annotated[bool, Parameter(negative=(), show_default=False)]
Source = Annotated[str, Parameter(metavar="FILE")]
Column = Annotated[str | None, Parameter(metavar="NAME")]
Yes = Annotated[Flag, Parameter(name=("--yes", "-y"))]
OnOff = Annotated[bool, Parameter(show_default=False)]
Seconds = Annotated[float | None, Parameter(metavar="SECONDS", validator=_check_seconds)]

_WAITING = Parameter(name="*", group=Group("Waiting", sort_key=4))


@Parameter(name="*", group=Group("Options of every command", sort_key=9))
@attrs.frozen(kw_only=True)
class GlobalOptions:
    """Options of every command.

    Attributes:
        json: Print JSON, one object per line, in place of a table or tab-separated text; sync, plan, apply,
            run, resync, adopt and rollback print one report, whatever becomes of them.
        quiet: Print no progress and no messages; errors are still printed.
        verbose: Log requests and waits on stderr; twice for every detail.
        log_level: Log from this level on; warnings and errors by default.
        log_format: How all lines on stderr are written: text, or JSON with time, level, logger, message and,
            where they are known, audience, target, phase and run.
    """

    json: Flag = False
    quiet: Annotated[Flag, Parameter(name=("--quiet", "-q"))] = False
    verbose: Annotated[int, Parameter(name=("--verbose", "-v"), count=True, show_default=False)] = 0
    log_level: Literal["debug", "info", "warning", "error"] | None = None
    log_format: Literal["text", "json"] = "text"


@Parameter(name="*", group=Group("Target", sort_key=5))
@attrs.frozen(kw_only=True)
class TargetOptions:
    """Whose audiences, and how fast.

    Attributes:
        api: The API, 1.x or 2.x, or a version such as 1.1; needed only where keys for both are set.
        env_file: Take keys from the KEY=VALUE lines of this file, in place of the environment.
        rate: Send so many requests per second at most, for instance 5/s.
    """

    api: Annotated[str | None, Parameter(metavar="VERSION")] = None
    env_file: Annotated[str | None, Parameter(metavar="FILE")] = None
    rate: Annotated[str | None, Parameter(metavar="N/s")] = None


@_WAITING
@attrs.frozen(kw_only=True)
class WaitOptions:
    """How long to wait.

    Attributes:
        timeout: Seconds to wait at most.
    """

    timeout: Seconds = PollingPolicy().timeout


@_WAITING
@attrs.frozen(kw_only=True)
class WaitAfterwards(WaitOptions):
    """Whether and how long to wait for a write of members.

    Attributes:
        wait: Wait until APPLIED (the default), or print the tokens at once, for `aiobatch wait`.
        timeout: Seconds to wait at most.
    """

    wait: OnOff = True


@_WAITING
@attrs.frozen(kw_only=True)
class WaitOnRequest(WaitOptions):
    """Whether and how long to wait for the making or deleting of an audience.

    Attributes:
        wait: Wait until APPLIED, or print the token at once (the default), for `aiobatch wait`.
        timeout: Seconds to wait at most.
    """

    wait: OnOff = False
