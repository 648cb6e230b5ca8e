"""The audiences of a config that a command works on, and the options that it gives all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from ...errors import InvalidInputError
from ...sync import AudienceConfig, Config, SyncOptions
from ..options._common import ManyOptions

__all__ = ["check_one_audience", "with_options"]


def check_one_audience(many: ManyOptions, audiences: Sequence[AudienceConfig]) -> None:
    """Raise InvalidInputError unless --only names one audience: an exception from the guard is for one."""
    if not many.only or len(audiences) != 1:
        msg = "--allow-removals and --allow-empty are for one audience. Name it with --only."
        raise InvalidInputError(msg)


def with_options(config: Config, change: Callable[[SyncOptions], SyncOptions]) -> Config:
    """Return a config with other options of its audiences.

    Args:
        config: The config.
        change: Returns the options of an audience.
    """
    audiences = [attrs.evolve(one, options=change(one.options)) for one in config.audiences]
    return attrs.evolve(config, audiences=tuple(audiences))
