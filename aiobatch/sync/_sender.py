"""Sends a run's chunks, waits for their tokens, and journals each step before it counts."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence

import attrs
import orjson

from .._client import AudienceClient
from .._clock import Clock
from .._concurrent import reap, run_many
from ..errors import (
    AiobatchError,
    AudienceNotFoundError,
    IndexingTimeoutError,
    InvalidInputError,
    InvalidRequestError,
    ResponseError,
    ServerError,
    SyncError,
    TokenReplacedError,
)
from ..models import IdType, IndexingToken, Member
from ._chunks import Chunk, ChunkState, Mark
from ._errors import (
    InterruptedRunError,
    NotAppliedError,
    ReplacedElsewhereError,
    RunError,
    SendError,
    TooManyRefusedError,
)
from ._journal import Actions, Journal
from ._marks import Marker
from ._plan import Mode
from ._thread import StateThread

_logger = logging.getLogger("aiobatch.sync")


@attrs.define(kw_only=True)
class Tally:
    """What was sent so far.

    Attributes:
        calls: Write calls made.
        sent: Ids that Batch has accepted.
        applied: Ids that are APPLIED.
        refused: Ids that Batch refused.
    """

    calls: int = 0
    sent: int = 0
    applied: int = 0
    refused: int = 0


@attrs.define(eq=False, kw_only=True)
class Sender:
    """Brings the chunks of a journal to their end.

    Attributes:
        client: Sends and waits.
        journal: What is to be sent.
        thread: Where the journal is written.
        id_type: What the ids are.
        timeout: Seconds for all of it; None for ever.
        grace: Seconds that chunks under way get after a stop.
        max_refused: Ids that may be refused one by one.
        stop: Set from outside to end early.
        clock: Tells the time and sleeps.
        on_change: Called whenever the tally changed.
        on_refused: Called with ids that Batch refused.
    """

    client: AudienceClient
    journal: Journal
    thread: StateThread
    id_type: IdType
    timeout: float | None
    grace: float
    max_refused: int
    stop: asyncio.Event
    clock: Clock
    on_change: Callable[[Tally], None]
    on_refused: Callable[[Sequence[str]], Awaitable[None]]
    tally: Tally = attrs.field(factory=Tally)
    _marker: Marker = attrs.field(init=False)
    _to_send: deque[int] = attrs.field(init=False, factory=deque)
    _under_way: set[int] = attrs.field(init=False, factory=set)
    _more: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _waits: set[asyncio.Task[None]] = attrs.field(init=False, factory=set)
    _error: Exception | None = attrs.field(init=False, default=None)
    _deadline: float | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        """Share one marker among all chunks."""
        self._marker = Marker(self.journal, self.thread)

    async def run(self, *, states: Collection[ChunkState], wait: bool) -> None:
        """Send the chunks in *states*; wait for what has a token.

        Args:
            states: PLANNED for a new run, SENDING for one of unknown outcome.
            wait: Whether to wait for tokens at all.

        Raises:
            RunError: Something went wrong; the journal holds how far each chunk is.
            StateError: The journal could not be written.
        """
        self._deadline = None if self.timeout is None else self.clock.monotonic() + self.timeout
        self._to_send.extend(chunk.n for chunk in self.journal.in_state(*states))
        work = asyncio.create_task(self._work(wait=wait))
        cut_off = asyncio.create_task(self._cut_off())
        try:
            await asyncio.wait([work, cut_off], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await reap([work, cut_off, *self._waits])
            await self._marker.aclose()
        if not work.cancelled():
            work.result()
        self._raise_end()

    async def _work(self, *, wait: bool) -> None:
        """Send all there is to send, then wait for all there is to wait for."""
        for chunk in self.journal.in_state(ChunkState.SENT) if wait else ():
            self._wait_for(chunk)
        async for done in run_many(self._chunks(), self._send, limit=self.client.limits.uploads_in_flight):
            if done.result is not None and wait:
                self._wait_for(done.result)
        while (self._waits or self._to_send) and not self._is_ending:
            if self._to_send:  # a token that Batch no longer knows
                sent = await self._send(self._to_send.popleft())
                if sent is not None:
                    self._wait_for(sent)
            else:
                await asyncio.wait(self._waits, return_when=asyncio.FIRST_COMPLETED)

    # -- admitting ------------------------------------------------------------------------------------

    @property
    def _is_ending(self) -> bool:
        """Whether nothing new is begun."""
        return self._error is not None or self.stop.is_set()

    async def _chunks(self) -> AsyncIterator[int]:
        """Yield chunks to send until there are none, an error or a stop."""
        while not self._is_ending:
            if self._to_send:
                yield self._to_send.popleft()
            elif self._under_way:
                self._more.clear()
                await self._more.wait()  # one of them may be split
            else:
                return

    async def _cut_off(self) -> None:
        """After a stop: leave tokens to the next run, and give chunks under way their grace."""
        await self.stop.wait()
        self._more.set()
        for task in self._waits:
            task.cancel()
        await self.clock.sleep(self.grace)

    def _raise_end(self) -> None:
        """Raise what ended the run early."""
        if self._error is not None:
            raise self._error
        if self.stop.is_set() and (self.journal.open_chunks() or self.journal.in_state(ChunkState.PLANNED)):
            msg = "asked to stop; what was sent is journaled, run again to go on"
            raise InterruptedRunError(msg, audience=self.journal.audience, run=self.journal.run)

    def _fail(self, error: Exception) -> None:
        """End the run with *error*; the first one counts."""
        if self._error is None:
            self._error = error
        self._more.set()

    # -- sending --------------------------------------------------------------------------------------

    async def _send(self, n: int) -> Chunk | None:
        """Send one chunk; return it if it has a token to wait for."""
        self._under_way.add(n)
        try:
            return await self._try(n)
        except InvalidRequestError as error:
            await self._on_refused(n, error)
        except SyncError as error:
            self._fail(error)
        except AiobatchError as error:
            await self._on_failed(n, error)
        finally:
            self._under_way.discard(n)
            self._more.set()
        return None

    async def _try(self, n: int) -> Chunk:
        """Journal that a chunk is sent, send it, journal its token."""
        await self._marker.mark(Mark(n=n, state=ChunkState.SENDING))
        actions = await self.thread.run(self.journal.actions, n)
        self.tally.calls += 1
        token = await self._request(actions)
        await self._marker.mark(Mark(n=n, state=ChunkState.SENT, token=str(token)))
        self.tally.sent += self.journal.chunks[n].size
        self.on_change(self.tally)
        return self.journal.chunks[n]

    async def _request(self, actions: Actions) -> IndexingToken:
        """Make the call of a chunk."""
        name, add = self.journal.audience, _members(actions)
        if self.journal.mode is Mode.REPLACE:
            return await self.client.replace(name, add, id_type=self.id_type)
        return await self.client.update(name, add=add, remove=actions.remove, id_type=self.id_type)

    async def _on_refused(self, n: int, error: InvalidRequestError) -> None:
        """Halve a chunk that Batch refuses as malformed, until the id is found."""
        chunk = self.journal.chunks[n]
        if self.journal.mode is Mode.REPLACE:
            await self._on_failed(n, error)
        elif chunk.size > 1:
            # The halves come next, depth first: few ids that are refused cost few calls.
            self._to_send.extendleft(reversed(await self.thread.run(self.journal.split, n)))
        else:
            actions = await self.thread.run(self.journal.actions, n)
            reason = f"Batch refused it with HTTP 400 {error.name or ''}".rstrip()
            await self._marker.mark(Mark(n=n, state=ChunkState.REFUSED, reason=reason))
            await self.on_refused([*actions.add, *actions.remove])
            self.tally.refused += 1
            self.on_change(self.tally)
            self._check_refused(error)

    def _check_refused(self, cause: InvalidRequestError) -> None:
        """Stop when so many ids are refused that the fault cannot be in them."""
        if self.tally.refused > self.max_refused:
            text = (
                f"Batch refused {self.tally.refused} ids one by one: check what they are, and the ids' type"
            )
            self._fail_with(TooManyRefusedError, text, cause)

    async def _on_failed(self, n: int, cause: AiobatchError) -> None:
        """End the run for a chunk that could not be sent; its outcome is unknown unless Batch refused it."""
        self._fail_with(SendError, f"a chunk could not be sent: {cause}; run again to go on", cause)
        refused = isinstance(cause, ResponseError) and not isinstance(cause, ServerError)
        if refused or isinstance(cause, InvalidInputError):
            await self._marker.mark(Mark(n=n, state=ChunkState.FAILED, reason=type(cause).__name__))

    # -- waiting --------------------------------------------------------------------------------------

    def _wait_for(self, chunk: Chunk) -> None:
        """Wait for a chunk's token in a task of its own."""
        if not self.stop.is_set():
            task = asyncio.create_task(self._await_applied(chunk))
            self._waits.add(task)
            task.add_done_callback(self._on_wait_done)

    def _on_wait_done(self, task: asyncio.Task[None]) -> None:
        """Forget a wait; what it raised ends the run."""
        self._waits.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._fail(error)

    async def _await_applied(self, chunk: Chunk) -> None:
        """Wait for a chunk's token and journal how that ended."""
        token = IndexingToken.parse(chunk.token or "")
        try:
            await self.client.await_applied(token, timeout=self._left())
            await self._marker.mark(Mark(n=chunk.n, state=ChunkState.APPLIED))
        except TokenReplacedError as error:
            await self._on_replaced(chunk, error)
        except IndexingTimeoutError as error:
            self._fail_with(
                NotAppliedError, "not all of it is APPLIED in time; the tokens are journaled", error
            )
        except (InvalidRequestError, AudienceNotFoundError):
            # A token that Batch no longer knows: sending its chunk again changes nothing that it has.
            self._to_send.append(chunk.n)
        except SyncError:
            raise
        except AiobatchError as error:
            self._fail_with(SendError, f"a token cannot be asked about: {error}", error)
        else:
            self.tally.applied += chunk.size
            self.on_change(self.tally)

    async def _on_replaced(self, chunk: Chunk, cause: TokenReplacedError) -> None:
        """End the run: what we know of this audience is no longer so."""
        try:
            await self._marker.mark(Mark(n=chunk.n, state=ChunkState.REPLACED))
        finally:
            text = (
                "somebody else replaced its members while this run wrote; see who, then run `aiobatch resync`"
            )
            self._fail_with(ReplacedElsewhereError, text, cause)

    def _fail_with(self, kind: type[RunError], text: str, cause: Exception) -> None:
        """End the run with an error of *kind*."""
        error = kind(text, audience=self.journal.audience, run=self.journal.run)
        error.__cause__ = cause
        self._fail(error)

    def _left(self) -> float | None:
        """Return the seconds left for waiting."""
        if self._deadline is None:
            return None
        return max(self._deadline - self.clock.monotonic(), 0.001)


def _members(actions: Actions) -> list[str | Member]:
    """Return the ids to add, those with attributes or tags as Members."""
    if not actions.attributes and not actions.tags:
        return list(actions.add)
    return [
        Member(
            id_,
            attributes=orjson.loads(actions.attributes.get(id_, b"{}")),
            tags=actions.tags.get(id_, ()),
        )
        if id_ in actions.attributes or id_ in actions.tags
        else id_
        for id_ in actions.add
    ]
