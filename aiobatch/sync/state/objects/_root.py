"""STATE.json: what the audiences of a root share, its identity and the number of the last run."""

from __future__ import annotations

import random
import time
import uuid
from typing import Final, TypedDict

import orjson

from ..._errors import StateError
from ._head import FORMAT, foreign_errors, parse
from ._store import ConflictError, ObjectStore, Tag

PATH: Final = "STATE.json"


class _Root(TypedDict):
    """The content of the object."""

    state_id: str
    run: int


# Tries to take a number while other processes do, and seconds between two at most.
_TRIES: Final = 200
_PAUSE: Final = 0.2


def read_root(store: ObjectStore) -> tuple[str, int] | None:
    """Return the state's identity and its last number. None if there is no state.

    Raises:
        StateError: It cannot be read.
    """
    found = _read(store)
    return None if found is None else (found[0]["state_id"], found[0]["run"])


def open_root(store: ObjectStore) -> str:
    """Return the state's identity. Create the state if there is none.

    Raises:
        StateError: The store cannot be used.
    """
    while (found := _read(store)) is None:
        try:
            store.create(PATH, _document(uuid.uuid4().hex, 0))
        except ConflictError:
            continue  # another process has created it
    return found[0]["state_id"]


def create_root(store: ObjectStore, state_id: str, run: int) -> None:
    """Create a state as a copy of another one.

    Args:
        store: The store.
        state_id: The state's identity.
        run: The number of its last run.

    Raises:
        StateError: There is one already, or the store cannot be used.
    """
    try:
        store.create(PATH, _document(state_id, run))
    except ConflictError:
        msg = "another process creates it at the same time. Choose an empty prefix."
        raise StateError(msg, path=store.url, reason="failed") from None


def take_number(store: ObjectStore, *, least: int = 0) -> int:
    """Return the number of a new run. No other run of the root has it.

    Args:
        store: The store.
        least: The number must be larger than this one.

    Raises:
        StateError: The store cannot be used.
    """
    for _ in range(_TRIES):
        found = _read(store)
        if found is None:
            msg = f"{PATH!r} is gone. Restore it, or choose another prefix and `adopt` the members again."
            raise StateError(msg, path=store.url, reason="damaged")
        document, tag = found
        number = max(document["run"], least) + 1
        try:
            store.replace(PATH, _document(document["state_id"], number), tag)
        except ConflictError:
            time.sleep(random.uniform(0, _PAUSE))
        else:
            return number
    msg = "too many processes start runs at the same time. Run again."
    raise StateError(msg, path=store.url, reason="failed")


def _read(store: ObjectStore) -> tuple[_Root, Tag] | None:
    found = store.get(PATH)
    if found is None:
        return None
    with foreign_errors(store.url):
        document = parse(found.data, store.url)
        root = _Root(state_id=str(document["state_id"]), run=int(document["run"]))
        _document(root["state_id"], root["run"] + 1)  # the next number can be written
        return root, found.tag


def _document(state_id: str, run: int) -> bytes:
    # The bytes of no two writes are equal.
    return orjson.dumps({"format": FORMAT, "state_id": state_id, "run": run, "write": uuid.uuid4().hex})
