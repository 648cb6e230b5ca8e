"""Sends a run's chunks, waits for their tokens, and journals each step before it counts."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing

import attrs

from ..._client import AudienceClient, send_built
from ..._clock import Clock
from ..._http import Request
from ..._remedy import Remedy
from ..._tasks import cancel_and_wait, run_many
from ...dialects import dialect_for
from ...errors import (
    AiobatchError,
    AudienceNotFoundError,
    IndexingTimeoutError,
    InvalidInputError,
    InvalidRequestError,
    ResponseError,
    SyncError,
    TokenReplacedError,
)
from ...models import IdType, IndexingToken
from .._errors import (
    InterruptedRunError,
    NotAppliedError,
    ReplacedElsewhereError,
    RunError,
    SendError,
    TooManyRefusedError,
)
from .._options import Mode
from ..state._chunks import Chunk, ChunkState, ChunkTransition
from ..state._journal import Journal
from ..state._thread import StateThread
from ._journal_writer import Marker
from ._request_builder import Builder, UnfitMemberError

# Times that one chunk is sent because Batch does not know its token.
_MAX_SENDS = 3
# Seconds after the deadline in which the answers to the last polls, made at the deadline, may come.
_LAST_POLLS = 0.2


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
        grace: Seconds that chunks under way get when the run ends early.
        max_refused: Ids that may be refused one by one.
        mends: Whether a REPLACED token is noted and passed over, as what follows sends everything again.
        stop: Set from outside to end early.
        clock: Tells the time and sleeps.
        on_change: Called whenever the tally changed.
        on_refused: Called with ids that Batch refused, before that is journaled.
    """

    client: AudienceClient
    journal: Journal
    thread: StateThread
    id_type: IdType
    timeout: float | None
    grace: float
    max_refused: int
    mends: bool
    stop: asyncio.Event
    clock: Clock
    on_change: Callable[[Tally], None]
    on_refused: Callable[[Sequence[str]], Awaitable[None]]
    _tally: Tally = attrs.field(init=False, factory=Tally)
    _marker: Marker = attrs.field(init=False)
    _builder: Builder = attrs.field(init=False)
    _wait: bool = attrs.field(init=False, default=True)
    _to_send: deque[int] = attrs.field(init=False, factory=deque)
    _sends: Counter[int] = attrs.field(init=False, factory=Counter)
    _under_way: set[int] = attrs.field(init=False, factory=set)
    _waits: set[asyncio.Task[None]] = attrs.field(init=False, factory=set)
    _more: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _ending: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _error: Exception | None = attrs.field(init=False, default=None)
    _deadline: float | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        """Share one marker, and one builder, among all chunks."""
        self._marker = Marker(self.journal, self.thread)
        self._builder = Builder(self.journal, dialect_for(self.client.target), self.id_type)

    async def run(self, *, states: Collection[ChunkState], wait: bool) -> None:
        """Send the chunks in *states*; wait for what has a token.

        Args:
            states: PLANNED for a new run, SENDING for one of unknown outcome.
            wait: Whether to wait for tokens at all.

        Raises:
            RunError: Something went wrong; the journal holds how far each chunk is.
            StateError: The journal could not be written.
        """
        self._wait = wait
        self._deadline = None if self.timeout is None else self.clock.monotonic() + self.timeout
        self._to_send.extend(chunk.n for chunk in self.journal.in_state(*states))
        for chunk in self.journal.in_state(ChunkState.SENT):
            self._wait_for(chunk)
        work = asyncio.create_task(self._work())
        watches = [
            asyncio.create_task(watch()) for watch in (self._cut_off, self._on_stop, self._on_deadline)
        ]
        try:
            await asyncio.wait([work, watches[0]], return_when=asyncio.FIRST_COMPLETED)
        finally:
            try:
                await cancel_and_wait([work, *watches, *self._waits])
            finally:
                await self._marker.aclose()
        if not work.cancelled():
            work.result()
        self._raise_end()

    async def _work(self) -> None:
        """Send all there is to send; ends when there is nothing to wait for either, or the run ends early."""
        async with aclosing(
            run_many(self._chunks(), self._send, limit=self.client.limits.uploads_in_flight)
        ) as sends:
            async for _ in sends:
                pass

    # -- admitting ------------------------------------------------------------------------------------

    async def _chunks(self) -> AsyncIterator[int]:
        """Yield chunks to send; one under way may be split, and one whose token is unknown be sent again."""
        while not self._ending.is_set():
            if self._to_send:
                n = self._to_send.popleft()
                self._under_way.add(n)
                yield n
            elif self._under_way or self._waits:
                self._more.clear()
                await self._more.wait()
            else:
                return

    async def _cut_off(self) -> None:
        """Give chunks under way their grace once the run ends early."""
        await self._ending.wait()
        await self.clock.sleep(self.grace)

    async def _on_stop(self) -> None:
        """End early when asked to."""
        await self.stop.wait()
        self._end()

    async def _on_deadline(self) -> None:
        """End early when time is up."""
        if self.timeout is not None:
            await self.clock.sleep(self.timeout + _LAST_POLLS)
            self._fail_with(NotAppliedError, _NOT_IN_TIME, None)

    def _end(self) -> None:
        """Begin nothing new."""
        self._ending.set()
        self._more.set()

    def _fail(self, error: Exception) -> None:
        """End the run with *error*; the first one counts."""
        if self._error is None:
            self._error = error
        self._end()

    def _fail_with(
        self, kind: type[RunError], text: str, cause: Exception | None, remedy: Remedy | None = None
    ) -> None:
        """End the run with an error of *kind*."""
        error = kind(text, audience=self.journal.audience, run=self.journal.run, remedy=remedy)
        error.__cause__ = cause
        self._fail(error)

    def _raise_end(self) -> None:
        """Raise what ended the run early."""
        if self._error is not None:
            raise self._error
        left = [ChunkState.PLANNED, ChunkState.SENDING, *([ChunkState.SENT] if self._wait else [])]
        if self._ending.is_set() and self.journal.in_state(*left):
            msg = "asked to stop; what was sent is journaled, run again to go on"
            raise InterruptedRunError(msg, audience=self.journal.audience, run=self.journal.run)

    # -- sending --------------------------------------------------------------------------------------

    async def _send(self, n: int) -> None:
        """Send one chunk and begin to wait for its token."""
        try:
            await self._try(n)
        except SyncError as error:
            self._fail(error)
        finally:
            self._under_way.discard(n)
            self._more.set()

    async def _try(self, n: int) -> None:
        """Journal that a chunk is sent, send it, journal its token."""
        is_first = self.journal.chunks[n].state is ChunkState.PLANNED
        await self._marker.mark(ChunkTransition(n=n, state=ChunkState.SENDING))
        self._sends[n] += 1
        try:
            token = await self._request(await self.thread.run(self._builder.build, n))
        except (InvalidRequestError, UnfitMemberError) as error:
            await self._on_refused(n, error)
        except SyncError:
            raise
        except AiobatchError as error:
            await self._on_failed(n, error, is_certain=is_first and _is_without_effect(error))
        else:
            await self._marker.mark(ChunkTransition(n=n, state=ChunkState.SENT, token=token))
            chunk = self.journal.chunks[n]
            self._count(sent=chunk.size)
            self._wait_for(chunk)

    async def _request(self, request: Request) -> IndexingToken:
        """Make the call of a chunk."""
        self._count(calls=1)
        return await send_built(self.client, request)

    async def _on_refused(self, n: int, error: InvalidRequestError | UnfitMemberError) -> None:
        """Halve a chunk that Batch refuses as malformed, until the id is found."""
        chunk = self.journal.chunks[n]
        if self.journal.mode is Mode.REPLACE:
            # What Batch refuses as malformed it has refused each time.
            await self._on_failed(n, error, is_certain=_is_without_effect(error))
        elif chunk.size > 1:
            # The halves come next, depth first: few ids that are refused cost few calls.
            self._to_send.extendleft(reversed(await self.thread.run(self.journal.split, n)))
        else:
            actions = await self.thread.run(self.journal.actions, n)
            await self.on_refused([*actions.add, *actions.remove])
            await self._marker.mark(ChunkTransition(n=n, state=ChunkState.REFUSED, reason=_reason(error)))
            self._count(refused=1)
            self._check_refused(error)

    def _check_refused(self, cause: Exception) -> None:
        """Stop when so many ids are refused that the fault cannot be in them."""
        refused = self._tally.refused
        if refused > self.max_refused:
            text = f"Batch refused {refused} ids one by one: check what they are, and the ids' type"
            self._fail_with(TooManyRefusedError, text, cause)

    async def _on_failed(self, n: int, cause: AiobatchError, *, is_certain: bool) -> None:
        """End the run for a chunk that could not be sent; it stays open where Batch may have it after all."""
        self._fail_with(SendError, f"a chunk could not be sent: {cause}; run again to go on", cause)
        if is_certain:
            await self._marker.mark(
                ChunkTransition(n=n, state=ChunkState.FAILED, reason=type(cause).__name__)
            )

    # -- waiting --------------------------------------------------------------------------------------

    def _wait_for(self, chunk: Chunk) -> None:
        """Wait for a chunk's token in a task of its own."""
        if self._wait:
            task = asyncio.create_task(self._await_applied(chunk))
            self._waits.add(task)
            task.add_done_callback(self._on_wait_done)

    def _on_wait_done(self, task: asyncio.Task[None]) -> None:
        """Forget a wait; what it raised ends the run."""
        self._waits.discard(task)
        self._more.set()
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._fail(error)

    async def _await_applied(self, chunk: Chunk) -> None:
        """Wait for a chunk's token and journal how that ended."""
        token = chunk.token
        assert token is not None  # noqa: S101 - a chunk that is SENT has one
        try:
            await self.client.await_applied(token, timeout=self._left())
        except TokenReplacedError as error:
            await self._on_replaced(chunk, error)
        except IndexingTimeoutError as error:
            self._fail_with(NotAppliedError, _NOT_IN_TIME, error)
        except (InvalidRequestError, AudienceNotFoundError) as error:
            self._send_again(chunk, error)
        except AiobatchError as error:
            self._fail_with(SendError, f"a token cannot be asked about: {error}; run again to go on", error)
        else:
            await self._marker.mark(ChunkTransition(n=chunk.n, state=ChunkState.APPLIED))
            self._count(applied=chunk.size)

    def _send_again(self, chunk: Chunk, error: ResponseError) -> None:
        """Send a chunk whose token Batch does not know: that changes nothing that Batch has of it."""
        if self._sends[chunk.n] < _MAX_SENDS:
            self._to_send.append(chunk.n)
        else:
            text = f"Batch does not know the token that it gave: {error}; run again to go on"
            self._fail_with(SendError, text, error)

    async def _on_replaced(self, chunk: Chunk, cause: TokenReplacedError) -> None:
        """End the run: what we know of this audience is no longer so."""
        try:
            await self._marker.mark(ChunkTransition(n=chunk.n, state=ChunkState.REPLACED))
        finally:
            if not self.mends:
                text = "another writer replaced the members during this run. Find out which one, then resync."
                self._fail_with(ReplacedElsewhereError, text, cause, Remedy("resync", self.journal.audience))

    def _left(self) -> float | None:
        """Return the seconds left for waiting."""
        if self._deadline is None:
            return None
        return max(self._deadline - self.clock.monotonic(), 0.001)

    def _count(self, *, calls: int = 0, sent: int = 0, applied: int = 0, refused: int = 0) -> None:
        """Count, and tell."""
        tally = self._tally
        tally.calls += calls
        tally.sent += sent
        tally.applied += applied
        tally.refused += refused
        self.on_change(tally)


_NOT_IN_TIME = "not all of it was sent and APPLIED in time; what was sent is journaled, run again to go on"


def _is_without_effect(error: AiobatchError) -> bool:
    """Tell whether what failed surely changed nothing: it was refused at the first try."""
    if isinstance(error, ResponseError):
        return error.status < 500 and error.attempts == 1  # noqa: PLR2004 - HTTP's own number
    return isinstance(error, InvalidInputError)


def _reason(error: InvalidRequestError | UnfitMemberError) -> str:
    """Say why an id was refused, without the id."""
    if isinstance(error, InvalidRequestError):
        return f"Batch refused it with HTTP 400 {error.name or ''}".rstrip()
    return str(error)
