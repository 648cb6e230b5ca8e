"""One timer for the timeouts of all requests."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from aiobatch.transport._request_timeout import RequestTimeouts
from benchmarks.simulation.virtual_loop import run_virtually

SHORT, LONG = 0.02, 60.0


def virtually(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test in virtual time, which a busy machine does not stretch."""

    @functools.wraps(test)
    def run() -> None:
        run_virtually(test)

    return run


async def _stay(timeouts: RequestTimeouts, seconds: float = LONG) -> str:
    with timeouts:
        await asyncio.sleep(seconds)
    return "done"


@virtually
async def test_what_takes_too_long_ends() -> None:
    """A task within for too long gets a TimeoutError, and counts as not cancelled afterwards."""
    started = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        await _stay(RequestTimeouts(SHORT))
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
    assert asyncio.get_running_loop().time() - started == pytest.approx(SHORT)


@virtually
async def test_what_is_quick_is_left_alone() -> None:
    """Whoever leaves in time is not cancelled, whatever it does afterwards."""
    timeouts = RequestTimeouts(SHORT)
    assert await _stay(timeouts, 0) == "done"
    await asyncio.sleep(2 * SHORT)
    assert timeouts._timer is None


@virtually
async def test_one_timer_serves_all() -> None:
    """Each has its own time from when it entered, and at most one timer is there."""
    timeouts = RequestTimeouts(3 * SHORT)
    loop = asyncio.get_running_loop()

    async def late() -> float:
        await asyncio.sleep(SHORT)
        started = loop.time()
        with pytest.raises(TimeoutError):
            await _stay(timeouts)
        return loop.time() - started

    first = asyncio.create_task(_stay(timeouts))
    others = [asyncio.create_task(late()) for _ in range(3)]
    await asyncio.sleep(0)
    timer = timeouts._timer
    await asyncio.sleep(1.5 * SHORT)
    assert timeouts._timer is timer
    with pytest.raises(TimeoutError):
        await first
    assert await asyncio.gather(*others) == pytest.approx([3 * SHORT] * 3)
    assert timeouts._timer is None


@virtually
async def test_cancellation_from_outside_stays_one() -> None:
    """A task that somebody else cancels gets CancelledError, before its time is up and after."""
    early = asyncio.create_task(_stay(RequestTimeouts(LONG)))
    late = asyncio.create_task(_stay(RequestTimeouts(0)))
    await asyncio.sleep(0)
    for task in (early, late):
        asyncio.get_running_loop().call_later(0, task.cancel)
    for task in (early, late):
        with pytest.raises(asyncio.CancelledError):
            await task


@virtually
async def test_outer_timeout_comes_first() -> None:
    """A timeout around it is told as that one's."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SHORT) as outer:
            await _stay(RequestTimeouts(LONG))
    assert outer.expired()


@virtually
async def test_error_on_the_way_out_is_kept() -> None:
    """What is raised in place of the cancellation is passed on, and the cancellation is taken back."""

    async def fail() -> None:
        with RequestTimeouts(0):
            try:
                await asyncio.sleep(LONG)
            finally:
                raise KeyError

    with pytest.raises(KeyError):
        await fail()
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


@virtually
async def test_who_is_slow_to_leave_is_cancelled_once() -> None:
    """A task that takes its time to clean up is not cancelled again when others expire."""
    timeouts = RequestTimeouts(SHORT)
    cleaned = False

    async def slow() -> None:
        nonlocal cleaned
        with timeouts:
            try:
                await asyncio.sleep(LONG)
            finally:
                await asyncio.sleep(3 * SHORT)
                cleaned = True

    task = asyncio.create_task(slow())
    await asyncio.sleep(SHORT / 2)
    with pytest.raises(TimeoutError):
        await _stay(timeouts)
    with pytest.raises(TimeoutError):
        await task
    assert cleaned


@virtually
async def test_closing_drops_the_timer() -> None:
    """Nothing is left on the loop after closing, but for those who are still within."""
    timeouts = RequestTimeouts(SHORT)
    timeouts.close()
    assert await _stay(timeouts, 0) == "done"
    timer = timeouts._timer
    assert timer is not None
    timeouts.close()
    assert timer.cancelled()

    task = asyncio.create_task(_stay(timeouts))
    await asyncio.sleep(0)
    timeouts.close()
    with pytest.raises(TimeoutError):
        await task
