from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiobatch._tasks import cancel_and_wait, run_many, wait_through_cancellation
from aiobatch.errors import AiobatchError

from .conftest import leaked_tasks


class Work:
    """A call that counts how many of it run. Every third item fails."""

    def __init__(self) -> None:
        self.running = self.peak = 0
        self.begun: list[int] = []

    async def __call__(self, item: int) -> int:
        """Work for a few iterations of the loop."""
        self.begun.append(item)
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            for _ in range(item % 5):
                await asyncio.sleep(0)
        finally:
            self.running -= 1
        if item % 3 == 2:
            msg = f"item {item}"
            raise AiobatchError(msg)
        return -item


async def stream(items: list[int]) -> AsyncIterator[int]:
    """Yield items asynchronously."""
    for item in items:
        await asyncio.sleep(0)
        yield item


@given(st.integers(0, 40), st.integers(1, 9), st.sampled_from([list, iter, stream]))
def test_every_item_has_one_result(count: int, limit: int, style: type) -> None:
    """Every item has one result, and never more than the limit are in flight."""
    work = Work()

    async def run() -> None:
        done = [done async for done in run_many(style([*range(count)]), work, limit=limit)]
        assert sorted(one.item for one in done) == [*range(count)]
        for one in done:
            assert (one.error is not None) == (one.item % 3 == 2)
            assert one.result == (None if one.error else -one.item)
        assert not await leaked_tasks()

    asyncio.run(run())
    assert work.peak <= min(limit, max(count, 1))
    assert work.running == 0


async def test_no_more_workers_than_items() -> None:
    """If the number of items is known, no worker is superfluous."""
    before = len(asyncio.all_tasks())
    outcomes = run_many([1], Work(), limit=50)

    await anext(outcomes)

    assert len(asyncio.all_tasks()) <= before + 1
    await outcomes.aclose()


async def test_results_are_yielded_as_they_arrive() -> None:
    """A slow item delays no other."""
    gate = asyncio.Event()

    async def call(item: int) -> int:
        if item == 0:
            await gate.wait()
        return item

    seen: list[int] = []
    async for done in run_many(range(5), call, limit=2):
        seen.append(done.item)
        if len(seen) == 4:
            gate.set()

    assert seen == [1, 2, 3, 4, 0]


@pytest.mark.parametrize("style", [iter, stream])
async def test_slow_consumer_slows_the_workers(style: type) -> None:
    """Items are read ahead of a slow consumer only up to the limit."""
    work = Work()

    async with aclosing(run_many(style([*range(1000)]), work, limit=4)) as outcomes:
        for taken in range(1, 20):
            await anext(outcomes)
            for _ in range(50):
                await asyncio.sleep(0)
            assert len(work.begun) - taken <= 8


@pytest.mark.parametrize("style", [list, iter, stream])
async def test_break_leaves_no_task(style: type) -> None:
    """A consumer that closes the iteration ends all work."""
    work = Work()

    async with aclosing(run_many(style([*range(1000)]), work, limit=5)) as outcomes:
        async for _ in outcomes:
            break

    assert work.running == 0
    assert not await leaked_tasks()


async def test_abandoned_iteration_leaves_no_task() -> None:
    """An iteration that is left by `break` ends when it is collected."""
    work = Work()

    async for _ in run_many(iter(range(1000)), work, limit=5):
        break
    gc.collect()

    assert not await leaked_tasks()
    assert work.running == 0


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_cancelled_consumer_leaves_no_task(times: int) -> None:
    """A cancelled consumer ends all work first, however often it is cancelled."""
    tidy: list[int] = []

    async def call(item: int) -> int:
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            tidy.append(item)
        return item

    async def consume() -> None:
        async for _ in run_many(range(10), call, limit=3):
            pass

    task = asyncio.create_task(consume())
    for _ in range(3):
        await asyncio.sleep(0)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task

    assert sorted(tidy) == [0, 1, 2]


def _broken_items() -> Iterator[int]:
    yield 0
    msg = "the source broke"
    raise OSError(msg)


async def _broken_stream() -> AsyncIterator[int]:
    for item in _broken_items():
        yield item


@pytest.mark.parametrize("source", [_broken_items, _broken_stream])
async def test_exception_of_the_items_is_raised(source: type) -> None:
    """An exception of the iterable is raised unchanged and ends the work."""
    with pytest.raises(OSError, match="the source broke"):
        async for _ in run_many(source(), Work(), limit=3):
            pass

    assert not await leaked_tasks()


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
async def test_unexpected_exception_of_the_call_is_raised(error: type[BaseException]) -> None:
    """A bug in the call, or a cancellation within it, ends the iteration and does not hang it."""

    async def call(item: int) -> int:
        await asyncio.sleep(0)
        if item == 3:
            raise error
        return item

    with pytest.raises(error):
        async for _ in run_many(range(100), call, limit=3):
            pass

    assert not await leaked_tasks()


async def test_failures_leave_no_reference_cycles() -> None:
    """A failure is freed with its result, without the garbage collector."""

    class OwnError(AiobatchError):
        """An error of this test."""

    gc.collect()
    gc.disable()
    try:

        async def call(item: int) -> int:
            msg = "no"
            raise OwnError(msg)

        async for _ in run_many(range(50), call, limit=5):
            pass
        left = [found for found in gc.get_objects() if issubclass(type(found), OwnError)]
    finally:
        gc.enable()
    assert len(left) <= 1


async def test_cancel_and_wait_ignores_ended_tasks() -> None:
    """Ended tasks stay as they are."""
    task = asyncio.create_task(asyncio.sleep(0))
    await task

    await cancel_and_wait([task])
    await cancel_and_wait([])

    assert not task.cancelled()


async def test_wait_through_cancellation_waits_for_the_tasks() -> None:
    """The tasks end first, then the cancellation is raised."""
    gate = asyncio.Event()
    task = asyncio.create_task(gate.wait())
    waiting = asyncio.create_task(wait_through_cancellation([task]))
    for _ in range(3):
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert task.result()
    await wait_through_cancellation([task])
    await wait_through_cancellation([])


async def _number(item: int) -> int:
    return item


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_early_end_closes_the_items(kind: str) -> None:
    """A consumer that stops early closes the generator of the items at once."""
    closed: list[str] = []

    def items() -> Iterator[int]:
        try:
            yield from range(10**9)
        finally:
            closed.append("sync")

    async def items_later() -> AsyncIterator[int]:
        try:
            for item in range(10**9):
                yield item
        finally:
            closed.append("async")

    source = items() if kind == "sync" else items_later()
    async with aclosing(run_many(source, _number, limit=2)) as ends:
        async for _ in ends:
            break
    assert closed == [kind]
