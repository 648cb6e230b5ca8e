"""The alerts that were sent of each place and that no recovery has closed, beside a state."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from ...._logs import log
from ....errors import InvalidInputError
from ..._errors import StateError
from ..._private_files import replace_private
from .._state import resolved, sibling_path
from ..ledger._ledger import StateLocation, StateUrl
from ..objects._open import open_store
from ..objects._store import ConflictError

_logger = logging.getLogger("aiobatch.sync")
_PREFIX: Final = "alerts/"


def read_open_alerts(state: StateLocation) -> dict[str, frozenset[str]]:
    """Return the alerts of each place that are open. None are if the records cannot be read.

    Args:
        state: The state. It need not exist.
    """
    found: dict[str, frozenset[str]] = {}
    with contextlib.suppress(OSError, StateError, InvalidInputError):
        texts = _read_objects(state) if isinstance(state, StateUrl) else [_path(state).read_bytes()]
        for text in texts:
            found |= _parse(text)
    return found


def write_open_alerts(state: StateLocation, changes: Mapping[str, Collection[str]]) -> None:
    """Record which alerts of places are open. If that fails, log it: an alert must not fail a run.

    Args:
        state: The state. It need not exist.
        changes: Place -> its open alerts. The records of other places stay.
    """
    try:
        if isinstance(state, StateUrl):
            _write_objects(state, changes)
            return
        path = _path(state)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        merged = {**read_open_alerts(state), **changes}
        replace_private(path, _dump(merged))
    except (OSError, StateError, InvalidInputError) as error:
        log(_logger, logging.WARNING, "alert not recorded", state=str(state), reason=str(error))


def _path(state: Path) -> Path:
    return sibling_path(resolved(state), ".alerts")


def _dump(alerts: Mapping[str, Collection[str]]) -> bytes:
    return orjson.dumps({place: sorted(kinds) for place, kinds in sorted(alerts.items()) if kinds})


def _parse(text: bytes) -> dict[str, frozenset[str]]:
    """Return the alerts of a document. A broken one has none: an alert is then sent twice."""
    try:
        document: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    if not isinstance(document, dict):
        return {}
    return {place: frozenset(kinds) for place, kinds in document.items() if isinstance(kinds, list)}


def _read_objects(state: StateUrl) -> list[bytes]:
    store = open_store(state.text)
    found = [store.get(one.path) for one in list(store.list(_PREFIX))]
    return [one.data for one in found if one is not None]


def _write_objects(state: StateUrl, changes: Mapping[str, Collection[str]]) -> None:
    """Write an object for each place, so that processes of other places need no lease."""
    store = open_store(state.text)
    for place, kinds in changes.items():
        path = f"{_PREFIX}{hashlib.blake2b(place.encode(), digest_size=8).hexdigest()}.json"
        data, found = _dump({place: kinds}), store.get(path)
        with contextlib.suppress(ConflictError):  # another process reports the same place
            if found is None:
                store.create(path, data)
            else:
                store.replace(path, data, found.tag)
