"""Cloud storage: S3, Google Cloud Storage and Azure. The only module, with its errors, that uses obstore."""

from __future__ import annotations

import datetime as dt
import functools
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import attrs
import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from ....._backoff import jittered_delays
from ...._errors import StateError
from ...._private_files import open_private
from ....sources._object_stores import client_options
from .._store import ConflictError, ListedObject, StoredObject, Tag
from ._cloud_errors import is_absent, is_conflict, is_transient, store_error
from ._url import StoreUrl

R = TypeVar("R")

# Obstore raises these besides its own errors.
_ERRORS: Final = (BaseError, FileNotFoundError, NotImplementedError, ValueError)
# Seconds that one request may take: with a small body, and with a part of a large one.
_TIMEOUT: Final = 10.0
_LARGE_TIMEOUT: Final = 60.0
# Bounds of the delays before a request is sent again, seconds.
_FIRST_DELAY, _LAST_DELAY = 0.1, 5.0
# Bytes of one request of a download.
_PART: Final = 16 * 1024 * 1024
# Objects of one request of a deletion.
_MOST_DELETED: Final = 1000


@attrs.define(eq=False)
class CloudStore:
    """A bucket, or a prefix of it.

    Attributes:
        url: The root, without credentials.
        patience: Seconds after which a request is not sent again.
    """

    url: str
    _small: Any = attrs.field(repr=False)
    _large: Any = attrs.field(repr=False)
    _rng: random.Random = attrs.field(factory=random.Random, repr=False)
    patience: float = 30.0

    @classmethod
    def open(cls, url: StoreUrl) -> Self:
        """Return the store at *url*. Nothing is sent yet.

        Raises:
            StateError: The settings in the environment are invalid.
        """
        try:
            return cls(str(url), _connect(url, _TIMEOUT), _connect(url, _LARGE_TIMEOUT))
        except _ERRORS as exc:
            raise store_error(exc, str(url), is_sent=False) from None

    def get(self, path: str) -> StoredObject | None:
        """Return an object, or None if there is none."""

        def get() -> StoredObject:
            result = obstore.get(self._small, path)
            return StoredObject(bytes(result.bytes()), _tag(result.meta))

        return self._try(get, absent=None)

    def create(self, path: str, data: bytes) -> Tag:
        """Write an object that does not exist yet, or raise ConflictError."""
        return self._write(path, data, None)

    def replace(self, path: str, data: bytes, tag: Tag) -> Tag:
        """Write an object that still has the version *tag*, or raise ConflictError."""
        return self._write(path, data, tag)

    def list(self, prefix: str) -> Iterator[ListedObject]:
        """Return every object below *prefix*, sorted by path."""

        def entries() -> list[ListedObject]:
            found = obstore.list(self._small, prefix or None)
            return [_listed(entry) for chunk in found for entry in chunk]

        return iter(sorted(self._try(entries), key=lambda entry: entry.path))

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects. Those that do not exist are ignored."""
        rest = list(paths)
        for start in range(0, len(rest), _MOST_DELETED):
            self._delete(rest[start : start + _MOST_DELETED])

    def _delete(self, paths: Sequence[str]) -> None:
        try:
            self._try(functools.partial(obstore.delete, self._large, paths))
        except StateError as error:
            # Azure fails if one of them is missing, and has perhaps not deleted the others.
            if error.reason != "missing":
                raise
            for path in paths:
                self._try(functools.partial(obstore.delete, self._large, [path]), absent=None)

    def upload(self, path: str, file: Path) -> None:
        """Write an object of any size, in parts."""
        self._try(lambda: obstore.put(self._large, path, file))

    def download(self, path: str, file: Path) -> None:
        """Read an object into a private file, in parts."""
        head = self._try(lambda: obstore.head(self._small, path), absent=None)
        if head is None:
            msg = f"the object {path!r} is gone. Restore it from a backup, or create the state again."
            raise StateError(msg, path=self.url, reason="damaged")
        size: int = head["size"]
        with os.fdopen(open_private(file), "wb") as target:
            target.truncate()
            target.writelines(
                self._read(path, start, min(start + _PART, size)) for start in range(0, size, _PART)
            )

    def _read(self, path: str, start: int, end: int) -> bytes:
        return self._try(lambda: bytes(obstore.get_range(self._large, path, start=start, end=end)))

    def _write(self, path: str, data: bytes, tag: Tag | None) -> Tag:
        """Write an object if its version is *tag*, or if there is none and *tag* is None."""
        mode: Any = "create" if tag is None else _version(tag)
        return self._try(lambda: self._put(path, data, mode, tag))

    def _put(self, path: str, data: bytes, mode: Any, expected: Tag | None) -> Tag:
        try:
            return _tag(obstore.put(self._small, path, data, mode=mode, use_multipart=False))
        except _ERRORS as exc:
            if not is_conflict(exc):
                raise
            found = self.get(path)
            if found is not None and found.data == data:
                return found.tag  # an earlier try wrote it, and its answer was lost
            if (None if found is None else found.tag) == expected:
                raise  # two writes at the same moment: neither took place
            raise ConflictError(path) from None

    def _try(self, request: Callable[[], R], **absent: R) -> R:
        """Return the result of *request*. Send it again after errors that may pass.

        Args:
            request: The request.
            absent: The result `absent` if there is no such object. Without it, this is an error.
        """
        deadline = time.monotonic() + self.patience
        for delay in jittered_delays(_FIRST_DELAY, _LAST_DELAY, self._rng):
            try:
                return request()
            except _ERRORS as exc:
                if absent and is_absent(exc):
                    return absent["absent"]
                if not is_transient(exc) or time.monotonic() + delay > deadline:
                    raise store_error(exc, self.url) from None
            time.sleep(delay)
        raise AssertionError  # pragma: no cover - the delays never end


def _connect(url: StoreUrl, timeout: float) -> S3Store | GCSStore | AzureStore:
    options = client_options(url.scheme, timeout) | {"timeout": dt.timedelta(seconds=timeout)}
    kind: Any = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}[url.scheme]
    # This module sends requests again itself, because it must read back after a lost answer.
    retries = {"max_retries": 0}
    store: S3Store | GCSStore | AzureStore
    store = kind(url.bucket, prefix=url.path or None, client_options=options, retry_config=retries)
    return store


def _tag(result: Any) -> Tag:
    return Tag(result["e_tag"] or "", result["version"])


def _version(tag: Tag) -> dict[str, str]:
    # Obstore rejects a version of None.
    return {"e_tag": tag.e_tag} | ({} if tag.version is None else {"version": tag.version})


def _listed(entry: Any) -> ListedObject:
    return ListedObject(entry["path"], entry["size"], entry["last_modified"].timestamp())
