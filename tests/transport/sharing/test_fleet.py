"""Processes that share a limit through a file, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
import random
from pathlib import Path

import pytest

from aiobatch.errors import AiobatchError, MaintenanceError
from aiobatch.events import Event, PauseEnded, PauseStarted
from aiobatch.interfaces import Response
from aiobatch.options import RetryPolicy
from aiobatch.testing import FakeTransport, json_response
from aiobatch.transport import RetryingTransport
from aiobatch.transport._sharing import RateGroup
from aiobatch.transport._sharing._state import SharedState

from ...conftest import leaked_tasks
from ..paced_server import DOWN, OK
from ..support import make_request
from .fleet import Fleet


@pytest.mark.parametrize(("rate", "processes"), [(5.0, 8), (1.0, 3), (50.0, 4), (0.2, 2)])
async def test_limit_is_used_in_full_and_in_turns(tmp_path: Path, rate: float, processes: int) -> None:
    """Processes use 98 % of the limit, never come too soon after each other, and get equally much."""
    fleet = Fleet(tmp_path, rate=rate)
    all_of_them = [await fleet.process(f"p{number}") for number in range(processes)]

    end = fleet.clock.monotonic() + 60 * processes / rate
    await asyncio.gather(*(fleet.send_until(one, end, workers=1 + n) for n, one in enumerate(all_of_them)))

    used = (len(fleet.times) - 1) / (fleet.times[-1] - fleet.times[0])
    assert 0.98 * rate <= used <= rate
    assert min(late - early for early, late in itertools.pairwise(fleet.times)) >= 1 / rate
    counts = fleet.counts_until(end).values()
    assert max(counts) - min(counts) <= 1


async def test_later_process_gets_its_turn(tmp_path: Path) -> None:
    """However many requests wait in one process, the first of another is sent in the next round."""
    fleet = Fleet(tmp_path, rate=1.0)
    busy, idle = await fleet.process("busy"), await fleet.process("idle")
    task = asyncio.create_task(fleet.send_all(busy, 50))
    await fleet.clock.sleep(5)

    started = fleet.clock.monotonic()
    await fleet.send_all(idle, 1)

    assert fleet.clock.monotonic() - started <= 2.1
    await task
    assert fleet.counts == {"busy": 50, "idle": 1}


@pytest.mark.parametrize("workers", [1, 5])
async def test_cancelled_request_costs_one_slot(tmp_path: Path, workers: int) -> None:
    """A cancelled request leaves its slot to the next one of its process, or unused."""
    fleet = Fleet(tmp_path, rate=1.0)
    first, second = await fleet.process("first"), await fleet.process("second")
    await fleet.send_all(first, 1)
    tasks = [asyncio.create_task(first.send(make_request())) for _ in range(workers)]
    await fleet.clock.sleep(0.1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    started = fleet.clock.monotonic()
    await fleet.send_all(second, 1)

    assert fleet.clock.monotonic() - started <= 2.1
    assert first.admission.queued == first.admission.in_flight == 0
    assert not await leaked_tasks()


async def test_slot_of_a_cancelled_request_goes_to_the_next(tmp_path: Path) -> None:
    """A request of the same process uses the slot that was reserved already."""
    fleet = Fleet(tmp_path, rate=1.0)
    process = await fleet.process("one")
    await fleet.send_all(process, 1)
    cancelled = asyncio.create_task(process.send(make_request()))
    await fleet.clock.sleep(0.1)
    cancelled.cancel()
    await fleet.send_all(process, 1)

    assert fleet.times[1] - fleet.times[0] == pytest.approx(1.01)
    await asyncio.gather(cancelled, return_exceptions=True)


async def test_process_that_vanishes_costs_one_slot(tmp_path: Path) -> None:
    """A process that is killed while it holds a slot delays the others once."""
    fleet = Fleet(tmp_path, rate=1.0)
    dead, alive = fleet.store(), await fleet.process("alive")
    for _ in range(3):
        await dead.transact(lambda state, now: state.ask(now, 1.0, "dead", None))

    await fleet.send_all(alive, 5)

    assert fleet.times[0] - 100 <= 3.1
    assert fleet.times[-1] - fleet.times[0] <= 4.1


async def test_unused_time_is_lost(tmp_path: Path) -> None:
    """After an idle time requests are not sent in a burst."""
    fleet = Fleet(tmp_path, rate=5.0)
    processes = [await fleet.process(f"p{number}") for number in range(3)]
    await asyncio.gather(*(fleet.send_all(one, 1) for one in processes))
    await fleet.clock.sleep(60)
    await asyncio.gather(*(fleet.send_all(one, 2) for one in processes))

    assert min(late - early for early, late in itertools.pairwise(fleet.times)) >= 0.2


async def test_pause_of_one_process_pauses_all(tmp_path: Path) -> None:
    """After one 503 no process sends before the pause is over, and one probe goes ahead."""
    down = (105.0, 125.0)
    fleet = Fleet(tmp_path, rate=10.0, answer=lambda now: DOWN if down[0] <= now < down[1] else OK)
    events: list[Event] = []
    processes = [await fleet.process(f"p{number}", emit=events.append) for number in range(4)]

    await asyncio.gather(*(fleet.send_until(one, 160.0) for one in processes))

    refused = [when for when, _, status in fleet.sent if status == DOWN.status]
    # A request of another process may be in flight when the pause starts.
    assert len(refused) <= 8
    assert sum(1 for when in refused if when > 106) <= 6
    started = sum(isinstance(event, PauseStarted) for event in events)
    assert started >= 4
    assert sum(isinstance(event, PauseEnded) for event in events) == 4
    after = [when for when in fleet.times if when >= 135]
    assert len(after) >= 0.9 * 10 * 25
    assert not await leaked_tasks()


async def test_retry_after_pauses_all(tmp_path: Path) -> None:
    """All processes wait as long as one of them was asked to."""
    answers = iter([json_response(503, {}, {"retry-after": "30"})])
    fleet = Fleet(tmp_path, rate=10.0, answer=lambda _: next(answers, OK))
    processes = [await fleet.process(f"p{number}") for number in range(3)]

    await asyncio.gather(*(fleet.send_until(one, 150.0) for one in processes))

    assert fleet.times[0] == 100.0
    assert not [when for when in fleet.times if 100.3 < when < 130]
    assert len([when for when in fleet.times if when > 131]) > 150


async def test_failing_fast_works_across_processes(tmp_path: Path) -> None:
    """A call that does not want to wait fails at once if another process has paused."""
    fleet = Fleet(tmp_path, rate=10.0, answer=lambda _: json_response(503, {}, {"retry-after": "30"}))
    first, second = await fleet.process("first"), await fleet.process("second")
    await first.send(make_request())

    policy = RetryPolicy(fail_when_paused=True)
    retrying = RetryingTransport(second, policy=policy, clock=fleet.clock, rng=random.Random(1))
    started = fleet.clock.monotonic()
    with pytest.raises(MaintenanceError, match="Nothing was sent") as caught:
        await retrying.send(make_request())

    assert fleet.clock.monotonic() - started < 1
    assert caught.value.retry_after == pytest.approx(30, abs=1)
    assert fleet.counts["second"] == 0


async def test_cancelled_probe_is_followed_by_another(tmp_path: Path) -> None:
    """A probe that is cancelled does not keep the others waiting for its end."""
    fleet = Fleet(tmp_path, rate=10.0, answer=lambda now: DOWN if now < 100.5 else OK)
    first = await fleet.process("first")
    await first.send(make_request())
    await fleet.clock.sleep(2)
    fleet.latency = 1000.0
    probe = asyncio.create_task(first.send(make_request()))
    await fleet.clock.sleep(1)
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    fleet.latency = 0.01

    await fleet.send_all(first, 1)

    assert fleet.clock.monotonic() < 104


async def test_killed_probe_is_followed_by_another(tmp_path: Path) -> None:
    """If the process that probes is killed, another one probes some seconds later."""
    fleet = Fleet(tmp_path, rate=10.0)
    dead, alive = fleet.store(), await fleet.process("alive")
    await dead.transact(lambda state, _: state.pause(100.5, 503, 1))
    await fleet.clock.sleep(1)
    assert (await dead.transact(lambda state, now: state.ask(now, 10.0, "dead", None))).result == (None, 0.0)

    await fleet.send_all(alive, 3)

    assert 110 <= fleet.times[0] <= 112
    assert len(fleet.times) == 3


async def test_limit_that_429_taught_is_shared(tmp_path: Path) -> None:
    """A limit lower than the configured one is found together, and processes that start later know it."""
    level, updated = 3.0, 100.0

    def answer(now: float) -> Response:
        nonlocal level, updated
        level, updated = min(3.0, level + (now - updated) * 3.0), now
        if level < 1:
            return Response(status=429)
        level -= 1
        return OK

    fleet = Fleet(tmp_path, rate=20.0, answer=answer)
    processes = [await fleet.process(f"p{number}") for number in range(4)]
    await asyncio.gather(*(fleet.send_until(one, 200.0) for one in processes))

    late = [status for when, _, status in fleet.sent if when >= 140]
    assert late.count(200) >= 0.85 * 3 * 60
    assert late.count(429) <= 0.05 * len(late)
    newcomer = await fleet.process("newcomer")
    await fleet.send_all(newcomer, 1)
    limit = newcomer.admission.limit
    assert limit is not None
    assert 2 <= limit <= 4


async def test_clients_of_one_process_take_turns(tmp_path: Path) -> None:
    """Two clients of a process have one turn of it, and share it equally."""
    fleet = Fleet(tmp_path, rate=4.0)
    group = RateGroup(fleet.store(), fleet.clock)
    first, second = fleet.client("first"), fleet.client("second")
    for client in (first, second):
        await client.admission.join(group)
    other = await fleet.process("other")

    await asyncio.gather(*(fleet.send_until(one, 160.0) for one in (first, second, other)))

    counts = fleet.counts_until(160.0)
    assert abs(counts["first"] - counts["second"]) <= 2
    assert abs(counts["first"] + counts["second"] - counts["other"]) <= 2
    for client in (first, second):
        await client.aclose()


async def test_clients_of_one_event_loop_share_without_a_store() -> None:
    """Slots, pauses, probes and the learned limit are those of all clients of a group."""
    fleet = Fleet(Path("unused"), rate=5.0, answer=lambda now: DOWN if 110 <= now < 120 else OK)
    group = RateGroup()
    clients = [fleet.client(f"c{number}") for number in range(3)]
    for client in clients:
        await client.admission.join(group)

    await asyncio.gather(*(fleet.send_until(one, 150.0) for one in clients))

    assert min(late - early for early, late in itertools.pairwise(fleet.times)) >= 0.2
    counts = fleet.counts_until(150.0).values()
    assert max(counts) - min(counts) <= 4
    assert 1 < len([1 for _, _, status in fleet.sent if status == DOWN.status]) <= 8
    assert len([when for when in fleet.times if when < 110]) >= 0.97 * 50


async def test_client_that_joins_during_a_pause_follows_it() -> None:
    """A client that is opened during a pause or a probe of the others waits for its end."""
    fleet = Fleet(Path("unused"), rate=5.0, answer=lambda now: DOWN if now < 100.1 else OK)
    group = RateGroup()
    first, late, last = fleet.client("first"), fleet.client("late"), fleet.client("last")
    await first.admission.join(group)
    await first.send(make_request())
    await late.admission.join(group)
    assert late.admission.is_paused

    fleet.latency = 5.0
    probe = asyncio.create_task(first.send(make_request()))
    await fleet.clock.sleep(2)
    await last.admission.join(group)
    waiting = [asyncio.create_task(one.send(make_request())) for one in (late, last)]
    await fleet.clock.sleep(1)
    assert fleet.counts == {"first": 1}
    await asyncio.gather(probe, *waiting)
    assert fleet.counts == {"first": 1, "late": 1, "last": 1}


async def test_failed_probe_is_published(tmp_path: Path) -> None:
    """A probe without a response lengthens the pause of all processes."""
    fleet = Fleet(tmp_path, rate=10.0, answer=lambda now: DOWN if now < 100.1 else OK)
    first = await fleet.process("first")
    await first.send(make_request())

    def fail(_: object) -> Response:
        msg = "reset"
        raise AiobatchError(msg)

    first._inner = FakeTransport(fail)
    with pytest.raises(AiobatchError):
        await first.send(make_request())
    second = await fleet.process("second")
    await fleet.send_all(second, 1)
    assert fleet.counts["second"] == 1


async def test_resume_without_a_pause_is_no_event() -> None:
    """A client that is not paused reports no end of a pause."""
    events: list[Event] = []
    client = Fleet(Path("unused"), rate=5.0).client("one", emit=events.append)
    client.admission.follow_resume()
    assert events == []


def test_late_process_keeps_its_place() -> None:
    """A process that has more to send reserves its next slot with each permission."""
    state = SharedState.new(100.0)
    late, seconds = state.ask(100.0, 1.0, "late", None, more=True)
    early, _ = state.ask(100.0, 1.0, "early", None)
    assert seconds == 0
    assert (late, early) == pytest.approx((101.01, 102.02))
