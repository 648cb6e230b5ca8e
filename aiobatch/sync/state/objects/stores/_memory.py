"""A store in memory, for tests and simulations."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

from ...._errors import StateError
from .._store import ConflictError, ListedObject, StoredObject, Tag


@attrs.define(eq=False)
class MemoryStore:
    """A dictionary with the conditional writes of a store. It lives as long as its process.

    Attributes:
        url: The root, for messages.
        objects: Path -> object.
    """

    url: str = "memory://test"
    objects: dict[str, StoredObject] = attrs.field(factory=dict, repr=False)
    _versions: Iterator[int] = attrs.field(factory=lambda: itertools.count(1), init=False, repr=False)

    def get(self, path: str) -> StoredObject | None:
        """Return an object, or None if there is none."""
        return self.objects.get(path)

    def create(self, path: str, data: bytes) -> Tag:
        """Write an object that does not exist yet, or raise ConflictError."""
        if path in self.objects:
            raise ConflictError(path)
        return self._put(path, data)

    def replace(self, path: str, data: bytes, tag: Tag) -> Tag:
        """Write an object that still has the version *tag*, or raise ConflictError."""
        found = self.objects.get(path)
        if found is None or found.tag != tag:
            raise ConflictError(path)
        return self._put(path, data)

    def list(self, prefix: str) -> Iterator[ListedObject]:
        """Return every object below *prefix*, sorted by path."""
        found = sorted(path for path in self.objects if path.startswith(prefix))
        return iter([ListedObject(path, len(self.objects[path].data), 0.0) for path in found])

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects. Those that do not exist are ignored."""
        for path in paths:
            self.objects.pop(path, None)

    def upload(self, path: str, file: Path) -> None:
        """Write an object."""
        self._put(path, file.read_bytes())

    def download(self, path: str, file: Path) -> None:
        """Read an object into a file."""
        if path not in self.objects:
            msg = f"the object {path!r} is gone."
            raise StateError(msg, path=self.url, reason="damaged")
        file.write_bytes(self.objects[path].data)

    def _put(self, path: str, data: bytes) -> Tag:
        tag = Tag(f"v{next(self._versions)}")
        self.objects[path] = StoredObject(data, tag)
        return tag
