"""The timeout of requests."""

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
async def test_slow_task_times_out() -> None:
    """A task that takes too long raises TimeoutError, and does not count as cancelled afterwards."""
    started = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        await _stay(RequestTimeouts(SHORT))
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
    assert asyncio.get_running_loop().time() - started == pytest.approx(SHORT)


@virtually
async def test_quick_task_is_not_cancelled() -> None:
    """A task that leaves in time is not cancelled later."""
    timeouts = RequestTimeouts(SHORT)
    assert await _stay(timeouts, 0) == "done"
    await asyncio.sleep(2 * SHORT)
    assert timeouts._timer is None


@virtually
async def test_all_tasks_share_one_timer() -> None:
    """Each task has its own time from its entry, and there is at most one timer."""
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
async def test_cancellation_from_outside_is_kept() -> None:
    """A task cancelled by another one raises CancelledError, before its time is up and after."""
    early = asyncio.create_task(_stay(RequestTimeouts(LONG)))
    late = asyncio.create_task(_stay(RequestTimeouts(0)))
    await asyncio.sleep(0)
    for task in (early, late):
        asyncio.get_running_loop().call_later(0, task.cancel)
    for task in (early, late):
        with pytest.raises(asyncio.CancelledError):
            await task


@virtually
async def test_outer_timeout_is_kept() -> None:
    """If a timeout around it expires first, that one raises the error."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SHORT) as outer:
            await _stay(RequestTimeouts(LONG))
    assert outer.expired()


@virtually
async def test_error_after_the_cancellation_is_kept() -> None:
    """An error that replaces the cancellation is raised, and the cancellation is undone."""

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
async def test_task_is_cancelled_once() -> None:
    """A task that cleans up slowly is not cancelled again when others expire."""
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
async def test_closing_cancels_the_timer() -> None:
    """After closing no timer is left, unless a task is still within."""
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
