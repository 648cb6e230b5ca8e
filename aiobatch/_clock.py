"""The system's clock, the only module that reads the time or sleeps, so that tests can replace it."""

from __future__ import annotations

import asyncio
import time
from typing import Final


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


# Time in suspend counts for a lease. On macOS CLOCK_MONOTONIC counts it too, unlike `time.monotonic`.
_BOOT: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class BootClock(SystemClock):
    """The machine's clock, whose monotonic time goes on while the machine is suspended."""

    def monotonic(self) -> float:
        """Return the seconds since the machine was started."""
        return time.clock_gettime(_BOOT)
