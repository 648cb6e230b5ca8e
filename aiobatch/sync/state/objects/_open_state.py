"""Opening of a state, wherever it is: a file, or objects with a private cache."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from ....errors import InvalidInputError
from ..._errors import StateError
from .._state import State
from ..ledger._ledger import StateLocation, StateUrl
from ..ledger._scratch import Scratch
from ._head import HeadFile
from ._layout import find_places
from ._load import Loader
from ._object_ledger import ObjectLedger
from ._open import is_store_url, open_store
from ._root import open_root, read_root
from ._store import ObjectStore
from .stores._url import StoreUrl

_CACHE: Final = "cache.duckdb"
# Path() makes one slash of two.
_SHORTENED: Final = re.compile(r"[a-z][a-z0-9+.-]+:/")


def to_location(state: object) -> StateLocation:
    """Return where a state is.

    Args:
        state: A path, or a URL as a text.

    Raises:
        InvalidInputError: It is neither, or an invalid URL.
    """
    if isinstance(state, StateUrl):
        return to_location(state.text)
    if isinstance(state, str) and is_store_url(state):
        StoreUrl.parse(state)  # a query may hold a password, which must not get into a log
        return StateUrl(state)
    if isinstance(state, Path) and _SHORTENED.match(str(state)):
        msg = f"state must be a text if it is a URL, not the path {str(state)!r}."
        raise InvalidInputError(msg)
    if not isinstance(state, Path | str):
        msg = (
            "state must be the path of a file or a URL such as 's3://bucket/prefix', not "
            f"{type(state).__name__}. None is the user's own state."
        )
        raise InvalidInputError(msg)
    return Path(state)


def open_state(location: StateLocation, *, what: str, memory_limit: str) -> State:
    """Open a state for writing. Create it if it does not exist.

    Args:
        location: Where it is.
        what: What this process does (`sync vip`), for the error of other processes.
        memory_limit: DuckDB's limit, such as `"512MB"`.

    Raises:
        LockedError: Another process has the file open.
        StateError: It cannot be used.
        InvalidInputError: The URL is invalid, or its extra is not installed.
    """
    if isinstance(location, Path):
        return State.open(location, what=what, memory_limit=memory_limit)
    store = open_store(location.text)
    return _cache(store, open_root(store), what=what, memory_limit=memory_limit)


def read_state(
    location: StateLocation, *, limit: int = 0, run: int | None = None, only: str | None = None
) -> State:
    """Open a state for reading, for the moment that a report takes. It needs no lease.

    Args:
        location: Where it is.
        limit: The runs of an audience that are needed at least.
        run: A run that is needed. None if the latest are enough.
        only: The key of the only audience that is needed. None: all.

    Raises:
        LockedError: A run has the file open.
        StateError: It does not exist, or cannot be read.
        InvalidInputError: As for `open_state`.
    """
    if isinstance(location, Path):
        return State.read(location)
    store = open_store(location.text)
    root = read_root(store)
    if root is None:
        msg = "it does not exist: nothing was synced with it yet."
        raise StateError(msg, path=store.url, reason="missing")
    state = _cache(store, root[0], what="read", memory_limit="256MB")
    try:
        for place in find_places(store):
            head = HeadFile(store, place).read() if only in {None, place.key} else None
            if head is not None:
                loader = Loader(state, store, state.path.parent)
                loader.load(place, head, members=False)
                loader.load_reports(place, head, limit=limit, run=run)
    except BaseException:
        state.close()
        raise
    return state


def _cache(store: ObjectStore, state_id: str, **options: Any) -> State:
    """Return an empty state in a private directory, which becomes the cache of a store."""
    scratch = Scratch.create(options["what"])
    try:
        state = State.open(scratch.path / _CACHE, **options)
    except BaseException:
        scratch.delete()
        raise
    _skip_durability(state)
    state.rows("UPDATE aiobatch_state SET state_id = ?", [state_id])
    state.state_id = state_id
    state.ledger = ObjectLedger(state, store, scratch)
    return state


def _skip_durability(state: State) -> None:
    """Wait for no disk: the objects are durable, and the cache is deleted at its end."""
    for (name,) in state.rows("SELECT name FROM duckdb_settings() WHERE name = 'fsync_mode'"):
        state.rows(f"SET GLOBAL {name} = 'NONE'")
    state.rows("PRAGMA disable_checkpoint_on_shutdown")
