"""The client: each method builds a request, sends it and reads the response."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any

from .._tasks import run_many
from .._validation import check_listing, check_name, check_two_sources, to_list
from ..errors import (
    AiobatchError,
    AudienceNotFoundError,
    MalformedResponseError,
    ViewManyError,
)
from ..models import Audience, IdType, IndexingToken, Member
from ..options import check_whole
from ._create import create_once
from ._upload import Items, Upload, UploadChunk
from ._waiting_client import WaitingClient

__all__ = ["AudienceClient"]

# Pages in a row without a new audience, after which a list has no end. If many audiences are created
# meanwhile, an offset of 1.x may lead to a page that was seen before.
_STALE_PAGES = 3


class AudienceClient(WaitingClient):
    """A client of one app or project, for one event loop.

    ``async with AudienceClient(App.from_env()) as client:`` opens and closes it. Share one client between
    any number of tasks: they then share its connections, its pacing and its polls.

    Args:
        target: The owner of the audiences: an `App` (API 1.0, 1.1) or a `Project` (2.x).
        base_url: The origin to send to. Default: BATCH_BASE_URL, else Batch's own. Plain http is allowed only
            to a loopback address.
        allow_http: Whether plain http to another machine is allowed too, with a warning in the log. Default:
            whether BATCH_ALLOW_HTTP is 1. Plain http to Batch is never allowed.
        retry: How to retry a request.
        polling: How to poll tokens. Default: `PollingPolicy()`, and faster in a `testing.running_sandbox`.
        limits: How much of the target to use.
        session: An `aiohttp.ClientSession` to use, which the client does not close. Default: its own.
        on_event: One hook or several. Each is called with every event, on the event loop. See
            `aiobatch.events`.
        transport: Sends requests in place of aiohttp. See `aiobatch.Transport`.
        clock: Provides time and sleep, for tests. See `aiobatch.Clock`.
        rng: The source of all randomness, for replays.

    Raises:
        InvalidInputError: An argument is invalid.
    """

    async def create(
        self,
        name: str,
        *,
        description: str | None = None,
        id_type: IdType | None = None,
        exist_ok: bool = False,
    ) -> IndexingToken | None:
        """Create an audience.

        If the outcome of a request is unknown (a timeout, a lost response), the client looks for the audience
        before it sends the request again.

        Args:
            name: The audience's name: 1 to 255 letters, digits, `_` or `-`.
            description: 1.x `description`, 2.x `display_name`.
            id_type: The type of its IDs. None for the version's default.
            exist_ok: Whether the audience may exist before. Its description and type then remain.

        Returns:
            A token to wait for. None in 1.x, or if the audience exists before, or after a lost response.

        Raises:
            InvalidInputError: An argument is invalid. Nothing was sent.
            ResponseError: Batch rejected the request.
            TransportError: No readable response arrived, and the audience does not exist.
        """
        self._check_usable()
        request = self._dialect.build_create(name, id_type=id_type, description=description)
        send, view = partial(self._write, request), partial(self.view, name)
        return await create_once(send, view, self._retry, self._clock, self._rng, exist_ok=exist_ok)

    async def view(self, name: str) -> Audience:
        """Return an audience as Batch shows it. Its state is that of the last update.

        Args:
            name: The audience's name.

        Raises:
            InvalidInputError: The name is invalid. Nothing was sent.
            AudienceNotFoundError: The audience does not exist.
            ResponseError: Batch rejected the request.
            MalformedResponseError: The response cannot be read.
            TransportError: No readable response arrived.
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
        """View many audiences concurrently and yield them as they arrive.

        Args:
            names: Any number of names, or a mapping whose keys are names. Read no further ahead than
                *concurrency*.
            concurrency: Maximum number of concurrent views, up to `Limits.in_flight`, the default.
            missing_ok: Skip audiences that do not exist.

        Yields:
            Every audience that can be viewed, in no particular order.

        Raises:
            InvalidInputError: *names* or *concurrency* is invalid. Nothing was sent.
            ViewManyError: Some views failed. Raised after the last audience, with the errors by name.
        """
        self._check_usable()
        if isinstance(names, Mapping):  # a mapping of IDs by name is usual, and a view changes nothing
            names = list(names)
        names = check_listing(names, "names", streams=True, of="names")
        limit = self._limits.in_flight
        if concurrency is not None:
            limit = min(limit, check_whole(concurrency, "concurrency"))
        errors: dict[str, AiobatchError] = {}
        # A consumer that stops early must leave no task behind, and an unclosed generator ends too late.
        async with aclosing(run_many(names, self._view_one_of_many, limit=limit)) as outcomes:
            async for name, audience, error in outcomes:
                if audience is not None:
                    yield audience
                elif error is not None and not (missing_ok and isinstance(error, AudienceNotFoundError)):
                    errors[name if isinstance(name, str) else type(name).__name__] = error
        if errors:
            raise ViewManyError.of(errors)

    def _view_one_of_many(self, name: str) -> Coroutine[Any, Any, Audience]:
        """Return the view of an audience, as soon as the rate limit has room."""
        return self.view(name) if self._paced.admission.has_room else self._view_later(name)

    async def _view_later(self, name: str) -> Audience:
        """Wait until the rate limit has room, and view an audience."""
        await self._paced.admission.wait_for_room()
        return await self.view(name)

    async def list_audiences(self) -> AsyncGenerator[Audience, None]:
        """Yield every audience of the app or project, page by page.

        Each audience is yielded once, even if others are created meanwhile. 1.x lists no indexing state.

        Raises:
            ResponseError: Batch rejected a request.
            MalformedResponseError: A page cannot be read, or the list does not end: Batch repeated a page, or
                several pages in a row have no new audience.
            TransportError: No readable response arrived.
        """
        self._check_usable()
        seen: set[str] = set()
        cursors: set[str | None] = set()
        cursor: str | None = None
        stale = 0
        while cursor not in cursors and stale < _STALE_PAGES:
            cursors.add(cursor)
            known = len(seen)
            request = self._dialect.build_list(cursor)
            page = self._dialect.read_list(request, await self._transport.send(request))
            for audience in page.rows:
                if audience.name not in seen:
                    seen.add(audience.name)
                    yield audience
            cursor = page.next_cursor
            if cursor is None:
                return
            stale = 0 if len(seen) > known else stale + 1
        msg = (
            f"List of audiences failed: it does not end. After {len(seen)} audiences, pages repeat. Check "
            "base_url and any proxy between this machine and Batch."
        )
        raise MalformedResponseError(msg, method=request.method, path=request.path)

    async def delete(self, name: str) -> IndexingToken | None:
        """Delete a whole audience. A campaign that targets it then reaches no user.

        Args:
            name: The audience's name.

        Returns:
            A token to wait for. None in 1.x, whose responses have no token.

        Raises:
            InvalidInputError: The name is invalid. Nothing was sent.
            AudienceNotFoundError: The audience does not exist.
            ResponseError: Batch rejected the request.
            TransportError: No readable response arrived. Deleting again is safe.
        """
        self._check_usable()
        return await self._write(self._dialect.build_delete(name))

    async def update(
        self,
        name: str,
        *,
        add: Iterable[str | Member] = (),
        remove: Iterable[str | Member] = (),
        id_type: IdType | None = None,
    ) -> IndexingToken:
        """Add and remove IDs, in exactly one request.

        Args:
            name: The audience's name.
            add: IDs, or Members with attributes and tags.
            remove: IDs. *add* and *remove* together hold at most 10,000.
            id_type: The type of the IDs. None for the version's default.

        Returns:
            The token of this update.

        Raises:
            InvalidInputError: An argument is invalid. The message contains its location. Nothing was sent.
            AudienceNotFoundError: The audience does not exist.
            ResponseError: Batch rejected the request.
            TransportError: No readable response arrived. Sending the same again is safe.
        """
        self._check_usable()
        check_two_sources(add, remove)
        added, removed = to_list(add, "add"), to_list(remove, "remove")
        return await self._write_members(self._dialect.build_update(name, added, removed, id_type=id_type))

    async def replace(
        self, name: str, members: Iterable[str | Member], *, id_type: IdType | None = None
    ) -> IndexingToken:
        """Remove all members and add the given ones, in exactly one request.

        Args:
            name: The audience's name.
            members: The new members, 1 to 10,000.
            id_type: The type of the IDs. None for the version's default.

        Returns:
            The token of this update. Tokens of earlier updates become REPLACED.

        Raises:
            InvalidInputError: An argument is invalid. The message contains its location. Nothing was sent.
            AudienceNotFoundError: The audience does not exist.
            ResponseError: Batch rejected the request.
            TransportError: No readable response arrived. Sending the same again is safe.
        """
        self._check_usable()
        request = self._dialect.build_replace(name, to_list(members, "members"), id_type=id_type)
        return await self._write_members(request)

    async def upload(
        self,
        name: str,
        *,
        add: Items = (),
        remove: Items = (),
        id_type: IdType | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[IndexingToken]:
        """Add and remove any number of IDs, in concurrent chunks of up to 10,000.

        Memory stays constant, because iterators are read as chunks are sent. Chunks in flight never share an
        ID. Collections are checked completely before anything is sent, iterators chunk by chunk.

        Args:
            name: The audience's name.
            add: IDs or Members, any iterable, sync or async.
            remove: IDs, any iterable, sync or async.
            id_type: The type of the IDs. None for the version's default.
            on_progress: Called with the number of IDs that Batch has accepted so far.

        Returns:
            One token for each chunk, in the order of the IDs. `settle` waits for them.

        Raises:
            InvalidInputError: An argument is invalid. Nothing was sent.
            UploadError: A chunk failed permanently, or an iterable raised. It lists what was sent and what
                was not, and contains the tokens so far.
        """
        self._check_usable()
        check_name(name)
        check_two_sources(add, remove)
        kind = self._dialect.id_type(id_type)

        async def send(chunk: UploadChunk) -> IndexingToken:
            await self._paced.admission.wait_for_room()
            added, removed = chunk.lists["add"], chunk.lists["remove"]
            return await self._write_members(
                self._dialect.build_update(name, added, removed, id_type=kind, distinct=chunk.is_distinct)
            )

        check, limit = self._dialect.check_members, self._limits.uploads_in_flight
        job = Upload(name, add, remove, check=check, send=send, limit=limit, on_progress=on_progress)
        return await job.run()
