from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from aiobatch._poller._timer_queue import TimerQueue
from aiobatch._poller._token_wait import TokenWait, Waiter
from aiobatch.testing import FakeClock

from .simulation import pending_token


class Host:
    """Takes what is due, and records when it was woken."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.timers = TimerQueue(self.clock, self._on_due, asyncio.create_task)
        self.taken: list[tuple[TokenWait, Waiter | None]] = []
        self.woken: list[float] = []

    def _on_due(self) -> None:
        self.woken.append(self.clock.monotonic())
        self.taken += self.timers.pop_due(self.clock.monotonic())
        self.timers.arm()


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    """A host whose timer queue is cleared in the end."""
    host = Host()
    yield host
    for task in host.timers.clear():
        task.cancel()


async def test_earliest_entry_is_due_first(host: Host) -> None:
    """Entries come when they are due, whatever their order of arrival."""
    first, second = pending_token(), pending_token()
    host.timers.schedule(10, second)
    host.timers.arm()
    host.timers.schedule(5, first)
    host.timers.arm()

    await host.clock.sleep(20)

    assert host.taken == [(first, None), (second, None)]
    assert host.woken == [5, 10]


async def test_scheduled_tokens_can_be_made_due_now(host: Host) -> None:
    """They are due now and not again later. Tokens that are not scheduled are skipped."""
    planned, idle = pending_token(), pending_token()
    host.timers.schedule(10, planned)
    host.timers.reschedule_now([idle, planned, planned])
    host.timers.arm()

    await host.clock.sleep(20)

    assert host.taken == [(planned, None)]
    assert host.woken[0] == 0


async def test_rescheduled_tokens_are_taken_in_turns(host: Host) -> None:
    """A limited number of tokens is taken at a time."""
    many = [pending_token() for _ in range(250)]
    for wait in many:
        host.timers.schedule(10, wait)
    host.timers.reschedule_now(many)
    host.timers.arm()

    await host.clock.sleep(5)

    assert [wait for wait, _ in host.taken] == many
    assert host.woken == [0, 0, 0]


async def test_only_the_last_schedule_counts(host: Host) -> None:
    """A new schedule of a token replaces the old one."""
    wait = pending_token()
    host.timers.schedule(3, wait)
    host.timers.schedule(7, wait)
    host.timers.arm()

    await host.clock.sleep(20)

    assert host.taken == [(wait, None)]
    assert wait.timer is None


async def test_deadline_of_a_cancelled_waiter_is_skipped(host: Host) -> None:
    """A deadline counts as long as its waiter waits."""
    wait = pending_token()
    gone, waiting = (Waiter(asyncio.get_running_loop().create_future(), 0.0, 4.0, 0) for _ in range(2))
    gone.future.cancel()
    host.timers.schedule_deadline(4, wait, gone)
    host.timers.schedule_deadline(4, wait, waiting)
    host.timers.arm()

    await host.clock.sleep(20)

    assert host.taken == [(wait, waiting)]


async def test_entry_without_a_token_only_wakes(host: Host) -> None:
    """Nothing is taken."""
    host.timers.wake_at(6)
    host.timers.arm()

    await host.clock.sleep(20)

    assert host.taken == []
    assert host.woken == [6]


async def test_due_entries_are_taken_in_turns(host: Host) -> None:
    """Of many entries due at once, a limited number is taken at a time."""
    for _ in range(250):
        host.timers.schedule(1, pending_token())
    host.timers.arm()

    await host.clock.sleep(20)

    assert len(host.taken) == 250
    assert len(host.woken) == 3


async def test_dead_entries_do_not_accumulate(host: Host) -> None:
    """Replaced schedules are removed, and live ones stay."""
    wait, other = pending_token(), pending_token()
    host.timers.schedule(2, other)
    for number in range(10_000):
        host.timers.schedule(100 + number, wait)
        assert len(host.timers) <= 1100

    host.timers.arm()
    await host.clock.sleep(20_000)

    assert host.taken == [(other, None), (wait, None)]


async def test_clear_removes_all_entries(host: Host) -> None:
    """Nothing is due any more, and the sleeping task is returned once."""
    host.timers.schedule(1, pending_token())
    host.timers.arm()

    (sleeper,) = host.timers.clear()
    sleeper.cancel()
    await host.clock.sleep(20)

    assert host.woken == []
    assert host.timers.clear() == []
    host.timers.arm()
    assert host.timers.clear() == []
