"""The interface of an object store, and its values.

Stores are synchronous and thread-safe, because the state's thread uses them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import attrs


class ConflictError(Exception):
    """A conditional write found another object than it expected. Nothing was written."""


@attrs.frozen
class Tag:
    """The version of an object, for `ObjectStore.replace`.

    Attributes:
        e_tag: The ETag as the store sent it.
        version: The store's own version, such as the generation on Google Cloud. None if it has none.
    """

    e_tag: str
    version: str | None = None


@attrs.frozen
class StoredObject:
    """A small object that was read.

    Attributes:
        data: The content.
        tag: Its version.
    """

    data: bytes = attrs.field(repr=lambda data: f"<{len(data)} bytes>")
    tag: Tag


@attrs.frozen
class ListedObject:
    """An entry of a list.

    Attributes:
        path: The path below the root of the store.
        size: Bytes.
        modified: When it was written by the store's clock, seconds since the epoch.
    """

    path: str
    size: int
    modified: float


class ObjectStore(Protocol):
    """A store with conditional writes. Paths are relative to its root, with `/` between their parts.

    An answer can be lost after the store has written. The store then reads the object back: equal bytes mean
    that this writer wrote them. The bytes of `create` and `replace` therefore differ between writers, and
    between the writes of one writer.

    Every method raises StateError if the store cannot be used.
    """

    @property
    def url(self) -> str:
        """The root, for messages. It contains no credentials."""
        ...

    def get(self, path: str) -> StoredObject | None:
        """Return an object, or None if there is none."""
        ...

    def create(self, path: str, data: bytes) -> Tag:
        """Write an object that does not exist yet.

        Raises:
            ConflictError: There is one.
        """
        ...

    def replace(self, path: str, data: bytes, tag: Tag) -> Tag:
        """Write an object that still has the version *tag*.

        Raises:
            ConflictError: It has another version, or there is none.
        """
        ...

    def list(self, prefix: str) -> Iterator[ListedObject]:
        """Return every object below *prefix*, a path that ends in `/`, or empty for all, sorted by path."""
        ...

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects. Those that do not exist are ignored."""
        ...

    def upload(self, path: str, file: Path) -> None:
        """Write an object of any size. It is durable on return.

        Args:
            path: A path that no other writer uses, such as one with a UUID.
            file: The content.
        """
        ...

    def download(self, path: str, file: Path) -> None:
        """Read an object of any size, which was uploaded, into a private file.

        Args:
            path: The path.
            file: The file, which is overwritten.

        Raises:
            StateError: There is no such object (reason `damaged`), or the store cannot be used.
        """
        ...
