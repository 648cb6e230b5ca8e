"""The config that a command uses, and the variables that it reads."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import attrs

from ..options._common import ConfigOptions

__all__ = ["DEFAULT_CONFIG", "Announce", "FoundConfig", "find_config"]

DEFAULT_CONFIG = Path("aiobatch.toml")
_VARIABLE = "AIOBATCH_CONFIG"
Announce = Callable[[str], None]


@attrs.frozen
class FoundConfig:
    """The path of a config.

    Attributes:
        path: The path.
        is_explicit: Whether an option names it.
    """

    path: Path
    is_explicit: bool


def find_config(options: ConfigOptions, announce: Announce | None = None) -> FoundConfig | None:
    """Return the config of a command.

    Args:
        options: The options of the command.
        announce: Prints which config is used if no option names it. None: print nothing.

    Returns:
        The config. None if there is none, or if AIOBATCH_CONFIG is set and empty.
    """
    if options.config is not None:
        return FoundConfig(options.config, is_explicit=True)
    named = os.environ.get(_VARIABLE)
    path = DEFAULT_CONFIG if named is None else Path(named)
    if named == "" or (named is None and not path.is_file()):
        return None
    if announce is not None:
        announce(f"Using the config {path}.")
    return FoundConfig(path, is_explicit=False)
