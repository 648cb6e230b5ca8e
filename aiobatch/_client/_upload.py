"""Upload of any number of IDs: disjoint chunks, sent concurrently, with an account of every position."""

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

from .._tasks import close_source, run_many
from .._validation import check_listing
from ..errors import AiobatchError, InvalidInputError, UploadError
from ..models import MAX_IDS, IndexingToken, Member
from ..options import check_callback

_logger = logging.getLogger("aiobatch.upload")

Items = Iterable[str | Member] | AsyncIterable[str | Member]
Check = Callable[[list[str | Member], str, int], None]
_Spans = list[tuple[str, range]]


@attrs.define(eq=False)
class UploadChunk:
    """The actions of one request.

    Attributes:
        number: Its index among the chunks, from 0.
        lists: List (`add`, `remove`) -> its items.
        spans: Pairs (list, range) of the items' positions in the caller's iterables.
        ids: The IDs of the items, list by list.
        is_distinct: Whether it is known to contain no ID twice.
    """

    number: int
    # A repr ends up in logs and tracebacks, and IDs are personal data.
    lists: dict[str, list[str | Member]] = attrs.field(factory=lambda: {"add": [], "remove": []}, repr=False)
    spans: _Spans = attrs.field(factory=list)
    ids: list[list[str]] = attrs.field(factory=list, repr=False)
    is_distinct: bool = False

    @property
    def size(self) -> int:
        """Number of actions."""
        return sum(len(items) for items in self.lists.values())

    def put(self, name: str, items: list[str | Member], start: int) -> None:
        """Add *items* of the list *name*, whose first position there is *start*."""
        if items:
            self.lists[name] = items
            self.spans.append((name, range(start, start + len(items))))
            self.ids.append(_ids(items))


Send = Callable[[UploadChunk], Awaitable[IndexingToken]]


class _InFlightIds:
    """The IDs of the chunks in flight. No two of these chunks share an ID.

    IDs that arrive in order need no set, because the ranges of the chunks are disjoint. This saves a tenth of
    an upload's CPU. From the first overlap on, one set holds all IDs in flight. If it grows by the size of a
    chunk, the chunk shares no ID. Only otherwise are the chunks compared one by one.
    """

    def __init__(self) -> None:
        self._chunks: dict[int, UploadChunk] = {}
        self._ranges: dict[int, tuple[str, str]] = {}
        self._ids: set[str] | None = None

    def try_add(self, chunk: UploadChunk) -> bool:
        """Add *chunk* unless it shares an ID with another. Return whether it was added."""
        try:
            fits = (
                self._range_is_disjoint(chunk) if self._ids is None else self._is_disjoint(chunk, self._ids)
            )
        except (TypeError, ValueError):  # rows of an array raise ValueError
            return True  # it contains something other than IDs, so the check before sending rejects it
        if fits:
            self._chunks[chunk.number] = chunk
        return fits

    def remove(self, chunk: UploadChunk) -> None:
        """Remove a chunk whose request has ended."""
        if self._chunks.pop(chunk.number, None) is None:
            return
        if self._ids is None:
            del self._ranges[chunk.number]
        else:
            self._ids.difference_update(*chunk.ids)

    def _range_is_disjoint(self, chunk: UploadChunk) -> bool:
        """Add *chunk* by its range. If the range overlaps with another, switch to sets."""
        first, last = min(map(min, chunk.ids)), max(map(max, chunk.ids))
        if all(last < other_first or other_last < first for other_first, other_last in self._ranges.values()):
            self._ranges[chunk.number] = (first, last)
            return True
        self._ids = self._union()
        return self._is_disjoint(chunk, self._ids)

    def _is_disjoint(self, chunk: UploadChunk, in_flight: set[str]) -> bool:
        """Add *chunk* to the set *in_flight*, unless they share an ID."""
        known = len(in_flight)
        in_flight.update(*chunk.ids)
        if len(in_flight) == known + chunk.size:
            chunk.is_distinct = True
            return True
        own = set().union(*chunk.ids)  # the chunk may contain an ID twice
        if all(own.isdisjoint(ids) for other in self._chunks.values() for ids in other.ids):
            return True
        self._ids = self._union()
        return False

    def _union(self) -> set[str]:
        """Return all IDs in flight."""
        return set().union(*(ids for chunk in self._chunks.values() for ids in chunk.ids))


class Upload:
    """One upload.

    Args:
        audience: The audience's name.
        add: IDs to add.
        remove: IDs to remove.
        check: Raises InvalidInputError if items cannot be sent. Takes their list and first position too.
        send: Sends one chunk.
        limit: Maximum number of concurrent chunks.
        on_progress: Called with the number of IDs accepted so far.
    """

    def __init__(  # noqa: PLR0913 - the arguments of upload(), and what the client adds
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
        if on_progress is not None:
            check_callback(on_progress, "on_progress")
        self._on_progress = on_progress
        self._in_flight = _InFlightIds()
        self._chunk_ended = asyncio.Event()
        self._read = {"add": 0, "remove": 0}
        self._accepted = 0
        self._failure: Exception | None = None

    async def run(self) -> list[IndexingToken]:
        """Send everything.

        Returns:
            One token for each chunk, in the order of the IDs.

        Raises:
            InvalidInputError: A collection contains an invalid item. Nothing was sent.
            UploadError: A chunk failed permanently, or an iterable raised. Its cause is that error.
        """
        await self._check_collections()
        tokens: dict[int, IndexingToken] = {}
        sent: _Spans = []
        not_sent: _Spans = []
        chunks = self._chunks()
        async with aclosing(chunks), aclosing(run_many(chunks, self._send_chunk, limit=self._limit)) as ends:
            async for end in ends:
                if end.result is None:
                    not_sent += end.item.spans
                else:
                    tokens[end.item.number] = end.result
                    sent += end.item.spans
        ordered = [tokens[number] for number in sorted(tokens)]
        failure, self._failure = self._failure, None
        if failure is None:
            return ordered
        try:
            raise UploadError(
                audience=self._audience,
                tokens=[str(token) for token in ordered],
                sent=sent,
                not_sent=not_sent,
                unread=self._read,
                reason=failure,
            ) from failure
        finally:
            # Its traceback holds this frame. The cycle would keep the iterables until a garbage collection.
            del failure

    async def _check_collections(self) -> None:
        """Check collections before anything is sent. Yield to the event loop between chunks."""
        for name, items in self._lists.items():
            self._lists[name] = check_listing(items, name, streams=True)
        # Checking millions of IDs takes seconds, so the loop runs in between.
        for name, items in self._lists.items():
            for start, chunk in _slices(items):
                self._check(chunk, name, start)
                await asyncio.sleep(0)
        removed: set[str] = set()
        for _, chunk in _slices(self._lists["remove"] if isinstance(self._lists["add"], Collection) else ()):
            removed.update(_ids(chunk))
            await asyncio.sleep(0)
        for start, chunk in _slices(self._lists["add"] if removed else ()):
            _check_not_removed(chunk, start, removed)
            await asyncio.sleep(0)

    async def _chunks(self) -> AsyncGenerator[UploadChunk, None]:
        """Yield chunks that share no ID with a chunk in flight, until something fails."""
        async with aclosing(self._cut()) as cut:
            async for chunk in cut:
                # Batch documents no order of concurrent updates, so an ID is in one chunk at a time.
                while self._failure is None and not self._in_flight.try_add(chunk):
                    self._chunk_ended.clear()
                    await self._chunk_ended.wait()
                if self._failure is not None:
                    for name, span in chunk.spans:
                        self._read[name] = span.start  # never sent, so count it as never read
                    return
                yield chunk

    async def _cut(self) -> AsyncGenerator[UploadChunk, None]:
        """Cut both lists, one after the other, into full chunks. The last chunk holds the rest."""
        numbers = itertools.count()
        chunk = UploadChunk(next(numbers))
        for name, items in self._lists.items():
            source = aiter(items) if isinstance(items, AsyncIterable) else iter(items)
            more = True
            try:
                while more:
                    wanted = MAX_IDS - chunk.size
                    taken = await self._take(source, wanted)
                    chunk.put(name, taken, self._read[name])
                    self._read[name] += len(taken)
                    more = len(taken) == wanted and self._failure is None
                    if chunk.size == MAX_IDS:
                        yield chunk
                        chunk = UploadChunk(next(numbers))
            finally:
                await close_source(source)
        if chunk.size:
            yield chunk

    async def _take(
        self, source: Iterator[str | Member] | AsyncIterator[str | Member], count: int
    ) -> list[str | Member]:
        """Return up to *count* items, and fewer at the end or after a failure."""
        taken: list[str | Member] = []
        try:
            if isinstance(source, Iterator):
                return list(itertools.islice(source, count))
            while len(taken) < count and self._failure is None:
                try:
                    taken.append(await anext(source))
                except StopAsyncIteration:  # the end, if a stream raises it
                    break
        except Exception as error:  # noqa: BLE001 - becomes the cause of an UploadError
            self._failure = self._failure or error
        return taken

    async def _send_chunk(self, chunk: UploadChunk) -> IndexingToken:
        """Send one chunk. After a failure no further chunk starts, and chunks in flight may finish."""
        # Cancelling the other chunks would make their outcome unknown, so they may finish.
        try:
            token = await self._send(chunk)
        except AiobatchError as error:
            # The dialect counts positions from the start of the chunk.
            located = self._locate(chunk) if isinstance(error, InvalidInputError) else None
            self._failure = self._failure or located or error
            raise
        finally:
            self._in_flight.remove(chunk)
            self._chunk_ended.set()
        self._accepted += chunk.size
        if self._on_progress is not None:
            try:
                self._on_progress(self._accepted)
            except Exception:
                _logger.exception("on_progress raised")
        return token

    def _locate(self, chunk: UploadChunk) -> InvalidInputError | None:
        """Return the error with positions in the caller's iterables in place of the chunk's."""
        spans = dict(chunk.spans)
        try:
            for name, span in spans.items():
                self._check(chunk.lists[name], name, span.start)
            if len(spans) > 1:
                _check_not_removed(chunk.lists["add"], spans["add"].start, set(_ids(chunk.lists["remove"])))
        except InvalidInputError as error:
            return error
        return None


def _ids(items: list[str | Member]) -> list[str]:
    """Return the IDs of items."""
    try:
        "".join(items)  # type: ignore[arg-type]  # the fastest test of whether all are strings
    except TypeError:
        return [item.id if isinstance(item, Member) else item for item in items]
    return items  # type: ignore[return-value]  # all are strings


def _check_not_removed(added: list[str | Member], start: int, removed: set[str]) -> None:
    """Raise InvalidInputError if an ID is both added and removed."""
    ids = _ids(added)
    if not removed.isdisjoint(ids):
        position = start + next(index for index, value in enumerate(ids) if value in removed)
        msg = f"add[{position}] is also in remove. Keep it in one of the two."
        raise InvalidInputError(msg)


def _slices(items: Items) -> Iterator[tuple[int, list[str | Member]]]:
    """Yield (start, items) for each chunk of a collection, and nothing for an iterator."""
    if isinstance(items, Collection):
        rest = iter(items)
        for start in range(0, len(items), MAX_IDS):
            yield start, list(itertools.islice(rest, MAX_IDS))
