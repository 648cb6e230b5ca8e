"""A limit that processes share through a store, and the fixed share of it that remains without the store."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from typing import Protocol

from ..._logs import log
from ...interfaces import Clock
from ._state import Change, Reply, SharedState, StoreError

_logger = logging.getLogger("aiobatch.pacing")

# Share of the limit for a process that never reached the store, and so does not know the others.
_UNKNOWN_SHARE = 0.25
# Seconds until the first new attempt to reach the store, and until a later one at most.
_FIRST_RETRY, _LAST_RETRY = 1.0, 30.0
# Seconds until to ask again, at least.
_SHORTEST = 1e-4


class Store(Protocol):
    """Stores a shared state."""

    @property
    def kind(self) -> str:
        """Its kind, for logs."""
        ...

    async def open(self) -> None:
        """Prepare the store, without reaching it.

        Raises:
            InvalidInputError: It can never be used.
        """
        ...

    async def transact(self, change: Change) -> Reply:
        """Apply *change* to the state and store it.

        Raises:
            StoreError: It cannot be reached now.
        """
        ...

    async def aclose(self) -> None:
        """Release what the store holds. A second call does nothing."""
        ...


#: Changes a state. Takes the store's time and how far it is ahead of the local clock.
Note = Callable[[SharedState, float, float], None]


class SharedLimit:
    """The part of one process in a shared limit. It holds one reserved slot at a time.

    So processes take turns in their order of arrival, and one that is killed costs one slot.

    Args:
        store: The store of the state.
        clock: The local clock.
        follow: Called with each reply, to follow the other processes.
        on_share: Called with the share of the limit that this process may use: 1 while the store works.

    Attributes:
        has_news: Whether the others must learn of a pause or its end.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        follow: Callable[[Reply], None],
        on_share: Callable[[float], None],
    ) -> None:
        self.has_news = False
        self._store = store
        self._clock = clock
        self._follow = follow
        self._on_share = on_share
        self._user = uuid.uuid4().hex[:12]
        self._slot: float | None = None
        self._share = _UNKNOWN_SHARE
        self._notes: list[Note] = []
        self._turn = asyncio.Lock()
        self._retry_at = self._retry_delay = 0.0
        self._has_warned = False

    @property
    def is_down(self) -> bool:
        """Whether the store could not be reached lately."""
        return self._retry_delay > 0

    async def open(self) -> None:
        """Prepare the store.

        Raises:
            InvalidInputError: It can never be used.
        """
        await self._store.open()

    async def aclose(self) -> None:
        """Release the store."""
        await self._store.aclose()

    async def ask(self, ceiling: float, *, more: bool) -> float | None:
        """Ask for permission to send one request.

        Args:
            ceiling: The configured requests per second.
            more: Whether another request waits in this process.

        Returns:
            0 to send now, else the seconds until to ask again. None if the store cannot be reached.
        """
        if self._retry_at > self._clock.monotonic():
            return None
        reply = await self._transact(
            lambda state, now: state.ask(now, ceiling, self._user, self._slot, more=more)
        )
        if reply is None:
            return None
        self._slot, seconds = reply.result
        # Permission is never inferred from the time that has passed since the answer.
        return max(_SHORTEST, seconds - (self._clock.monotonic() - reply.at)) if seconds else 0.0

    def note_accepted(self, ceiling: float) -> None:
        """Note for the state that a request was accepted."""
        self._notes.append(lambda state, now, _: state.accept(now, ceiling))

    def note_pause(self, until: float, status: int, failures: int) -> None:
        """Note for the state that requests pause until a time on the local clock."""
        self._notes.append(lambda state, _, ahead: state.pause(until + ahead, status, failures))
        self.has_news = True

    def note_refused(self, ceiling: float, in_flight: int) -> None:
        """Note for the state that a 429 came, before the pause is noted."""
        self._notes.append(lambda state, now, _: state.refuse(now, ceiling, in_flight))

    def note_resumed(self) -> None:
        """Note for the state that a probe succeeded."""
        self._notes.append(lambda state, now, _: state.resume(now))
        self.has_news = True

    def note_probe_ended(self) -> None:
        """Note for the state that the probe is no longer in flight."""
        self._notes.append(lambda state, _now, _ahead: state.end_probe())
        self.has_news = True

    async def publish(self) -> None:
        """Write the notes to the state now."""
        await self._transact(lambda _state, _now: None)

    async def _transact(self, change: Change) -> Reply | None:
        """Apply the notes and *change*. Return None if the store cannot be reached."""
        async with self._turn:
            notes, self._notes, self.has_news = self._notes, [], False

            def apply(state: SharedState, now: float) -> object:
                for note in notes:
                    note(state, now, now - self._clock.monotonic())
                return change(state, now)

            try:
                reply = await self._store.transact(apply)
            except StoreError as error:
                self._fall_back(error)
                return None
            except BaseException:
                self._notes[:0] = notes
                self.has_news = True
                raise
        self._recover(reply)
        self._follow(reply)
        return reply

    def _fall_back(self, error: StoreError) -> None:
        """Use a fixed share: the limit divided by the processes that used it lately."""
        self._retry_delay = min(2 * self._retry_delay or _FIRST_RETRY, _LAST_RETRY)
        self._retry_at = self._clock.monotonic() + self._retry_delay
        self._slot = None
        self._notes.clear()
        level = logging.INFO if self._has_warned else logging.WARNING
        self._has_warned = True
        log(
            _logger,
            level,
            "shared limit unreachable, using a fixed share",
            store=self._store.kind,
            reason=error.reason,
            share=self._share,
        )
        self._on_share(self._share)

    def _recover(self, reply: Reply) -> None:
        """Use the whole limit, together with the others."""
        self._share = 1 / max(1, len(reply.state.users))
        if self.is_down:
            self._retry_at = self._retry_delay = 0.0
            log(_logger, logging.INFO, "shared limit reachable", store=self._store.kind)
            self._on_share(1.0)
