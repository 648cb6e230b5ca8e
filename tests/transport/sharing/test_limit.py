"""The fixed share that remains if the store of a shared limit cannot be reached."""

from __future__ import annotations

import asyncio
import itertools
import logging
from pathlib import Path

import pytest

from aiobatch.interfaces import Response
from aiobatch.transport._sharing._file import FileStore
from aiobatch.transport._sharing._state import Change, Reply, StoreError

from ..paced_server import DOWN, OK
from ..support import make_request
from .fleet import Fleet


class Outage:
    """A store that fails while it is down.

    Args:
        inner: The store.
    """

    kind = "redis"

    def __init__(self, inner: FileStore) -> None:
        self.inner = inner
        self.is_down = False
        self.attempts = 0
        self.closed = 0

    async def open(self) -> None:
        """Open the store."""
        await self.inner.open()

    async def transact(self, change: Change) -> Reply:
        """Change the state, unless the store is down."""
        self.attempts += 1
        if self.is_down:
            msg = "ConnectionError"
            raise StoreError(msg)
        return await self.inner.transact(change)

    async def aclose(self) -> None:
        """Count the call."""
        self.closed += 1
        await self.inner.aclose()


async def test_store_that_dies_leaves_a_fixed_share(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each of the processes that were seen gets an equal share, with one warning, until the store is back."""
    fleet = Fleet(tmp_path, rate=8.0)
    stores = [Outage(fleet.store()) for _ in range(4)]
    processes = [await fleet.process(f"p{number}", store=store) for number, store in enumerate(stores)]
    caplog.set_level(logging.INFO, "aiobatch.pacing")

    async def fail() -> None:
        for is_down in (True, False, True, False):
            await fleet.clock.sleep(100)
            for store in stores:
                store.is_down = is_down

    await asyncio.gather(fail(), *(fleet.send_until(one, 560.0) for one in processes))

    def sent(start: float, end: float) -> float:
        return len([when for when in fleet.times if start <= when < end]) / (end - start)

    # The last attempts to reach the store come up to 30 s after it is back, each within these times.
    for start in range(110, 540, 5):
        assert 0.9 * 8 <= sent(start, start + 10) <= 8.3
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 4  # one of each process
    assert all("store=redis reason=ConnectionError share=0.25" in record.getMessage() for record in warnings)
    assert sum("shared limit reachable" in record.getMessage() for record in caplog.records) == 8
    assert stores[0].attempts < 2000


async def test_store_that_was_never_reached_leaves_a_quarter(tmp_path: Path) -> None:
    """Without any knowledge of the others a process uses a quarter of the limit, and learns from 429."""
    fleet = Fleet(tmp_path, rate=8.0)
    store = Outage(fleet.store())
    store.is_down = True
    process = await fleet.process("alone", store=store)
    await fleet.send_until(process, 160.0)
    assert len(fleet.times) == pytest.approx(0.25 * 8 * 60, rel=0.1)


async def test_pauses_work_without_the_store(tmp_path: Path) -> None:
    """During an outage of the store each process pauses and learns by itself."""
    fleet = Fleet(tmp_path, rate=8.0, answer=lambda now: Response(status=429) if 105 < now < 108 else OK)
    store = Outage(fleet.store())
    store.is_down = True
    process = await fleet.process("alone", store=store)
    await fleet.send_until(process, 130.0)
    assert len([1 for _, _, status in fleet.sent if status == 429]) <= 5
    assert fleet.counts["alone"] > 20


async def test_learned_limit_does_not_outlive_the_store(tmp_path: Path) -> None:
    """What all processes learned together does not apply to the share of one."""
    fleet = Fleet(tmp_path, rate=8.0, answer=lambda now: Response(status=429) if now < 100.5 else OK)
    stores = [Outage(fleet.store()) for _ in range(2)]
    first, second = [await fleet.process(f"p{n}", store=store) for n, store in enumerate(stores)]
    await first.send(make_request())
    await second.send(make_request())
    assert second.admission.limit is not None
    assert second.admission.limit < 4
    for store in stores:
        store.is_down = True
    await fleet.send_all(second, 2)
    assert second.admission.limit == 4


async def test_news_that_could_not_be_written_are_dropped(tmp_path: Path) -> None:
    """A pause that the store does not learn of is still one of this process."""
    fleet = Fleet(tmp_path, rate=8.0, answer=lambda now: DOWN if now < 100.1 else OK)
    store = Outage(fleet.store())
    process = await fleet.process("one", store=store)
    sending = asyncio.create_task(process.send(make_request()))
    await fleet.clock.sleep(0.005)
    store.is_down = True
    await sending
    assert process.admission.is_paused
    await fleet.send_all(process, 3)
    assert not process.admission.is_paused


async def test_cancelled_news_are_written_later(tmp_path: Path) -> None:
    """If the request that was refused is cancelled while the pause is published, the next change has it."""
    fleet = Fleet(tmp_path, rate=8.0, answer=lambda now: DOWN if now < 100.1 else OK)
    store = Outage(fleet.store())
    process = await fleet.process("one", store=store)
    blocked, reached = asyncio.Event(), asyncio.Event()
    transact = store.inner.transact

    async def hang(change: Change) -> Reply:
        del change
        reached.set()
        await blocked.wait()
        raise AssertionError

    sending = asyncio.create_task(process.send(make_request()))
    await fleet.clock.sleep(0.005)
    store.inner.transact = hang  # type: ignore[method-assign]  # the store of this test
    await reached.wait()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    store.inner.transact = transact  # type: ignore[method-assign]  # the same
    await process.admission.publish()

    reply = await fleet.store_reply()
    assert reply.state.status == 503


async def test_last_client_closes_the_store(tmp_path: Path) -> None:
    """The store is closed with the last client of the group, and opened again for a later one."""
    fleet = Fleet(tmp_path, rate=8.0)
    store = Outage(fleet.store())
    first = await fleet.process("first", store=store)
    second = fleet.client("second")
    await second.admission.join(first.admission.group)
    await first.aclose()
    await first.aclose()
    assert store.closed == 0
    await second.aclose()
    assert store.closed == 1


async def test_gaps_hold_at_any_lateness(tmp_path: Path) -> None:
    """Late timers cost some slots, and no two requests come too close."""
    fleet = Fleet(tmp_path, rate=5.0)
    processes = [await fleet.process(f"p{number}") for number in range(4)]
    sleep, late = fleet.clock.sleep, itertools.cycle((0.0, 0.05, 0.0, 0.11, 0.02))

    async def sleep_longer(seconds: float) -> None:
        await sleep(seconds + next(late))

    processes[1].admission._clock.sleep = sleep_longer  # type: ignore[method-assign]  # the clock of all
    await asyncio.gather(*(fleet.send_until(one, 160.0) for one in processes))

    assert min(b - a for a, b in itertools.pairwise(fleet.times)) >= 0.2
    assert len(fleet.times) >= 0.8 * 5 * 60


async def test_time_that_passes_is_no_permission(tmp_path: Path) -> None:
    """If the answer of the store is late, the process asks again and does not simply send."""
    fleet = Fleet(tmp_path, rate=8.0)
    store = Outage(fleet.store())
    shared = (await fleet.process("late", store=store)).admission.group.shared
    assert shared is not None
    transact = store.inner.transact

    async def late(change: Change) -> Reply:
        reply = await transact(change)
        await fleet.clock.sleep(0.2)
        return reply

    store.inner.transact = late  # type: ignore[method-assign]  # the store of this test
    assert await shared.ask(4.0, more=True) == 0
    seconds = await shared.ask(4.0, more=False)
    assert seconds is not None
    assert 0 < seconds < 0.001
    assert await shared.ask(4.0, more=False) == 0
