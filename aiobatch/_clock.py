"""The system's clock, the only module that reads the time or sleeps, so that tests can replace it."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """The machine's clock and the event loop's sleep."""

    def monotonic(self) -> float:
        """Return the machine's monotonic time, seconds."""
        return time.monotonic()

    def time(self) -> float:
        """Return the machine's time, seconds since the epoch."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Sleep on the running event loop for *seconds*."""
        await asyncio.sleep(seconds)
