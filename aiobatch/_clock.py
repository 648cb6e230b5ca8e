"""The clock, the only module that reads the time or sleeps, so that tests can replace it."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic time and sleep, in seconds."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start. They never decrease."""
        ...

    def time(self) -> float:
        """Return seconds since the epoch, for `Retry-After` dates."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Sleep for *seconds*. Cancelling is safe."""
        ...


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
