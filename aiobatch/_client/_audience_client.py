"""The client: each method builds a request, sends it and reads the answer."""

from __future__ import annotations

import enum
import re
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from contextlib import aclosing

from .._poller import settle
from .._tasks import run_many
from .._validation import check_name, to_list
from ..errors import (
    AiobatchError,
    AudienceNotFoundError,
    InvalidInputError,
    MalformedResponseError,
    ViewManyError,
)
from ..models import Audience, IdType, IndexingToken, Member, Operation, Settled
from ..options import check_callback, check_timeout
from ._base_client import BaseClient
from ._create import create_once
from ._upload import Items, Upload, UploadChunk

__all__ = ["AudienceClient"]

# How str(token) begins, whatever audience it is of.
_WRITTEN = re.compile(f"[A-Za-z0-9_-]+:(?:{'|'.join(Operation)}):")


class _Unset(enum.Enum):
    """Tells "not given" from None, which means "for ever"."""

    UNSET = "the policy's timeout"


class AudienceClient(BaseClient):
    """A client of one app or project, for one event loop.

    ``async with AudienceClient(App.from_env()) as client:`` opens and closes it. Any number of tasks may
    share it, and should: they share its connections, its pace and its polls.

    Args:
        target: Whose audiences: an `App` (API 1.0, 1.1) or a `Project` (2.x).
        base_url: Where to send, an origin; None for BATCH_BASE_URL or Batch's own. Plain http only to a
            loopback address.
        retry: How one request is tried again.
        polling: How tokens are asked about.
        limits: How much of the target is used.
        session: An `aiohttp.ClientSession` to use; it is not closed. None for one of our own.
        on_event: Called with every event, on the event loop; see `aiobatch.events`.
        transport: Sends in place of aiohttp, for tests.
        clock: Tells the time and sleeps, for tests.
        rng: The source of all randomness, for replays.

    Raises:
        InvalidInputError: An argument cannot be used.
    """

    # -- audiences ------------------------------------------------------------------------------------

    async def create(
        self, name: str, *, description: str | None = None, id_type: IdType | None = None
    ) -> IndexingToken | None:
        """Create an audience.

        After an unknown outcome (a timeout, a lost answer) it looks whether the audience is there before it
        asks again.

        Args:
            name: Its name: 1 to 255 letters, digits, `_` or `-`.
            description: 1.x `description`, 2.x `display_name`.
            id_type: What its ids are; None for the version's default.

        Returns:
            A token to wait for. None where there is none: in 1.x, or when the answer was lost and the
            audience is there.

        Raises:
            InvalidInputError: An argument cannot be used; nothing was sent.
            ResponseError: Batch refused.
            TransportError: No readable answer came, and the audience is not there.
        """
        self._check_usable()
        request = self._dialect.build_create(name, id_type=id_type, description=description)
        return await create_once(
            lambda: self._write(request, name, Operation.CREATE),
            lambda: self.view(name),
            policy=self._retry,
            clock=self._clock,
            rng=self._rng,
        )

    async def view(self, name: str) -> Audience:
        """Return an audience as Batch shows it; its state is that of the last update.

        Args:
            name: Its name.

        Raises:
            InvalidInputError: The name cannot be one; nothing was sent.
            AudienceNotFoundError: There is no such audience.
            ResponseError: Batch refused.
            MalformedResponseError: The answer cannot be read.
            TransportError: No readable answer came.
        """
        self._check_usable()
        request = self._dialect.build_view(name)
        return self._dialect.read_view(request, await self._transport.send(request))

    async def view_many(
        self,
        names: Iterable[str] | AsyncIterable[str],
        *,
        concurrency: int | None = None,
        missing_ok: bool = False,
    ) -> AsyncGenerator[Audience, None]:
        """View many audiences at once and yield them as they arrive.

        Args:
            names: Any number of names; read no further ahead than *concurrency*.
            concurrency: Views at once at most; None for `Limits.in_flight`, which it cannot exceed.
            missing_ok: Leave out audiences that do not exist.

        Yields:
            Every audience that can be had, in no order.

        Raises:
            InvalidInputError: *names* or *concurrency* cannot be used; nothing was sent.
            ViewManyError: After the last audience: the failures, by name.
        """
        self._check_usable()
        if isinstance(names, str | bytes) or not isinstance(names, Iterable | AsyncIterable):
            msg = f'names must be an iterable of names, not {type(names).__name__}; for one name write ["…"]'
            raise InvalidInputError(msg)
        limit = self._views_at_once(concurrency)
        errors: dict[str, AiobatchError] = {}
        async with aclosing(run_many(names, self.view, limit=limit)) as outcomes:
            async for done in outcomes:
                if done.result is not None:
                    yield done.result
                elif done.error is not None and not (
                    missing_ok and isinstance(done.error, AudienceNotFoundError)
                ):
                    errors[done.item if isinstance(done.item, str) else type(done.item).__name__] = done.error
        if errors:
            raise ViewManyError.of(errors)

    async def list_audiences(self) -> AsyncGenerator[Audience, None]:
        """Yield every audience of the app or project, page by page.

        Each is yielded once, even when others are created meanwhile; 1.x names no indexing state here.

        Raises:
            ResponseError: Batch refused.
            MalformedResponseError: A page cannot be read, or Batch repeats a page.
            TransportError: No readable answer came.
        """
        self._check_usable()
        seen: set[str] = set()
        cursor: str | None = None
        cursors: set[str] = set()
        while True:
            request = self._dialect.build_list(cursor)
            page = self._dialect.read_list(request, await self._transport.send(request))
            for audience in page.rows:
                if audience.name not in seen:
                    seen.add(audience.name)
                    yield audience
            cursor = page.next_cursor
            if cursor is None:
                return
            if cursor in cursors:
                msg = f"{request.label}: Batch repeats a page; {len(seen)} audiences were listed so far"
                raise MalformedResponseError(msg, method=request.method, path=request.path)
            cursors.add(cursor)

    async def delete(self, name: str) -> IndexingToken | None:
        """Delete a whole audience; a campaign that targets it will then reach nobody.

        Args:
            name: Its name.

        Returns:
            A token to wait for; None in 1.x, which answers none.

        Raises:
            InvalidInputError: The name cannot be one; nothing was sent.
            AudienceNotFoundError: There is no such audience.
            ResponseError: Batch refused.
            TransportError: No readable answer came; deleting again is safe.
        """
        self._check_usable()
        return await self._write(self._dialect.build_delete(name), name, Operation.DELETE)

    # -- members --------------------------------------------------------------------------------------

    async def update(
        self,
        name: str,
        *,
        add: Iterable[str | Member] = (),
        remove: Iterable[str | Member] = (),
        id_type: IdType | None = None,
    ) -> IndexingToken:
        """Add and remove ids, in exactly one request.

        Args:
            name: The audience's name.
            add: Ids, or Members with attributes and tags.
            remove: Ids; 10,000 at most together with *add*.
            id_type: What the ids are; None for the version's default.

        Returns:
            The token of this update.

        Raises:
            InvalidInputError: An argument cannot be used: the text names its place; nothing was sent.
            AudienceNotFoundError: There is no such audience.
            ResponseError: Batch refused.
            TransportError: No readable answer came; sending the same again is safe.
        """
        self._check_usable()
        request = self._dialect.build_update(
            name, to_list(add, "add"), to_list(remove, "remove"), id_type=id_type
        )
        return await self._write_for_token(request, name, Operation.UPDATE)

    async def replace(
        self, name: str, members: Iterable[str | Member], *, id_type: IdType | None = None
    ) -> IndexingToken:
        """Remove all members and add the given ones, in exactly one request.

        Args:
            name: The audience's name.
            members: The new members, 1 to 10,000.
            id_type: What the ids are; None for the version's default.

        Returns:
            The token of this update; tokens of earlier updates become REPLACED.

        Raises:
            InvalidInputError: An argument cannot be used: the text names its place; nothing was sent.
            AudienceNotFoundError: There is no such audience.
            ResponseError: Batch refused.
            TransportError: No readable answer came; sending the same again is safe.
        """
        self._check_usable()
        request = self._dialect.build_replace(name, to_list(members, "members"), id_type=id_type)
        return await self._write_for_token(request, name, Operation.REPLACE)

    async def upload(
        self,
        name: str,
        *,
        add: Items = (),
        remove: Items = (),
        id_type: IdType | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[IndexingToken]:
        """Add and remove any number of ids, in chunks of up to 10,000 actions, several at once.

        Memory stays constant: iterators are read as chunks are sent. No id is in two chunks that are under
        way together. Lists, sets and the like are checked whole before anything is sent; of an iterator, each
        chunk is.

        Args:
            name: The audience's name.
            add: Ids or Members; any iterable, sync or async.
            remove: Ids; any iterable, sync or async.
            id_type: What the ids are; None for the version's default.
            on_progress: Called with the number of ids that Batch has accepted so far.

        Returns:
            One token for each chunk, in the order of the ids; `settle` waits for them.

        Raises:
            InvalidInputError: An argument cannot be used; nothing was sent.
            UploadError: A chunk failed for good, or an iterable raised, that error being the cause: says what
                was sent and what was not, and carries the tokens so far.
        """
        self._check_usable()
        check_name(name)
        kind = self._dialect.id_type(id_type)
        if on_progress is not None:
            check_callback(on_progress, "on_progress")

        async def send(chunk: UploadChunk) -> IndexingToken:
            added, removed = chunk.lists["add"], chunk.lists["remove"]
            request = self._dialect.build_update(
                name, added, removed, id_type=kind, distinct=chunk.is_distinct
            )
            return await self._write_for_token(request, name, Operation.UPDATE)

        return await Upload(
            name,
            add,
            remove,
            check=self._dialect.check_members,
            send=send,
            limit=self._limits.uploads_in_flight,
            on_progress=on_progress,
        ).run()

    # -- waiting --------------------------------------------------------------------------------------

    async def await_applied(
        self,
        token: IndexingToken | str,
        *,
        audience: str | None = None,
        timeout: float | _Unset | None = _Unset.UNSET,
    ) -> Audience:
        """Wait until, and only until, *token* is APPLIED.

        Maintenance, overload and broken connections never end the wait before its deadline. Any number of
        calls may wait for one token: it is asked about once.

        Args:
            token: A token, what `str(token)` gave, or Batch's bare token with *audience*.
            audience: The audience of a bare token.
            timeout: Seconds; None for ever; `PollingPolicy.timeout` when not given. The last poll is made at
                the deadline.

        Returns:
            The audience as it was when the token was found APPLIED.

        Raises:
            InvalidInputError: An argument cannot be used; nothing was sent.
            TokenReplacedError: A later replace superseded the update.
            IndexingTimeoutError: Not in time; says how to resume.
            ResponseError: An answer that waiting does not mend: 400, 401, 403, 404.
        """
        self._check_usable()
        parsed = _parse(token, audience)
        future = self._poller.subscribe(parsed, self._timeout(timeout))
        try:
            return await future
        finally:
            await self._poller.unsubscribe((parsed, future))

    async def settle(
        self, tokens: Iterable[IndexingToken | str], *, timeout: float | _Unset | None = _Unset.UNSET
    ) -> AsyncGenerator[Settled, None]:
        """Wait for many tokens and yield how each wait ended, as they end.

        Args:
            tokens: Tokens, or what `str(token)` gave; a token given twice is yielded once.
            timeout: Seconds for all of them; None for ever; `PollingPolicy.timeout` when not given.

        Yields:
            A `Settled` for every token, exactly once, whatever happens to the others.

        Raises:
            InvalidInputError: An argument cannot be used; nothing was sent.
        """
        self._check_usable()
        if isinstance(tokens, str | bytes | IndexingToken) or not isinstance(tokens, Iterable):
            msg = f"tokens must be an iterable of tokens, not {type(tokens).__name__}; for one: await_applied"
            raise InvalidInputError(msg)
        wanted = dict.fromkeys(_parse(token, None) for token in tokens)
        async with aclosing(settle(self._poller, wanted, self._timeout(timeout))) as ends:
            async for settled in ends:
                yield settled

    # -- inside ---------------------------------------------------------------------------------------

    def _views_at_once(self, concurrency: int | None) -> int:
        """Return how many views `view_many` may have under way."""
        if concurrency is None:
            return self._limits.in_flight
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            msg = "concurrency must be a whole number of at least 1, as an int"
            raise InvalidInputError(msg)
        return min(self._limits.in_flight, concurrency)

    def _timeout(self, timeout: float | _Unset | None) -> float | None:
        """Return the seconds to wait."""
        return self._polling.timeout if isinstance(timeout, _Unset) else check_timeout(timeout)


def _parse(token: IndexingToken | str, audience: str | None) -> IndexingToken:
    """Return *token* as a token."""
    if isinstance(token, IndexingToken):
        if audience is not None and audience != token.audience:
            msg = f"the token is of audience {token.audience!r}, not {audience!r}; leave audience out"
            raise InvalidInputError(msg)
        return token
    if token is None:
        msg = "an indexing token cannot be None: where create and delete return none, nothing is to wait for"
        raise InvalidInputError(msg)
    if audience is None or not isinstance(token, str):
        return IndexingToken.parse(token)
    if _WRITTEN.match(token) is None:
        return IndexingToken(audience, token)
    return _parse(IndexingToken.parse(token), audience)
