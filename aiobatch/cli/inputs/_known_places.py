"""The places of a config, or else of a state, and what is recorded of them."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Sequence

import attrs

from ...errors import InvalidInputError, SyncError
from ...options import App, Project
from ...sync import (
    Attempt,
    Config,
    PlaceStatus,
    StateLocation,
    Status,
    SyncEngine,
    configured_places,
    default_state_path,
    load_config,
    read_attempts,
    recorded_places,
)
from ..options._common import ConfigOptions
from ._config import Announce, find_config
from ._credentials import choose_target, variables

__all__ = ["KnownPlaces", "find_places"]


@attrs.frozen(kw_only=True)
class KnownPlaces:
    """What is known about the places of a command.

    Attributes:
        state: The state.
        places: The places.
        attempts: The attempts beside the state, in the order of their starts.
        config: The config. None if there is none.
        live: Whether a run has the state file open, so that the status is what it wrote last.
        written: When the status was taken. None if it could not be read.
        problem: Why the state or its attempts cannot be read. None if they can.
    """

    state: StateLocation
    places: Sequence[PlaceStatus]
    attempts: Sequence[Attempt] = ()
    config: Config | None = None
    live: bool = False
    written: dt.datetime | None = None
    problem: Exception | None = None

    @property
    def is_new(self) -> bool:
        """Whether the state does not exist yet."""
        return getattr(self.problem, "reason", None) == "missing"


def find_places(
    where: ConfigOptions, state: StateLocation | None, env_file: str | None, announce: Announce
) -> KnownPlaces:
    """Return the places of the config, or else of the state. No keys are needed.

    Args:
        where: The config, and the app or project in it.
        state: The state that an option names. None if there is none.
        env_file: The file of variables. None for the environment.
        announce: Prints which config is used if no option names it.

    Raises:
        InvalidInputError: The config is invalid, or has no such app or project.
        OSError: The config or the env file cannot be read.
    """
    # A state that is named is not the one of a config that is not.
    is_wanted = state is None or where.config is not None
    found = find_config(where, announce) if is_wanted else None
    if found is None:
        if where.target is not None:
            msg = "--target names an app or project of a config. Pass --config."
            raise InvalidInputError(msg)
        return _read(state or default_state_path(), None, None)
    env = variables(env_file)
    targets = [] if where.target is None else [where.target]
    config = load_config(found.path, env=env, targets=targets, require_keys=False)
    try:
        default = choose_target(env, None)
    except InvalidInputError:
        default = None
    return _read(state or config.state or default_state_path(), config, default)


def _read(state: StateLocation, config: Config | None, default: App | Project | None) -> KnownPlaces:
    """Read a state and its attempts."""
    taken: Status | None = None
    attempts: list[Attempt] = []
    problem: Exception | None = None
    try:
        attempts = read_attempts(state)
        taken = asyncio.run(SyncEngine(state=state).status())
    except (SyncError, OSError) as error:
        problem = error
    if config is not None:
        places = configured_places(config, taken, attempts, default)
    else:
        places = recorded_places(taken, attempts)
    return KnownPlaces(
        state=state,
        places=places,
        attempts=attempts,
        config=config,
        live=taken is not None and taken.live and taken.held is None,
        written=None if taken is None else taken.written,
        problem=problem,
    )
