"""Sends a run's chunks, waits for their tokens, and journals each step before it counts."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from typing import Final

import attrs

from ..._client import send_built
from ..._tasks import cancel_and_wait, run_many
from ...dialects import dialect_for
from ...errors import (
    AiobatchError,
    AudienceNotFoundError,
    ConnectError,
    IndexingTimeoutError,
    InvalidInputError,
    InvalidRequestError,
    Remedy,
    ResponseError,
    SyncError,
    TokenReplacedError,
)
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
from ._context import RunContext
from ._journal_writer import JournalWriter
from ._request_builder import RequestBuilder, UnfitMemberError

# How often one chunk is sent because Batch does not know its token.
_MAX_SENDS: Final = 3
# Seconds after the deadline for the responses to the last polls, which are sent at the deadline.
_LAST_POLLS: Final = 0.2
# Statuses after which a request certainly had no effect. Those of the second line mean the same in a proxy's
# response.
_CERTAIN: Final = frozenset({400, 401, 403, 404, 413, 429})
_CERTAIN_OF_ANY: Final = frozenset({413, 429})
_NOT_IN_TIME: Final = "timed out before all changes were APPLIED. Progress is saved. Run again to continue."


@attrs.define(eq=False)
class _EarlyEnd:
    """The early end of a sender: what caused it, and until when the sender may wait.

    Attributes:
        context: The run's.
        journal: What is sent.
        wake: Set when it begins, so that the sender looks at it.
        begun: Set when no new chunk may begin.
        deadline: The time when waiting ends. None: no limit.
        error: What the sender raises at its end.
    """

    context: RunContext
    journal: Journal
    wake: asyncio.Event
    begun: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    deadline: float | None = attrs.field(init=False, default=None)
    error: Exception | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        """Start the clock."""
        if self.context.options.timeout is not None:
            self.deadline = self.context.clock.monotonic() + self.context.options.timeout

    def begin(self) -> None:
        """Begin no new chunk from here on."""
        self.begun.set()
        self.wake.set()

    def fail(self, error: Exception) -> None:
        """End with *error*. The first error counts."""
        if self.error is None:
            self.error = error
        self.begin()

    def fail_with(
        self, kind: type[RunError], text: str, cause: Exception | None = None, remedy: Remedy | None = None
    ) -> None:
        """End with an error of *kind*."""
        error = kind(text, audience=self.journal.audience, run=self.journal.run, remedy=remedy)
        error.__cause__ = cause
        self.fail(error)

    def seconds_left(self) -> float | None:
        """Return the seconds left for waiting. None: no limit."""
        if self.deadline is None:
            return None
        return max(self.deadline - self.context.clock.monotonic(), 0.001)

    async def on_stop(self) -> None:
        """Begin when the run is asked to stop."""
        await self.context.stop.wait()
        self.begin()

    async def on_deadline(self) -> None:
        """Fail when time is up."""
        if self.context.options.timeout is not None:
            await self.context.clock.sleep(self.context.options.timeout + _LAST_POLLS)
            self.fail_with(NotAppliedError, _NOT_IN_TIME)

    async def grace_over(self) -> None:
        """Return when chunks in flight have had their grace."""
        await self.begun.wait()
        await self.context.clock.sleep(self.context.options.grace)


@attrs.define(eq=False, kw_only=True)
class ChunkSender:
    """Brings the chunks of a journal to their end.

    Attributes:
        context: The run's.
        journal: What is sent.
        wait: Whether to wait for tokens.
        tolerate_replaced: Whether a REPLACED token is recorded and ends nothing, because the run that follows
            sends everything again.
        resends: Whether a chunk whose token Batch does not know is sent again. Otherwise it becomes UNKNOWN.
        keep_refused: Called with IDs that Batch refused, before that is journaled.
    """

    context: RunContext
    journal: Journal
    wait: bool
    tolerate_replaced: bool
    resends: bool = True
    keep_refused: Callable[[Sequence[str]], Awaitable[None]]
    _writer: JournalWriter = attrs.field(init=False)
    _builder: RequestBuilder = attrs.field(init=False)
    _end: _EarlyEnd = attrs.field(init=False)
    _to_send: deque[int] = attrs.field(init=False, factory=deque)
    _sends: Counter[int] = attrs.field(init=False, factory=Counter)
    _in_flight: set[int] = attrs.field(init=False, factory=set)
    _waits: set[asyncio.Task[None]] = attrs.field(init=False, factory=set)
    _wake: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)

    def __attrs_post_init__(self) -> None:
        """Create what all chunks share."""
        client, options = self.context.client, self.context.options
        id_type = options.id_type or client.default_id_type
        self._writer = JournalWriter(self.journal, self.context.state)
        self._builder = RequestBuilder(self.journal, dialect_for(client.target), id_type)
        self._end = _EarlyEnd(self.context, self.journal, self._wake)

    async def run(self, states: Collection[ChunkState]) -> None:
        """Send the chunks in *states*, and wait for those that have a token.

        Args:
            states: PLANNED for a new run, SENDING for one of unknown outcome.

        Raises:
            RunError: The run did not succeed. The journal holds the state of each chunk.
            StateError: The journal could not be written.
        """
        end = self._end
        self._to_send.extend(chunk.n for chunk in self.journal.in_state(*states))
        for chunk in self.journal.in_state(ChunkState.SENT):
            self._start_waiting(chunk)
        work = asyncio.create_task(self._send_all())
        watches = [asyncio.create_task(watch()) for watch in (end.grace_over, end.on_stop, end.on_deadline)]
        try:
            await asyncio.wait([work, watches[0]], return_when=asyncio.FIRST_COMPLETED)
        finally:
            try:
                await cancel_and_wait([work, *watches, *self._waits])
            finally:
                # A transition that was queued must reach the disk before the journal is closed.
                await self._writer.aclose()
        if not work.cancelled():
            work.result()
        self._raise_end()

    def _raise_end(self) -> None:
        if self._end.error is not None:
            raise self._end.error
        left = [ChunkState.PLANNED, ChunkState.SENDING, *([ChunkState.SENT] if self.wait else [])]
        if self._end.begun.is_set() and self.journal.in_state(*left):
            msg = "stopped on request. Progress is saved. Run again to continue."
            raise InterruptedRunError(msg, audience=self.journal.audience, run=self.journal.run)

    # -- sending --------------------------------------------------------------------------------------

    async def _send_all(self) -> None:
        limit = self.context.client.limits.uploads_in_flight
        async with aclosing(run_many(self._chunks(), self._send, limit=limit)) as sends:
            async for _ in sends:
                pass

    async def _chunks(self) -> AsyncIterator[int]:
        """Yield the chunks to send, until none is left and nothing in flight can add one."""
        while not self._end.begun.is_set():
            if self._to_send:
                n = self._to_send.popleft()
                self._in_flight.add(n)
                yield n
            elif self._in_flight or self._waits:
                # A chunk in flight may be split, and one whose token is unknown is sent again.
                self._wake.clear()
                await self._wake.wait()
            else:
                return

    async def _send(self, n: int) -> None:
        """Send one chunk and start to wait for its token."""
        try:
            await self._try(n)
        except SyncError as error:
            self._end.fail(error)
        finally:
            self._in_flight.discard(n)
            self._wake.set()

    async def _try(self, n: int) -> None:
        context, is_first = self.context, self.journal.chunks[n].state is ChunkState.PLANNED
        # SENDING is on disk before the request leaves. After a kill, the next run therefore knows which
        # chunks Batch may have, and resends them: adding or removing an ID twice changes nothing.
        await self._writer.write(ChunkTransition(n=n, state=ChunkState.SENDING))
        self._sends[n] += 1
        try:
            request = await context.state.run(self._builder.build, n)
            context.reporter.count(calls=1)
            with context.checked(self.journal.key):
                token = await send_built(context.client, request)
        except (InvalidRequestError, UnfitMemberError) as error:
            await self._on_refused(n, error)
        except SyncError:
            raise
        except AiobatchError as error:
            await self._on_failed(n, error, is_certain=is_first and _is_without_effect(error))
        else:
            await self._writer.write(ChunkTransition(n=n, state=ChunkState.SENT, token=token))
            chunk = self.journal.chunks[n]
            context.reporter.count(sent=chunk.size)
            self._start_waiting(chunk)

    async def _on_failed(self, n: int, cause: AiobatchError, *, is_certain: bool) -> None:
        """End the run for a chunk that could not be sent."""
        self._end.fail_with(SendError, f"a chunk could not be sent: {cause}. Run again to continue.", cause)
        # A chunk that Batch may have stays open. Otherwise a later run would not remove its IDs.
        if is_certain:
            await self._writer.write(
                ChunkTransition(n=n, state=ChunkState.FAILED, reason=type(cause).__name__)
            )

    async def _find_missing(self, error: InvalidRequestError | UnfitMemberError) -> AiobatchError | None:
        """Return the error of a missing audience: Batch may refuse its chunks as malformed, ID by ID."""
        if not isinstance(error, InvalidRequestError):
            return None
        try:
            await self.context.client.view(self.context.audience)
        except AudienceNotFoundError as missing:
            return missing
        except AiobatchError:
            pass  # the refusal decides
        return None

    async def _on_refused(self, n: int, error: InvalidRequestError | UnfitMemberError) -> None:
        """Halve a chunk that Batch refuses as malformed, until the refused ID is found."""
        chunk, thread, reporter = self.journal.chunks[n], self.context.state, self.context.reporter
        if self.journal.mode is Mode.REPLACE:
            # Halves of a replace would replace each other. Batch refuses a malformed request every time, so
            # that an earlier try had no effect either.
            await self._on_failed(n, error, is_certain=_is_without_effect(error))
        elif chunk.size > 1:
            # The halves come next, depth first: a few refused IDs cost few calls.
            self._to_send.extendleft(reversed(await thread.run(self.journal.split, n)))
        elif (missing := await self._find_missing(error)) is not None:
            await self._on_failed(n, missing, is_certain=_is_without_effect(error))
        else:
            actions = await thread.run(self.journal.actions, n)
            await self.keep_refused([*actions.add, *actions.remove])
            await self._writer.write(ChunkTransition(n=n, state=ChunkState.REFUSED, reason=_reason(error)))
            reporter.count(refused=1)
            refused = reporter.progress.refused
            if refused > self.context.options.max_refused:
                # So many refusals mean a fault in the column or the ID type, not in single IDs.
                text = f"Batch refused {refused} IDs one by one. Check the column and the type of the IDs."
                self._end.fail_with(TooManyRefusedError, text, error)

    # -- waiting --------------------------------------------------------------------------------------

    def _start_waiting(self, chunk: Chunk) -> None:
        if self.wait:
            task = asyncio.create_task(self._await_applied(chunk))
            self._waits.add(task)
            task.add_done_callback(self._on_wait_done)

    def _on_wait_done(self, task: asyncio.Task[None]) -> None:
        self._waits.discard(task)
        self._wake.set()
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._end.fail(error)

    async def _await_applied(self, chunk: Chunk) -> None:
        """Wait for a chunk's token and journal the outcome."""
        assert chunk.token is not None  # noqa: S101 - a chunk that is SENT has one
        try:
            await self.context.client.await_applied(chunk.token, timeout=self._end.seconds_left())
        except TokenReplacedError as error:
            await self._on_replaced(chunk, error)
        except IndexingTimeoutError as error:
            self._end.fail_with(NotAppliedError, _NOT_IN_TIME, error)
        except (InvalidRequestError, AudienceNotFoundError) as error:
            await self._send_again(chunk, error)
        except AiobatchError as error:
            text = f"could not check an indexing token: {error}. Run again to continue."
            self._end.fail_with(SendError, text, error)
        else:
            await self._writer.write(ChunkTransition(n=chunk.n, state=ChunkState.APPLIED))
            self.context.reporter.count(applied=chunk.size)

    async def _send_again(self, chunk: Chunk, error: ResponseError) -> None:
        """Send a chunk again whose token Batch does not know. IDs that Batch has stay as they are."""
        if not self.resends:
            await self._writer.write(ChunkTransition(n=chunk.n, state=ChunkState.UNKNOWN))
        elif self._sends[chunk.n] < _MAX_SENDS:
            self._to_send.append(chunk.n)
        else:
            text = f"Batch does not know a token that it returned: {error}. Run again to continue."
            self._end.fail_with(SendError, text, error)

    async def _on_replaced(self, chunk: Chunk, cause: TokenReplacedError) -> None:
        """End the run, unless it tolerates this: the recorded members are no longer valid."""
        try:
            await self._writer.write(ChunkTransition(n=chunk.n, state=ChunkState.REPLACED))
        finally:
            if not self.tolerate_replaced:
                text = "another writer replaced the members during this run. Find out which one, then resync."
                remedy = Remedy("resync", self.journal.audience)
                self._end.fail_with(ReplacedElsewhereError, text, cause, remedy)


def _is_without_effect(error: AiobatchError) -> bool:
    """Return whether a failed request certainly changed nothing: it was not sent, or Batch refused it."""
    if isinstance(error, ResponseError):
        is_certain = not error.is_foreign or error.status in _CERTAIN_OF_ANY
        return error.status in _CERTAIN and error.attempts == 1 and is_certain
    return isinstance(error, ConnectError | InvalidInputError)


def _reason(error: InvalidRequestError | UnfitMemberError) -> str:
    """Return why an ID was refused, without the ID."""
    if isinstance(error, InvalidRequestError):
        return f"Batch refused it with HTTP 400 {error.name or ''}".rstrip()
    return str(error)
