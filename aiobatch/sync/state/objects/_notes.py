"""Notes beside the audiences of a store, which need no lease: the attempts to sync."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ._store import ConflictError, ObjectStore

_PREFIX: Final = "attempts/"


def write_note(store: ObjectStore, place: str, name: str, data: bytes, *, keep: int) -> None:
    """Write a note, and delete the oldest ones of its place.

    Args:
        store: The store.
        place: What it is about, as a part of a path.
        name: Its name. Names sort by age.
        data: JSON. A note of this name is replaced.
        keep: The notes of a place that are kept.

    Raises:
        StateError: The store cannot be used.
    """
    prefix = f"{_PREFIX}{place}/"
    path = f"{prefix}{name}.json"
    found = store.get(path)
    try:
        if found is not None:
            store.replace(path, data, found.tag)
            return
        store.create(path, data)
    except ConflictError:
        return  # the same attempt, written by the same process
    store.delete([one.path for one in list(store.list(prefix))[:-keep]])


def read_notes(store: ObjectStore) -> Iterator[bytes]:
    """Return all notes.

    Raises:
        StateError: The store cannot be used.
    """
    for one in store.list(_PREFIX):
        found = store.get(one.path)
        if found is not None:  # it may just have been deleted
            yield found.data
