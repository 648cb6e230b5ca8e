"""The objects of an address or a pattern, and the tables that they may belong to.

The rules are those of files: hidden names, directories in a directory, tables.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import fnmatch
import glob
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final

import attrs

from ..._errors import SourceError
from .._object_stores import ObjectAddress
from ..files._find import TABLE_PARTS, folders_error, kind_of_table, table_error
from ._transfer import Transfer

_HIDDEN: Final = (".", "_")
# Hadoop writes it in place of a directory.
_FOLDER: Final = "_$folder$"
_METADATA: Final = "metadata"


@attrs.frozen(kw_only=True)
class FoundObject:
    """An object and what identifies its version.

    Attributes:
        path: Its key.
        size: Bytes.
        e_tag: Its ETag. None if the store sends none.
        modified: When it was written, by the store's clock.
    """

    path: str
    size: int
    e_tag: str | None
    modified: dt.datetime

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> FoundObject:
        """Return an entry of a list."""
        return cls(path=meta["path"], size=meta["size"], e_tag=meta["e_tag"], modified=meta["last_modified"])

    @property
    def name(self) -> str:
        """The last part of its key."""
        return PurePosixPath(self.path).name

    @property
    def condition(self) -> dict[str, Any]:
        """The condition that a request for its bytes needs, for obstore."""
        return {"if_match": self.e_tag} if self.e_tag else {"if_unmodified_since": self.modified}


@attrs.frozen(kw_only=True)
class ObjectFinder:
    """Finds the objects of an address.

    Attributes:
        store: obstore's store of the bucket.
        obstore: The module.
        address: The address.
        transfer: Notes progress.
    """

    store: Any = attrs.field(repr=False)
    obstore: Any = attrs.field(repr=False)
    address: ObjectAddress
    transfer: Transfer

    async def find(self) -> list[FoundObject]:
        """Return the objects, sorted by their keys.

        Raises:
            SourceError: There are none, a directory contains directories, or they belong to a table.
        """
        key = self.address.key
        one = None
        if key and not key.endswith("/"):
            one = await self._head(key)
        if one is not None:
            found = [one]
            await self._check_no_table([key])
        elif glob.has_magic(key):
            found = await self._matches(key)
            await self._check_no_table([one.path for one in found])
        else:
            found = await self._in_directory(key.rstrip("/"))
        if not found:
            msg = "no matching objects: the directory is empty or the pattern matches nothing"
            raise SourceError(msg, location=self.address.url(key))
        return sorted(found, key=lambda one: one.path)

    async def _head(self, key: str) -> FoundObject | None:
        """Return an object. None if it does not exist, but may be a directory.

        Raises:
            SourceError: It is both.
        """
        try:
            found = FoundObject.of(await self.obstore.head_async(self.store, key))
        except FileNotFoundError:
            return None
        except self.obstore.exceptions.PermissionDeniedError:
            if glob.has_magic(key):  # the credentials may cover some objects only
                return None
            raise
        async for meta in self._probe(key):
            if _is_visible(meta["path"].removeprefix(f"{key}/").partition("/")[0]):
                msg = "it is an object and also a directory. Add '/' at its end to read the directory"
                raise SourceError(msg, location=self.address.url(key))
        return found

    async def _in_directory(self, directory: str) -> list[FoundObject]:
        """Return a directory's objects, except hidden ones and markers such as `_SUCCESS`."""
        listed = await self.obstore.list_with_delimiter_async(self.store, directory or None)
        await self._check_no_table([f"{directory}/" if directory else ""])
        folders = sorted(filter(_is_visible, map(_name, listed["common_prefixes"])))
        found = [
            one
            for one in map(FoundObject.of, listed["objects"])
            if _is_visible(one.name) and not _is_marker(one)
        ]
        if not folders:
            return found
        suffixes = {"".join(PurePosixPath(one.name.removesuffix(".gz")).suffixes[-1:]) for one in found}
        own = None
        if len(suffixes) == 1:
            end = ".gz" if all(one.name.endswith(".gz") for one in found) else ""
            own = self.address.url(
                f"{glob.escape(f'{directory}/' if directory else '')}*{suffixes.pop()}{end}"
            )
        raise folders_error(self.address.url(self.address.key), folders, own)

    async def _matches(self, pattern: str) -> list[FoundObject]:
        """Return the objects whose keys match a pattern."""
        parts = re.split(r"/+", pattern.strip("/"))
        literal = next(index for index, part in enumerate(parts) if glob.has_magic(part))
        directory = "/".join(parts[:literal]) or None
        if literal == len(parts) - 1 and parts[-1] != "**":
            # The directories below may hold millions of objects.
            listed = await self.obstore.list_with_delimiter_async(self.store, directory)
            metas = listed["objects"]
        else:
            metas = [meta async for meta in self._list(directory)]
        folders = {str(parent) for meta in metas for parent in PurePosixPath(meta["path"]).parents}
        return [
            one
            for one in map(FoundObject.of, metas)
            if _fits(one.path.split("/"), parts)
            and not (_is_marker(one) or (not one.size and one.path in folders))
        ]

    async def _list(self, directory: str | None) -> AsyncIterator[Mapping[str, Any]]:
        """Yield all objects below a directory."""
        async for portion in self.obstore.list(self.store, directory):
            self.transfer.arrived()
            for meta in portion:
                yield meta

    async def _check_no_table(self, paths: Sequence[str]) -> None:
        """Raise SourceError if objects belong to a table, whose log decides which of their rows count."""
        owners: dict[str, str] = {}
        for path in paths:
            for parent in PurePosixPath(f"/{path}any").parents:
                owners.setdefault(str(parent).strip("/"), path)
        kinds = await asyncio.gather(*(self._table(directory) for directory in owners))
        for (directory, path), kind in zip(owners.items(), kinds, strict=True):
            if kind:
                raise table_error(kind, self.address.url(directory), self.address.url(path))

    async def _table(self, directory: str) -> str | None:
        """Return the kind of the table that a directory holds."""
        start = f"{directory}/" if directory else ""
        exist = await asyncio.gather(*(self._exists(start + part) for part in TABLE_PARTS))
        parts = [part for part, exists in zip(TABLE_PARTS, exist, strict=True) if exists]
        metadata = [_name(meta["path"]) async for meta in self._probe(start + _METADATA)]
        return kind_of_table(_name(directory), parts, metadata)

    async def _exists(self, directory: str) -> bool:
        async for _ in self._probe(directory):
            return True
        return False

    async def _probe(self, directory: str) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the objects below a directory, if the credentials may list it.

        Those that may read one object or one directory need no right to list what is above it.
        """
        try:
            async for meta in self._list(directory):
                yield meta
        except self.obstore.exceptions.BaseError as exc:
            if "status code: 403" not in str(exc):
                raise


def _name(path: str) -> str:
    return PurePosixPath(path).name


def _is_visible(name: str) -> bool:
    return not name.startswith(_HIDDEN)


def _is_marker(one: FoundObject) -> bool:
    """Return whether an object only stands for a directory."""
    return not one.size and one.name.endswith(_FOLDER)


def _fits(names: Sequence[str], parts: Sequence[str]) -> bool:
    """Return whether the parts of a key match those of a pattern, as for files."""
    if not names or not parts:
        return not names and not parts
    part, rest = parts[0], parts[1:]
    if part == "**":
        deeper = len(names) > 1 and _is_visible(names[0]) and _fits(names[1:], parts)
        return deeper or _fits(names, rest or ["*"])
    return _fits_one(names[0], part) and _fits(names[1:], rest)


def _fits_one(name: str, part: str) -> bool:
    if not glob.has_magic(part):
        return name == part
    hidden = tuple(mark for mark in _HIDDEN if mark != part[:1])
    return not name.startswith(hidden) and fnmatch.fnmatchcase(name, part)
