"""What can be read of a config, however broken the rest of it is."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from ...errors import InvalidInputError
from ..state._state import default_state_path
from ..state.ledger._ledger import StateLocation
from ._load import read_document, structure
from ._notify import NotifyConfig, notify_config
from ._paths import locate_state


def configured_state(path: Path | str, *, env: Mapping[str, str] | None = None) -> StateLocation | None:
    """Return the state of a config, however broken the rest of it is. None if it cannot be read.

    Args:
        path: The config.
        env: The variables of paths. None for the environment of the process.
    """
    with contextlib.suppress(OSError, InvalidInputError):
        defaults = read_document(Path(path)).get("defaults", {})
        state = defaults.get("state") if isinstance(defaults, dict) else None
        return locate_state(Path(path), state and str(state), env) or default_state_path()
    return None


def configured_notify(path: Path | str, *, env: Mapping[str, str] | None = None) -> NotifyConfig | None:
    """Return where the alerts of a config go, however broken the rest of it is. None if that is unknown.

    Args:
        path: The config.
        env: The variables. None for the environment of the process.
    """
    with contextlib.suppress(OSError, InvalidInputError):
        table, _ = structure(read_document(Path(path)))
        return notify_config(table.notify, os.environ if env is None else env, lambda *_: None)
    return None
