"""Paths of a config: their variables, and the state."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ...errors import InvalidInputError
from ..sources._dsn import expand
from ..state.ledger._ledger import StateLocation
from ..state.objects._open_state import to_location


def expanded(path: str, env: Mapping[str, str]) -> str:
    """Return a path with its variables replaced.

    Args:
        path: The path.
        env: The variables.

    Raises:
        InvalidInputError: A variable is not set.
    """
    try:
        return expand(path, env) if "${" in path else path
    except InvalidInputError as error:
        raise InvalidInputError(str(error).removeprefix("source: ")) from None


def locate_state(config: Path, state: str | None, env: Mapping[str, str] | None) -> StateLocation | None:
    """Return the state of a config. A path is relative to the folder of the config.

    Args:
        config: The config.
        state: A path or a URL. None if the config names none.
        env: The variables. None for the environment of the process.

    Raises:
        InvalidInputError: A variable is not set, or it is a URL of an unknown scheme.
    """
    if state is None:
        return None
    location = to_location(expanded(state, os.environ if env is None else env))
    return config.parent / location if isinstance(location, Path) else location
