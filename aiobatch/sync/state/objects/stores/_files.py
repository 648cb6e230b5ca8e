"""A directory as an object store, for a disk that several machines share.

A lock makes the conditional writes atomic, a rename makes every write complete, and fsync makes it durable.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, Self

import attrs

from ...._errors import StateError
from ...._private_files import open_private, sync_directory
from .._store import ConflictError, ListedObject, StoredObject, Tag
from ._url import StoreUrl

_LOCK: Final = ".lock"
# Where files are written before they get their names. A killed process may leave some.
_DRAFTS: Final = ".drafts"
_FILE: Final = "it is a file. Name a directory. A state in one file has no scheme in its name."
_TEXTS: Final = {
    errno.ENOENT: ("missing", "the directory does not exist. Create it, or mount its disk."),
    errno.EACCES: ("denied", "access was denied. Check the permissions of the directory."),
    errno.EPERM: ("denied", "access was denied. Check the permissions of the directory."),
    errno.EEXIST: ("failed", _FILE),
    errno.ENOTDIR: ("failed", _FILE),
    errno.ENOSPC: (
        "full",
        "the disk is full. Nothing recorded is lost. Free some space, then run again.",
    ),
}


@attrs.define(eq=False)
class FileStore:
    """A directory. Its files have mode 0600.

    Attributes:
        url: The URL of the directory.
        root: The directory.
    """

    url: str
    root: Path

    @classmethod
    def open(cls, url: StoreUrl) -> Self:
        """Return the store in a directory. Create the directory if its parent exists.

        Raises:
            StateError: It cannot be created or used.
        """
        store = cls(str(url), Path(url.path))
        with store._errors():
            if not store.root.is_dir():
                store.root.mkdir(mode=0o700)
                sync_directory(store.root.parent)
        return store

    def get(self, path: str) -> StoredObject | None:
        """Return an object, or None if there is none."""
        with self._errors():
            return self._get(path)

    def create(self, path: str, data: bytes) -> Tag:
        """Write an object that does not exist yet, or raise ConflictError."""
        return self._write(path, data, None)

    def replace(self, path: str, data: bytes, tag: Tag) -> Tag:
        """Write an object that still has the version *tag*, or raise ConflictError."""
        return self._write(path, data, tag)

    def list(self, prefix: str) -> Iterator[ListedObject]:
        """Return every object below *prefix*, sorted by path."""
        with self._errors():
            return iter(sorted(self._entries(prefix), key=lambda entry: entry.path))

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects. Those that do not exist are ignored."""
        with self._errors():
            for path in paths:
                (self.root / path).unlink(missing_ok=True)

    def upload(self, path: str, file: Path) -> None:
        """Write an object of any size."""
        with self._errors(), file.open("rb") as source, self._draft() as (draft, target):
            shutil.copyfileobj(source, target)
            _sync(target)
            self._publish(draft, path)

    def download(self, path: str, file: Path) -> None:
        """Read an object into a private file."""
        with self._errors():
            try:
                source = (self.root / path).open("rb")
            except FileNotFoundError:
                msg = f"the object {path!r} is gone. Restore it from a backup, or create the state again."
                raise StateError(msg, path=self.url, reason="damaged") from None
            with source, os.fdopen(open_private(file), "wb") as target:
                target.truncate(0)
                shutil.copyfileobj(source, target)

    def _get(self, path: str) -> StoredObject | None:
        try:
            data = (self.root / path).read_bytes()
        except FileNotFoundError:
            return None
        return StoredObject(data, _tag(data))

    def _write(self, path: str, data: bytes, expected: Tag | None) -> Tag:
        """Write an object if its version is *expected*, or if there is none and *expected* is None."""
        with self._errors(), self._draft() as (draft, target):
            target.write(data)
            _sync(target)  # before the lock, which writers of other audiences wait for
            with self._lock():
                found = self._get(path)
                if (None if found is None else found.tag) != expected:
                    raise ConflictError(path)
                self._publish(draft, path)
        return _tag(data)

    @contextlib.contextmanager
    def _draft(self) -> Iterator[tuple[Path, BinaryIO]]:
        """Open a new file for an object. Delete it at the end if it was not renamed."""
        draft = self.root / _DRAFTS / uuid.uuid4().hex
        self._create_directory(draft.parent)
        try:
            with os.fdopen(open_private(draft), "wb") as target:
                yield draft, target
        finally:
            draft.unlink(missing_ok=True)

    def _publish(self, draft: Path, path: str) -> None:
        """Give a draft that is durable its name, which is durable on return."""
        place = self.root / path
        self._create_directory(place.parent)
        draft.replace(place)
        sync_directory(place.parent)

    def _create_directory(self, directory: Path) -> None:
        if directory.is_dir():
            return
        self._create_directory(directory.parent)  # ends at the root, which exists
        directory.mkdir(mode=0o700, exist_ok=True)
        sync_directory(directory.parent)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Exclude other conditional writes, for the moment of one."""
        descriptor = open_private(self.root / _LOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _entries(self, prefix: str) -> Iterator[ListedObject]:
        for directory, _, names in os.walk(self.root / prefix):
            for name in names:
                file = Path(directory, name)
                path = str(file.relative_to(self.root))
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    status = file.stat()
                    if path != _LOCK:
                        yield ListedObject(path, status.st_size, status.st_mtime)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise errors of the file system as StateError."""
        try:
            yield
        except OSError as exc:
            otherwise = ("failed", f"{exc.strerror}. Check the directory, its permissions and its disk.")
            reason, text = _TEXTS.get(exc.errno or 0, otherwise)
            raise StateError(text, path=self.url, reason=reason) from exc


def _sync(file: BinaryIO) -> None:
    """Make the content of a file durable."""
    file.flush()
    os.fsync(file.fileno())


def _tag(data: bytes) -> Tag:
    return Tag(hashlib.blake2b(data, digest_size=16).hexdigest())
