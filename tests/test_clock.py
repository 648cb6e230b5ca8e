from __future__ import annotations

import asyncio
import time

import pytest

from aiobatch._clock import SystemClock
from aiobatch.interfaces import Clock


def test_monotonic_is_the_time_of_the_machine() -> None:
    """The clock's monotonic time is the machine's."""
    clock: Clock = SystemClock()
    before = time.monotonic()
    assert before <= clock.monotonic() <= time.monotonic()


def test_time_is_since_the_epoch() -> None:
    """The clock's time is the machine's, in seconds since the epoch."""
    assert SystemClock().time() == pytest.approx(time.time(), abs=60)


async def test_sleep_yields_to_the_loop() -> None:
    """A sleep lasts at least as long as requested, and lets other tasks run."""
    clock, ran = SystemClock(), asyncio.Event()
    before = asyncio.get_running_loop().time()
    asyncio.get_running_loop().call_soon(ran.set)
    await clock.sleep(0.002)
    assert ran.is_set()
    assert asyncio.get_running_loop().time() - before >= 0.001


async def test_sleep_can_be_cancelled() -> None:
    """A cancelled sleep ends at once with CancelledError."""
    task = asyncio.create_task(SystemClock().sleep(3600))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
