"""Uploads: cut any number of ids into disjoint chunks, send several at once, account for every position."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
)
from contextlib import aclosing

import attrs

from .._tasks import run_many
from .._validation import check_listing
from ..errors import AiobatchError, InvalidInputError, UploadError
from ..models import MAX_IDS, IndexingToken, Member

_logger = logging.getLogger("aiobatch.upload")

Items = Iterable[str | Member] | AsyncIterable[str | Member]
Check = Callable[[list[str | Member], str, int], None]
_Spans = list[tuple[str, range]]


@attrs.define(eq=False)
class UploadChunk:
    """The actions of one request.

    Attributes:
        number: Its place among the chunks, from 0.
        lists: List (`add`, `remove`) -> its items.
        spans: Pairs (list, range) of the positions that the items have in the caller's iterables.
        ids: The ids of the items, list by list.
        is_distinct: Whether no id stands in it twice, as far as that is known.
    """

    number: int
    lists: dict[str, list[str | Member]] = attrs.field(factory=lambda: {"add": [], "remove": []})
    spans: _Spans = attrs.field(factory=list)
    ids: list[list[str]] = attrs.field(factory=list)
    is_distinct: bool = False

    @property
    def size(self) -> int:
        """How many actions it holds."""
        return sum(len(items) for items in self.lists.values())

    def put(self, name: str, items: list[str | Member], start: int) -> None:
        """Put in *items* of the list *name*, which stand at *start* there."""
        if items:
            self.lists[name] = items
            self.spans.append((name, range(start, start + len(items))))
            self.ids.append(_ids(items))


Send = Callable[[UploadChunk], Awaitable[IndexingToken]]


class _InFlightIds:
    """The chunks that are under way, no two of which share an id.

    Ids that come in order need no set: the chunks' ranges lie apart. From the first overlap on, one set holds
    the ids of all of them: when it grows by as many as a chunk has, the chunk shares none; only a surprise is
    looked into.
    """

    def __init__(self) -> None:
        self._chunks: dict[int, UploadChunk] = {}
        self._ranges: dict[int, tuple[str, str]] = {}
        self._ids: set[str] | None = None

    def try_add(self, chunk: UploadChunk) -> bool:
        """Take in *chunk*, unless it shares an id with one that is under way; tell which."""
        try:
            fits = self._range_is_disjoint(chunk) if self._ids is None else self._adds(chunk, self._ids)
        except TypeError:
            return True  # something in it is no id, so it will be refused
        if fits:
            self._chunks[chunk.number] = chunk
        return fits

    def remove(self, chunk: UploadChunk) -> None:
        """Let go of a chunk that has landed."""
        if self._chunks.pop(chunk.number, None) is None:
            return
        if self._ids is None:
            del self._ranges[chunk.number]
        else:
            self._ids.difference_update(*chunk.ids)

    def _range_is_disjoint(self, chunk: UploadChunk) -> bool:
        """Add *chunk* by its range; where that overlaps with another, go over to sets."""
        first, last = min(map(min, chunk.ids)), max(map(max, chunk.ids))
        if all(last < other_first or other_last < first for other_first, other_last in self._ranges.values()):
            self._ranges[chunk.number] = (first, last)
            return True
        self._ids = self._union()
        return self._adds(chunk, self._ids)

    def _adds(self, chunk: UploadChunk, under_way: set[str]) -> bool:
        """Add *chunk* to the ids under way, unless it shares one with them."""
        known = len(under_way)
        under_way.update(*chunk.ids)
        if len(under_way) == known + chunk.size:
            chunk.is_distinct = True
            return True
        own = set().union(*chunk.ids)  # it may also hold one twice
        if all(own.isdisjoint(ids) for other in self._chunks.values() for ids in other.ids):
            return True
        self._ids = self._union()
        return False

    def _union(self) -> set[str]:
        """Return all ids under way."""
        return set().union(*(ids for chunk in self._chunks.values() for ids in chunk.ids))


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
        self._in_flight = _InFlightIds()
        self._landed = asyncio.Event()
        self._read = {"add": 0, "remove": 0}
        self._accepted = 0
        self._failure: Exception | None = None

    async def run(self) -> list[IndexingToken]:
        """Send everything.

        Returns:
            One token for each chunk, in the order of the ids.

        Raises:
            InvalidInputError: Something cannot be sent; nothing was.
            UploadError: A chunk failed for good, or an iterable raised; that error is its cause.
        """
        await self._check_collections()
        tokens: dict[int, IndexingToken] = {}
        sent: _Spans = []
        lost: _Spans = []
        chunks = self._chunks()
        async with aclosing(chunks), aclosing(run_many(chunks, self._send_chunk, limit=self._limit)) as ends:
            async for end in ends:
                if end.result is None:
                    lost += end.item.spans
                else:
                    tokens[end.item.number] = end.result
                    sent += end.item.spans
        ordered = [tokens[number] for number in sorted(tokens)]
        if self._failure is None:
            return ordered
        raise UploadError(
            audience=self._audience,
            tokens=[str(token) for token in ordered],
            sent=sent,
            not_sent=lost,
            unread=self._read,
        ) from self._failure

    # -- before anything is sent ----------------------------------------------------------------------

    async def _check_collections(self) -> None:
        """Check what can be read twice before anything is sent; the loop gets its turn between chunks."""
        for name, items in self._lists.items():
            check_listing(items, name, streams=True)
        for name, items in self._lists.items():
            for start, chunk in _slices(items):
                self._check(chunk, name, start)
                await asyncio.sleep(0)
        gone: set[str] = set()
        for _, chunk in _slices(self._lists["remove"] if isinstance(self._lists["add"], Collection) else ()):
            gone.update(_ids(chunk))
            await asyncio.sleep(0)
        for start, chunk in _slices(self._lists["add"] if gone else ()):
            _check_apart(chunk, start, gone)
            await asyncio.sleep(0)

    # -- cutting --------------------------------------------------------------------------------------

    async def _chunks(self) -> AsyncGenerator[UploadChunk, None]:
        """Yield chunks that share no id with one under way, until something fails."""
        async with aclosing(self._cut()) as cut:
            async for chunk in cut:
                while self._failure is None and not self._in_flight.try_add(chunk):
                    self._landed.clear()
                    await self._landed.wait()
                if self._failure is not None:
                    self._unread(chunk)
                    return
                yield chunk

    async def _cut(self) -> AsyncGenerator[UploadChunk, None]:
        """Cut both lists, one after the other, into full chunks; the last one holds the rest."""
        numbers = itertools.count()
        chunk = UploadChunk(next(numbers))
        for name, items in self._lists.items():
            source = aiter(items) if isinstance(items, AsyncIterable) else iter(items)
            more = True
            while more:
                wanted = MAX_IDS - chunk.size
                taken = await self._take(source, wanted)
                chunk.put(name, taken, self._read[name])
                self._read[name] += len(taken)
                more = len(taken) == wanted and self._failure is None
                if chunk.size == MAX_IDS:
                    yield chunk
                    chunk = UploadChunk(next(numbers))
        if chunk.size:
            yield chunk

    async def _take(
        self, source: Iterator[str | Member] | AsyncIterator[str | Member], count: int
    ) -> list[str | Member]:
        """Take up to *count* items; fewer at the end, or when something has failed."""
        taken: list[str | Member] = []
        try:
            if isinstance(source, Iterator):
                return list(itertools.islice(source, count))
            while len(taken) < count and self._failure is None:
                taken.append(await anext(source))
        except StopAsyncIteration:
            pass
        except Exception as error:  # noqa: BLE001 - it becomes the cause of an error that says what was sent
            self._failure = self._failure or error
        return taken

    def _unread(self, chunk: UploadChunk) -> None:
        """Count a chunk that was cut and will not be sent as never read."""
        for name, span in chunk.spans:
            self._read[name] = span.start

    # -- sending --------------------------------------------------------------------------------------

    async def _send_chunk(self, chunk: UploadChunk) -> IndexingToken:
        """Send one chunk; after a failure nothing new is sent, and what is under way may land."""
        try:
            token = await self._send(chunk)
        except AiobatchError as error:
            refined = self._name_place(chunk) if isinstance(error, InvalidInputError) else None
            self._failure = self._failure or refined or error
            raise
        finally:
            self._in_flight.remove(chunk)
            self._landed.set()
        self._accepted += chunk.size
        if self._on_progress is not None:
            try:
                self._on_progress(self._accepted)
            except Exception:
                _logger.exception("on_progress raised; the upload goes on")
        return token

    def _name_place(self, chunk: UploadChunk) -> InvalidInputError | None:
        """Return the error that names the place in the caller's iterable, not in the chunk."""
        spans = dict(chunk.spans)
        try:
            for name, span in spans.items():
                self._check(chunk.lists[name], name, span.start)
            if len(spans) > 1:
                _check_apart(chunk.lists["add"], spans["add"].start, set(_ids(chunk.lists["remove"])))
        except InvalidInputError as error:
            return error
        return None


def _ids(items: list[str | Member]) -> list[str]:
    """Return the ids of items, at the speed of C where no Member is among them."""
    try:
        "".join(items)  # type: ignore[arg-type]  # it is the quickest to tell whether all are strings
    except TypeError:
        return [_id(item) for item in items]
    return items  # type: ignore[return-value]  # all are strings


def _id(item: str | Member) -> str:
    """Return the id of an item."""
    return item.id if isinstance(item, Member) else item


def _check_apart(added: list[str | Member], start: int, gone: set[str]) -> None:
    """Refuse an id that is to be added and removed."""
    if not gone.isdisjoint(_ids(added)):
        place = start + next(index for index, item in enumerate(added) if _id(item) in gone)
        msg = f"add[{place}] stands in remove as well; say which of the two is meant"
        raise InvalidInputError(msg)


def _slices(items: Items) -> Iterator[tuple[int, list[str | Member]]]:
    """Yield (start, items) of what can be read twice; nothing of an iterator."""
    if isinstance(items, Collection):
        rest = iter(items)
        for start in range(0, len(items), MAX_IDS):
            yield start, list(itertools.islice(rest, MAX_IDS))
