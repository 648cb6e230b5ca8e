"""Objects as relations. Each is pinned by its ETag, copied to a private file, and read like a file."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import importlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import IO, Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

from ..._errors import SourceError, StagingError
from ..._private_files import SPOOL_PREFIX
from ..._sql import literal
from .._location import Format, Objects
from .._object_stores import (
    MISSING,
    SCHEMES,
    ObjectAddress,
    client_options,
    is_loopback,
    open_store,
    problem_of,
    retry_config,
)
from .._relation import ReadContext, Relations, temp_directory
from ..files._find import check_same_stamps
from ..files._read import check_one_format, checked_file, format_of, with_one_contract
from ._find import FoundObject, ObjectFinder
from ._transfer import Transfer

# Bytes of a request, at least and at most. Each carries the ETag, and is streamed.
_SMALLEST: Final = 8 * 1024 * 1024
_LARGEST: Final = 64 * 1024 * 1024
_BLOCK: Final = 1024 * 1024
# Requests of one object that run at the same time. If it is not larger than their ranges, each reads one.
_CONCURRENT: Final = 4
_CHANGED: Final = "it changed while being read. Write it elsewhere, and move it here when it is complete"
_TRUNCATED: Final = "not all of its bytes arrived. Run it again"
_ENCODINGS: Final = frozenset(("", "identity", "gzip", "x-gzip", "aws-chunked"))


def read_objects(context: ReadContext, location: Objects) -> Relations:
    """Yield one relation per object, in the order of their keys. They are one snapshot with one contract.

    Raises:
        SourceError: If there is none, they differ, one of them cannot be read, or they change meanwhile.
        StagingError: If there is no space for a copy.
    """
    try:
        obstore = importlib.import_module("obstore")
    except ImportError:
        raise SourceError(MISSING, location=location.label) from None
    url = location.url.reveal()
    scheme = url.partition("://")[0].lower()
    transfer = Transfer(context=context, scheme=scheme, shown=location.label)
    if scheme in SCHEMES:
        yield from _from_bucket(obstore, transfer, location, ObjectAddress.parse(url, "source"))
    else:
        yield from _from_server(obstore, transfer, location)


# -- object stores ------------------------------------------------------------------------------------


def _from_bucket(obstore: Any, transfer: Transfer, location: Objects, address: ObjectAddress) -> Relations:
    context = transfer.context
    try:
        store = open_store(address, transfer.timeout)
    except Exception as exc:  # noqa: BLE001 - obstore raises several kinds for an incomplete environment
        msg = problem_of(exc, address.scheme)
        raise SourceError(msg, location=location.label) from None
    finder = ObjectFinder(store=store, obstore=obstore, address=address, transfer=transfer)

    def formats_of(found: Sequence[FoundObject]) -> list[Format]:
        each = [location.format or format_of(context, one.name, address.url(one.path)) for one in found]
        check_one_format(each, location.label)
        return each

    def read(one: FoundObject, index: int) -> Relations:
        shown = address.url(one.path)
        with _spool(context, one.size, shown) as spool:
            transfer.run(_copy(obstore, store, one, spool, transfer), shown)
            yield from checked_file(context, spool.name, formats[index], shown)

    found = transfer.run(finder.find(), location.label)
    formats = formats_of(found)  # pragma: no cover - coverage loses the frame that waited for obstore
    yield from with_one_contract(read(one, index) for index, one in enumerate(found))
    after = transfer.run(finder.find(), location.label)
    check_same_stamps({one.path: one for one in found}, {one.path: one for one in after}, address.url)


async def _copy(obstore: Any, store: Any, one: FoundObject, spool: IO[bytes], transfer: Transfer) -> None:
    """Copy an object by ranges, a few at a time. Each is of the version that was found."""
    turns = asyncio.Semaphore(_CONCURRENT)
    length = min(max(-(-one.size // _CONCURRENT), _SMALLEST), _LARGEST)

    async def copy_range(start: int) -> None:
        async with turns:
            end = min(start + length, one.size)
            options = {**one.condition, "range": (start, end)}
            result = await obstore.get_async(store, one.path, options=options)
            copied_to = await _copy_stream(result, spool, transfer, start)
            if copied_to != end:  # pragma: no cover - coverage loses the task that waited for obstore
                raise SourceError(_TRUNCATED, location=transfer.shown)

    async with _first_error(), asyncio.TaskGroup() as group:
        for start in range(0, one.size, length):
            group.create_task(copy_range(start))


async def _copy_stream(result: Any, spool: IO[bytes], transfer: Transfer, start: int = 0) -> int:
    """Copy the bytes of an answer to their place in a file, and return where they end."""
    _check_encoding(result, transfer.shown)
    at = start
    async for block in result.stream(min_chunk_size=_BLOCK):
        transfer.arrived()
        await asyncio.to_thread(os.pwrite, spool.fileno(), block, at)
        at += len(block)
    return at


@contextlib.asynccontextmanager
async def _first_error() -> AsyncIterator[None]:
    """Raise the first error of a group of tasks in place of the group."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None


# -- web servers --------------------------------------------------------------------------------------


def _from_server(obstore: Any, transfer: Transfer, location: Objects) -> Relations:
    """Yield the relation of a file on a web server, which is read by one request."""
    context, label = transfer.context, location.label
    file_format = location.format or format_of(context, unquote(urlsplit(label).path), label)
    store = _open_server(location.url.reveal(), transfer.timeout)
    with contextlib.ExitStack() as stack:
        # One request, so that all bytes are of one version.
        with asyncio.Runner() as runner:
            result = transfer.run_in(runner, _request(obstore, store), label)
            spool = stack.enter_context(_spool(context, result.meta["size"], label))
            end = transfer.run_in(runner, _copy_stream(result, spool, transfer), label)
            again = transfer.run_in(runner, _request(obstore, store), label)
        if _version(again.meta) != _version(result.meta):
            raise SourceError(_CHANGED, location=label)
        if end != result.meta["size"]:
            raise SourceError(_TRUNCATED, location=label)
        yield from checked_file(context, spool.name, file_format, label)


def _open_server(url: str, timeout: float) -> Any:
    """Return obstore's store of one URL. The user and the password become a header."""
    parts = urlsplit(url)
    options = client_options(parts.scheme, timeout)
    if is_loopback(url):
        options["allow_http"] = True
    userinfo, _, host = parts.netloc.rpartition("@")
    if userinfo:
        user, _, password = userinfo.partition(":")
        token = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
        options["default_headers"] = {"authorization": f"Basic {token}"}
    bare = urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
    stores = importlib.import_module("obstore.store")
    return stores.HTTPStore(bare, client_options=options, retry_config=retry_config(timeout))


async def _request(obstore: Any, store: Any) -> Any:
    return await obstore.get_async(store, "")


def _version(meta: Any) -> tuple[Any, ...]:
    """Return what identifies the version of a file. A server that sends no date is given the epoch."""
    return meta["e_tag"], meta["last_modified"], meta["size"]


# -- private copies -----------------------------------------------------------------------------------


def _check_encoding(result: Any, shown: str) -> None:
    """Raise SourceError if the bytes are compressed in a way that is not detected in files."""
    encodings = {
        part.strip().lower() for part in str(result.attributes.get("Content-Encoding", "")).split(",")
    }
    if unknown := encodings - _ENCODINGS:
        msg = f"it is compressed with {min(unknown)}. Decompress it, or compress it with gzip, once"
        raise SourceError(msg, location=shown)


@contextlib.contextmanager
def _spool(context: ReadContext, size: int, shown: str) -> Iterator[IO[bytes]]:
    """Yield a private file for a copy, which counts as spill. It is deleted at the end.

    Raises:
        StagingError: It cannot be written.
    """
    try:
        with (
            _reserved(context, size, shown),
            tempfile.NamedTemporaryFile(
                prefix=SPOOL_PREFIX, dir=temp_directory(context)
            ) as spool,  # mode 0600
        ):
            yield spool
    except OSError as exc:
        msg = f"{shown} could not be copied to the temp directory: {exc.strerror or exc}. Nothing was sent."
        raise StagingError(msg) from exc


@contextlib.contextmanager
def _reserved(context: ReadContext, size: int, shown: str) -> Iterator[None]:
    """Lower DuckDB's limit of spill by the size of a copy.

    Raises:
        StagingError: There is not enough of it.
    """
    connection = context.connection
    (before,) = connection.execute("SELECT current_setting('max_temp_directory_size')").fetchall()[0]
    if "%" in before:  # no limit was set
        limit = shutil.disk_usage(temp_directory(context) or tempfile.gettempdir()).free
    else:
        limit = connection.execute(f"SELECT parse_formatted_bytes({literal(before)})").fetchall()[0][0]
    used = connection.execute("SELECT coalesce(sum(size), 0) FROM duckdb_temporary_files()").fetchall()[0][0]
    if size > limit - used:
        msg = (
            f"The rows could not be staged: {shown} has {size:,} bytes, and {max(limit - used, 0):,} may "
            "be used on disk. Raise max_spill, or use a temp directory with more space. Nothing was sent."
        )
        raise StagingError(msg)
    connection.execute(f"SET max_temp_directory_size = '{int(limit - size)}B'").fetchall()
    try:
        yield
    finally:
        with context.interruptible.uninterruptible():
            connection.execute(f"SET max_temp_directory_size = {literal(before)}").fetchall()
