"""Groups of options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import attrs
from cyclopts import Group, Parameter, Token
from cyclopts.validators import Number

from ..._validation import to_seconds
from ...errors import InvalidInputError
from ...options import PollingPolicy

__all__ = [
    "Column",
    "ConfigOptions",
    "Flag",
    "GlobalOptions",
    "IdTypeName",
    "ManyOptions",
    "OnOff",
    "Seconds",
    "Source",
    "TargetOptions",
    "WaitAfterwards",
    "WaitOnRequest",
    "WaitOptions",
    "Yes",
    "convert_duration",
]


def convert_duration(_: object, tokens: Sequence[Token]) -> float:
    """Return the seconds of a duration such as `90`, `90s`, `15m` or `26h`."""
    try:
        return to_seconds(tokens[0].value)
    except InvalidInputError as error:
        msg = f'"{tokens[0].value}" is not valid, because {error}'
        raise ValueError(msg) from None


def _check_seconds(_: object, value: float | None) -> None:
    """Raise ValueError if *value* is not above 0 seconds."""
    if value is not None and value <= 0:
        msg = "It must be above 0 seconds."
        raise ValueError(msg)


#: A switch without a `--no-…` twin.
Flag = Annotated[bool, Parameter(negative=(), show_default=False)]
Source = Annotated[str, Parameter(metavar="FILE")]
IdTypeName = Annotated[str | None, Parameter(metavar="TYPE")]
Column = Annotated[str | None, Parameter(metavar="NAME")]
Yes = Annotated[Flag, Parameter(name=("--yes", "-y"))]
OnOff = Annotated[bool, Parameter(show_default=False)]
Seconds = Annotated[
    float | None, Parameter(metavar="DURATION", converter=convert_duration, validator=_check_seconds)
]

_WAITING = Parameter(name="*", group=Group("Waiting", sort_key=4))


@Parameter(name="*", group=Group("Options of every command", sort_key=9))
@attrs.frozen(kw_only=True)
class GlobalOptions:
    """Options of every command.

    Attributes:
        json: Print JSON objects, one a line. Commands that sync print one report.
        quiet: Print errors only, without progress and messages.
        verbose: Log requests and waits to stderr. Pass it twice for more.
        log_level: Log from this level on. Default: warning.
        log_format: Write lines to stderr as text, or as JSON with their context.
    """

    json: Flag = False
    quiet: Annotated[Flag, Parameter(name=("--quiet", "-q"))] = False
    verbose: Annotated[int, Parameter(name=("--verbose", "-v"), count=True, show_default=False)] = 0
    log_level: Literal["debug", "info", "warning", "error"] | None = None
    log_format: Literal["text", "json"] = "text"


@Parameter(name="*", group=Group("Target", sort_key=5))
@attrs.frozen(kw_only=True)
class TargetOptions:
    """The app or project, and the rate of its requests.

    Attributes:
        api: Use API 1.x, 2.x or a version such as 1.1, if keys for both are set.
        env_file: Read keys from the KEY=VALUE lines of this file.
        rate: Send at most this many requests per second, such as 5/s.
    """

    api: Annotated[str | None, Parameter(metavar="VERSION")] = None
    env_file: Annotated[str | None, Parameter(metavar="FILE")] = None
    rate: Annotated[str | None, Parameter(metavar="N/s")] = None


@Parameter(name="*", group=Group("Config", sort_key=8))
@attrs.frozen(kw_only=True)
class ConfigOptions:
    """The config of a command, and the app or project in it.

    Attributes:
        config: Use this config. Default: $AIOBATCH_CONFIG, else ./aiobatch.toml.
        target: Take this app or project of the config. It may be a pattern.
    """

    config: Annotated[Path | None, Parameter(metavar="FILE")] = None
    target: Annotated[str | None, Parameter(metavar="NAME")] = None


@Parameter(name="*", group=Group("Audiences of the config", sort_key=2))
@attrs.frozen(kw_only=True)
class ManyOptions:
    """The audiences of a config that a command works on.

    Attributes:
        only: Take this audience, or all that match, such as 'vip*'. Repeatable.
        jobs: Work on this many audiences at once. Default: as in the config, or 1.
    """

    only: Annotated[tuple[str, ...], Parameter(metavar="NAME", negative=(), show_default=False)] = ()
    jobs: Annotated[int | None, Parameter(metavar="N", validator=Number(gte=1))] = None


@_WAITING
@attrs.frozen(kw_only=True)
class WaitOptions:
    """The limit of a wait.

    Attributes:
        timeout: Wait at most this long.
    """

    timeout: Seconds = PollingPolicy().timeout


@_WAITING
@attrs.frozen(kw_only=True)
class WaitAfterwards(WaitOptions):
    """Options of the wait for a write of members.

    Attributes:
        wait: Wait until APPLIED. Otherwise print the tokens. Default: --wait.
        timeout: Wait at most this long.
    """

    wait: OnOff = True


@_WAITING
@attrs.frozen(kw_only=True)
class WaitOnRequest(WaitOptions):
    """Options of the wait for a new or deleted audience.

    Attributes:
        wait: Wait until APPLIED. Otherwise print the token. Default: --no-wait.
        timeout: Wait at most this long.
    """

    wait: OnOff = False
