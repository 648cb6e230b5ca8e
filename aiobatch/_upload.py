"""Uploads: cut any number of ids into disjoint chunks, send several at once, account for every position."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
)

import attrs

from ._concurrent import run_many
from .errors import AiobatchError, InvalidInputError, UploadError
from .models import MAX_IDS, IndexingToken, Member

_logger = logging.getLogger("aiobatch.upload")

Items = Iterable[str | Member] | AsyncIterable[str | Member]
Check = Callable[[list[str | Member], str, int], None]
Send = Callable[[list[str | Member], list[str | Member]], Awaitable[IndexingToken]]


@attrs.define(eq=False)
class Chunk:
    """The actions of one request.

    Attributes:
        number: Its place among the chunks, from 0.
        lists: List (`add`, `remove`) -> its items.
        spans: Pairs (list, range) of the positions that the items have in the caller's iterables.
    """

    number: int
    lists: dict[str, list[str | Member]] = attrs.field(factory=lambda: {"add": [], "remove": []})
    spans: list[tuple[str, range]] = attrs.field(factory=list)

    @property
    def size(self) -> int:
        """How many actions it holds."""
        return sum(len(items) for items in self.lists.values())

    def ids(self) -> set[str]:
        """Return the ids, whatever is done to them."""
        try:
            return set(map(_id, itertools.chain.from_iterable(self.lists.values())))
        except TypeError:
            return set()  # something in it is no id, so the chunk will be refused


class Upload:
    """One upload.

    Args:
        audience: The audience's name.
        add: Ids to add.
        remove: Ids to remove.
        check: Refuses items that cannot be sent, given their list and first position.
        send: Sends one chunk.
        limit: Chunks at once.
        on_progress: Takes the number of ids accepted so far.
    """

    def __init__(  # noqa: PLR0913 - what upload() takes, and what the client adds
        self,
        audience: str,
        add: Items,
        remove: Items,
        *,
        check: Check,
        send: Send,
        limit: int,
        on_progress: Callable[[int], None] | None,
    ) -> None:
        self._audience = audience
        self._lists: dict[str, Items] = {"add": add, "remove": remove}
        self._check = check
        self._send = send
        self._limit = limit
        self._on_progress = on_progress
        self._in_flight: set[str] = set()
        self._landed = asyncio.Event()
        self._read = {"add": 0, "remove": 0}
        self._accepted = 0
        self._failed = False

    async def run(self) -> list[IndexingToken]:
        """Send everything.

        Returns:
            One token for each chunk, in the order of the ids.

        Raises:
            InvalidInputError: Something cannot be sent; nothing was.
            UploadError: A chunk failed for good.
        """
        await self._check_collections()
        tokens: dict[int, IndexingToken] = {}
        sent: list[tuple[str, range]] = []
        lost: list[tuple[str, range]] = []
        cause: AiobatchError | None = None
        async for done in run_many(self._chunks(), self._send_chunk, limit=self._limit):
            if done.result is not None:
                tokens[done.item.number] = done.result
                sent += done.item.spans
            else:
                # Nothing new is sent; what is under way may land.
                self._failed = True
                cause = cause or done.error
                lost += done.item.spans
        values = [tokens[number] for number in sorted(tokens)]
        if cause is not None:
            raise UploadError(
                audience=self._audience,
                tokens=[str(token) for token in values],
                sent=_merge(sent),
                not_sent=_merge(lost),
                unread=self._read,
            ) from cause
        return values

    async def _check_collections(self) -> None:
        """Check what can be read twice before anything is sent; the loop gets its turn between chunks."""
        for name, items in self._lists.items():
            if isinstance(items, str | bytes | Mapping) or not isinstance(items, Iterable | AsyncIterable):
                kind = type(items).__name__
                msg = f'{name} must be an iterable of ids, not {kind}; for one id write {name}=["…"]'
                raise InvalidInputError(msg)
        for name, items in self._lists.items():
            for start, chunk in _slices(items):
                self._check(chunk, name, start)
                await asyncio.sleep(0)
        removed = self._lists["remove"]
        gone = set(map(_id, removed)) if isinstance(removed, Collection) else set()
        for start, chunk in _slices(self._lists["add"] if gone else ()):
            _check_apart(chunk, start, gone)
            await asyncio.sleep(0)

    def _check_streams(self, chunk: Chunk) -> None:
        """Check what cannot be read twice, so that an error names the place in the caller's iterable."""
        spans = dict(chunk.spans)
        for name, span in spans.items():
            if not isinstance(self._lists[name], Collection):
                self._check(chunk.lists[name], name, span.start)
        if len(spans) > 1:
            _check_apart(chunk.lists["add"], spans["add"].start, set(map(_id, chunk.lists["remove"])))

    async def _chunks(self) -> AsyncIterator[Chunk]:
        """Cut both lists, one after the other, into chunks that share no id while they are under way."""
        async for chunk in self._cut():
            ids = chunk.ids()
            while not self._in_flight.isdisjoint(ids):
                self._landed.clear()
                await self._landed.wait()
            if self._failed:
                self._unread(chunk)
                return
            self._in_flight |= ids
            yield chunk

    async def _cut(self) -> AsyncIterator[Chunk]:
        """Cut both lists into full chunks."""
        numbers = itertools.count()
        chunk = Chunk(next(numbers))
        for name, items in self._lists.items():
            take = _taker(items)
            while taken := await take(MAX_IDS - chunk.size):
                start = self._read[name]
                self._read[name] += len(taken)
                chunk.lists[name] = taken
                chunk.spans.append((name, range(start, self._read[name])))
                if chunk.size == MAX_IDS:
                    yield chunk
                    chunk = Chunk(next(numbers))
        if chunk.size:
            yield chunk

    def _unread(self, chunk: Chunk) -> None:
        """Count a chunk that was cut and will not be sent as never read."""
        for name, span in chunk.spans:
            self._read[name] = span.start

    async def _send_chunk(self, chunk: Chunk) -> IndexingToken:
        """Send one chunk."""
        try:
            self._check_streams(chunk)
            token = await self._send(chunk.lists["add"], chunk.lists["remove"])
        finally:
            self._in_flight -= chunk.ids()
            self._landed.set()
        self._accepted += chunk.size
        if self._on_progress is not None:
            try:
                self._on_progress(self._accepted)
            except Exception:
                _logger.exception("on_progress raised; the upload goes on")
        return token


def _id(item: str | Member) -> str:
    """Return the id of an item."""
    return item.id if isinstance(item, Member) else item


def _check_apart(added: list[str | Member], start: int, gone: set[str]) -> None:
    """Refuse an id that is to be added and removed."""
    if not gone.isdisjoint(map(_id, added)):
        place = start + next(index for index, item in enumerate(added) if _id(item) in gone)
        msg = f"add[{place}] stands in remove as well; say which of the two is meant"
        raise InvalidInputError(msg)


def _slices(items: Items) -> Iterator[tuple[int, list[str | Member]]]:
    """Yield (start, items) of what can be read twice; nothing of an iterator."""
    if isinstance(items, Collection):
        rest = iter(items)
        for start in range(0, len(items), MAX_IDS):
            yield start, list(itertools.islice(rest, MAX_IDS))


def _taker(items: Items) -> Callable[[int], Awaitable[list[str | Member]]]:
    """Return what takes up to n items, and none at the end."""
    if isinstance(items, AsyncIterable):
        later = aiter(items)

        async def take_later(count: int) -> list[str | Member]:
            taken: list[str | Member] = []
            while len(taken) < count:
                try:
                    taken.append(await anext(later))
                except StopAsyncIteration:
                    break
            return taken

        return take_later
    now = iter(items)

    async def take_now(count: int) -> list[str | Member]:
        return list(itertools.islice(now, count))

    return take_now


def _merge(spans: list[tuple[str, range]]) -> list[tuple[str, range]]:
    """Join ranges that touch."""
    merged: list[tuple[str, range]] = []
    for name, span in sorted(spans, key=lambda entry: (entry[0], entry[1].start)):
        if merged and merged[-1][0] == name and merged[-1][1].stop == span.start:
            merged[-1] = (name, range(merged[-1][1].start, span.stop))
        else:
            merged.append((name, span))
    return merged
