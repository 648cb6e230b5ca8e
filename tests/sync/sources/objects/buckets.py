"""Buckets on a server of this machine."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import obstore

from aiobatch.sync.sources._object_stores import ObjectAddress, open_store

from ....helpers.s3_server import S3Server

_numbers: Iterator[int] = itertools.count()


@attrs.frozen
class Bucket:
    """A bucket, and a client that writes to it.

    Attributes:
        name: Its name.
        store: obstore's store.
    """

    name: str
    store: Any

    @classmethod
    def create(cls, server: S3Server, files: Mapping[str, bytes] | None = None) -> Bucket:
        """Create a bucket with objects. The environment must name the server."""
        name = f"bucket-{os.getpid()}-{next(_numbers)}"
        server.create_bucket(name)
        bucket = cls(name, open_store(ObjectAddress.parse(f"s3://{name}", "test"), 30))
        for key, data in (files or {}).items():
            bucket.put(key, data)
        return bucket

    def put(self, key: str, data: bytes) -> None:
        """Write an object."""
        obstore.put(self.store, key, data)

    def url(self, key: str = "") -> str:
        """Return the address of a key."""
        return f"s3://{self.name}/{key}"
