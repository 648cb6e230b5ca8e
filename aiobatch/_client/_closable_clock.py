"""A clock that ends when its client is closed."""

from __future__ import annotations

import asyncio

from .._tasks import cancel_and_wait
from ..errors import AiobatchError
from ..interfaces import Clock


class ClosableClock:
    """A clock that wakes its sleepers with an error when the client is closed.

    Without it, a call could outlive its client.

    Args:
        clock: Provides time and sleep.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sleepers: set[asyncio.Task[None]] = set()
        self._closed = False

    def monotonic(self) -> float:
        """Return monotonic time, seconds."""
        return self._clock.monotonic()

    def time(self) -> float:
        """Return seconds since the epoch."""
        return self._clock.time()

    async def sleep(self, seconds: float) -> None:
        """Sleep for *seconds*.

        Raises:
            AiobatchError: The client was closed.
        """
        # A task, because `close` can cancel it without cancelling the caller.
        sleeper = asyncio.create_task(self._sleep(seconds))
        self._sleepers.add(sleeper)
        try:
            await asyncio.wait([sleeper])
        finally:
            self._sleepers.discard(sleeper)
            await cancel_and_wait([sleeper])
        if sleeper.cancelled():
            msg = "The client was closed while a request waited for its turn. Create a new AudienceClient."
            raise AiobatchError(msg)
        sleeper.result()

    async def _sleep(self, seconds: float) -> None:
        if self._closed:
            raise asyncio.CancelledError
        await self._clock.sleep(seconds)

    def close(self) -> None:
        """Wake all sleepers and reject new ones."""
        self._closed = True
        for sleeper in self._sleepers:
            sleeper.cancel()
