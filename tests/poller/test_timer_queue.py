from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from aiobatch._poller._timer_queue import Agenda
from aiobatch._poller._token_wait import Pending, Waiter
from aiobatch.testing import FakeClock

from .simulation import pending_token


class Host:
    """Takes what is due, and notes when it was woken."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.agenda = Agenda(self.clock, self._on_wake, asyncio.create_task)
        self.taken: list[tuple[Pending, Waiter | None]] = []
        self.woken: list[float] = []

    def _on_wake(self) -> None:
        self.woken.append(self.clock.monotonic())
        self.taken += self.agenda.due(self.clock.monotonic())
        self.agenda.arm()


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    """A host whose agenda is cleared in the end."""
    host = Host()
    yield host
    for task in host.agenda.clear():
        task.cancel()


async def test_wakes_for_the_earliest(host: Host) -> None:
    """Entries come when they are due, an earlier one that was entered later first."""
    first, second = pending_token(), pending_token()
    host.agenda.look_at(10, second)
    host.agenda.arm()
    host.agenda.look_at(5, first)
    host.agenda.arm()

    await host.clock.sleep(20)

    assert host.taken == [(first, None), (second, None)]
    assert host.woken == [5, 10]


async def test_planned_looks_can_be_brought_forward(host: Host) -> None:
    """Those for whom a look is planned are looked at now and not again later; others are passed over."""
    planned, idle = pending_token(), pending_token()
    host.agenda.look_at(10, planned)
    host.agenda.look_again([idle, planned, planned])
    host.agenda.arm()

    await host.clock.sleep(20)

    assert host.taken == [(planned, None)]
    assert host.woken[0] == 0


async def test_looks_brought_forward_leave_the_host_its_turn(host: Host) -> None:
    """However many are looked at again, a limited number is at a time."""
    many = [pending_token() for _ in range(250)]
    for pending in many:
        host.agenda.look_at(10, pending)
    host.agenda.look_again(many)
    host.agenda.arm()

    await host.clock.sleep(5)

    assert [pending for pending, _ in host.taken] == many
    assert host.woken == [0, 0, 0]


async def test_later_look_takes_the_place_of_an_earlier_one(host: Host) -> None:
    """Only the last look that was planned counts."""
    pending = pending_token()
    host.agenda.look_at(3, pending)
    host.agenda.look_at(7, pending)
    host.agenda.arm()

    await host.clock.sleep(20)

    assert host.taken == [(pending, None)]
    assert pending.check is None


async def test_deadline_of_who_has_gone_is_passed_over(host: Host) -> None:
    """A deadline counts as long as its waiter waits."""
    pending = pending_token()
    gone, waiting = (Waiter(asyncio.get_running_loop().create_future(), 0.0, 4.0, 0) for _ in range(2))
    gone.future.cancel()
    host.agenda.end_at(4, pending, gone)
    host.agenda.end_at(4, pending, waiting)
    host.agenda.arm()

    await host.clock.sleep(20)

    assert host.taken == [(pending, waiting)]


async def test_wakes_for_nothing_in_particular(host: Host) -> None:
    """An entry without a token only wakes."""
    host.agenda.wake_at(6)
    host.agenda.arm()

    await host.clock.sleep(20)

    assert host.taken == []
    assert host.woken == [6]


async def test_host_gets_its_turn_between(host: Host) -> None:
    """Of many entries due at once some are handled at a time."""
    for _ in range(250):
        host.agenda.look_at(1, pending_token())
    host.agenda.arm()

    await host.clock.sleep(20)

    assert len(host.taken) == 250
    assert len(host.woken) == 3


async def test_dead_entries_do_not_pile_up(host: Host) -> None:
    """Looks that were superseded are swept out; what counts stays."""
    pending, other = pending_token(), pending_token()
    host.agenda.look_at(2, other)
    for number in range(10_000):
        host.agenda.look_at(100 + number, pending)
        assert len(host.agenda) <= 1100

    host.agenda.arm()
    await host.clock.sleep(20_000)

    assert host.taken == [(other, None), (pending, None)]


async def test_clear_forgets_all(host: Host) -> None:
    """A cleared agenda wakes for nothing; its sleeper is handed out, once."""
    host.agenda.look_at(1, pending_token())
    host.agenda.arm()

    (sleeper,) = host.agenda.clear()
    sleeper.cancel()
    await host.clock.sleep(20)

    assert host.woken == []
    assert host.agenda.clear() == []
    host.agenda.arm()
    assert host.agenda.clear() == []
