from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
from collections.abc import Callable
from typing import Any

import attrs
import orjson
import pytest

from aiobatch._clock import BootClock
from aiobatch.sync import LockedError, LostLeaseError, StateError
from aiobatch.sync.state.objects._layout import Place
from aiobatch.sync.state.objects._lease import Lease, LeaseObject
from aiobatch.sync.state.objects._store import ObjectStore, Tag
from aiobatch.sync.state.objects.stores._memory import MemoryStore
from aiobatch.testing import FakeClock

PLACE = Place("scope", "key")


async def inline(function: Callable[[], Any], /) -> Any:
    """Call a function at once: a store in memory does not block."""
    return function()


def new_lease(store: ObjectStore, clock: FakeClock, what: str = "sync vip", **fields: Any) -> Lease:
    """Return a lease of 60 seconds, 10 of which a request may take."""
    fields = {"margin": 10.0, "ttl": 60.0, "in_thread": inline, **fields}
    return Lease(store, PLACE, what, clock=clock, **fields)


def content(store: ObjectStore) -> dict[str, Any]:
    """Return the content of LEASE."""
    found = store.get(PLACE.lease)
    assert found is not None
    document: dict[str, Any] = orjson.loads(found.data)
    return document


async def kill(lease: Lease) -> None:
    """End a holder without a release."""
    assert lease._renewing is not None
    lease._renewing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await lease._renewing


async def test_a_holder_excludes_others() -> None:
    """A second process learns within a renewal who holds the lease. After a release it has it at once."""
    store, clock = MemoryStore(), FakeClock()
    first = await new_lease(store, clock).acquire()
    with pytest.raises(LockedError, match=rf"process {os.getpid()} of .*\(sync vip\)") as caught:
        await new_lease(store, clock, "plan vip").acquire()
    assert (caught.value.pid, caught.value.what, caught.value.lease) == (os.getpid(), "sync vip", 60.0)
    assert clock.monotonic() <= 26
    first.check()
    await first.release()
    assert content(store)["who"] is None
    now = clock.monotonic()
    second = await new_lease(store, clock).acquire()
    assert clock.monotonic() == now
    assert (first.epoch, second.epoch) == (1, 2)
    await second.release()
    await second.release()


async def test_a_killed_holder_is_replaced_after_its_time() -> None:
    """A taker waits 1.2 times the time to live of the holder, and then has the next epoch."""
    store, clock = MemoryStore(), FakeClock()
    await kill(await new_lease(store, clock).acquire())
    start = clock.monotonic()
    second = await new_lease(store, clock, ttl=20.0).acquire()
    assert clock.monotonic() - start == pytest.approx(72)
    assert second.epoch == 2
    await second.release()


async def test_of_many_takers_one_wins() -> None:
    """Takers that have waited equally long have one winner, and the others name it."""
    store, clock = MemoryStore(), FakeClock()
    await kill(await new_lease(store, clock).acquire())
    leases = [new_lease(store, clock, f"sync {n}") for n in range(20)]
    results = await asyncio.gather(*(lease.acquire() for lease in leases), return_exceptions=True)
    won = [result for result in results if isinstance(result, Lease)]
    assert len(won) == 1
    lost = [result for result in results if isinstance(result, LockedError)]
    assert {error.what for error in lost} == {won[0].what}
    assert len(lost) == 19
    await won[0].release()


@attrs.define(eq=False)
class RacingStore(MemoryStore):
    """A store in which another process takes the lease between a look and a write."""

    other: bytes | None = None

    def create(self, path: str, data: bytes) -> Tag:
        """Write what the other process writes, and fail."""
        other, self.other = self.other, None
        if other is not None:
            super().create(path, other)
        return super().create(path, data)


async def test_the_loser_of_a_race_names_the_winner() -> None:
    """A process that sees no lease, and then fails to create one, names the one that did."""
    store, clock = RacingStore(), FakeClock()
    who = {"pid": 7, "host": "pod", "user": "root", "since": "now", "what": "sync other"}
    lease = LeaseObject(epoch=1, who=who, ttl=60.0, nonce="n")
    store.other = lease.to_json()
    with pytest.raises(LockedError, match=r"process 7 of root on pod, since now \(sync other\)"):
        await new_lease(store, clock).acquire()
    assert content(store)["who"] == who


async def test_renewals_keep_a_lease() -> None:
    """A holder may send for as long as it renews."""
    store, clock = MemoryStore(), FakeClock()
    lease = await new_lease(store, clock).acquire()
    for _ in range(50):
        await clock.sleep(17)
        lease.check()
    await lease.release()
    with pytest.raises(LostLeaseError):
        lease.check()


@attrs.define(eq=False)
class FailingStore(MemoryStore):
    """A store that can be away."""

    is_away: bool = False

    def replace(self, path: str, data: bytes, tag: Tag) -> Tag:
        """Fail while the store is away."""
        if self.is_away:
            msg = "the store does not answer."
            raise StateError(msg, path=self.url, reason="unreachable")
        return super().replace(path, data, tag)


async def test_a_holder_stops_before_its_lease_ends() -> None:
    """Without renewals nothing starts when less than a request's time remains. After one it goes on."""
    store, clock = FailingStore(), FakeClock()
    lease = await new_lease(store, clock).acquire()
    store.is_away = True
    await clock.sleep(50)
    lease.check()
    await clock.sleep(0.5)
    with pytest.raises(LostLeaseError, match="sends nothing more"):
        lease.check()
    store.is_away = False
    await clock.sleep(20)
    lease.check()
    store.is_away = True
    await lease.release()


async def test_a_suspended_holder_sends_nothing() -> None:
    """A holder whose clock jumped may not send, even before it learns who has the lease now."""
    store, clock, frozen = MemoryStore(), FakeClock(), FakeClock(autojump=False)
    first = await new_lease(store, frozen).acquire()
    second = await new_lease(store, clock, "sync again").acquire()
    frozen._now += 120  # the machine was suspended: no task ran
    with pytest.raises(LostLeaseError, match="not renewed in time") as caught:
        first.check()
    assert caught.value.pid is None
    await frozen.advance(1)
    with pytest.raises(LostLeaseError, match=r"Now process \d+ of .*\(sync again\) holds it") as caught:
        first.check()
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 - the test's own
    before = content(store)
    await first.release()
    assert content(store) == before
    second.check()
    await second.release()


async def test_a_lost_answer_does_not_lose_the_lease() -> None:
    """A renewal that arrived although it seemed to fail is found by its nonce."""
    store, clock = MemoryStore(), FakeClock()
    lease = await new_lease(store, clock).acquire()
    assert lease._mine is not None
    tag = lease._tag
    assert tag is not None
    store.replace(PLACE.lease, attrs.evolve(lease._mine, beat=99).to_json(), tag)
    await clock.sleep(70)
    lease.check()
    await lease.release()
    assert content(store)["who"] is None


async def test_a_deleted_lease_is_lost() -> None:
    """A holder whose LEASE object is deleted stops."""
    store, clock = MemoryStore(), FakeClock()
    lease = await new_lease(store, clock).acquire()
    waiting = asyncio.create_task(new_lease(store, clock).acquire())
    await asyncio.sleep(0)
    store.delete([PLACE.lease])
    with pytest.raises(LockedError, match="another process"):
        await waiting
    await clock.sleep(21)
    with pytest.raises(LostLeaseError):
        lease.check()
    await lease.release()


async def test_a_waiting_taker_gets_a_released_lease() -> None:
    """A taker that waits has the lease soon after its release."""
    store, clock = MemoryStore(), FakeClock()
    first = await new_lease(store, clock).acquire()
    waiting = asyncio.create_task(new_lease(store, clock).acquire())
    await clock.sleep(1)
    await first.release()
    second = await waiting
    assert clock.monotonic() <= 6
    await second.release()


@attrs.define(eq=False)
class UnconditionalStore(MemoryStore):
    """A store that ignores a condition.

    Attributes:
        ignored: `create` or `replace`.
    """

    ignored: str = "create"

    def create(self, path: str, data: bytes) -> Tag:
        """Write an object even if there is one."""
        return self._put(path, data) if self.ignored == "create" else super().create(path, data)

    def replace(self, path: str, data: bytes, tag: Tag) -> Tag:
        """Write an object whatever its version."""
        return self._put(path, data) if self.ignored == "replace" else super().replace(path, data, tag)


@pytest.mark.parametrize("ignored", ["create", "replace"])
async def test_a_store_without_conditions_is_found_out(ignored: str) -> None:
    """A store that ignores conditions cannot keep runs apart."""
    lease = new_lease(UnconditionalStore(ignored=ignored), FakeClock())
    with pytest.raises(StateError, match="conditional writes") as caught:
        await lease.acquire()
    assert caught.value.reason == "unconditional"
    with pytest.raises(LostLeaseError):
        lease.check()


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"hello", "foreign"), (b"[]", "foreign"), (b'{"format": 1}', "foreign"), (b'{"format": 2}', "newer")],
)
async def test_a_foreign_lease_is_not_touched(data: bytes, reason: str) -> None:
    """A LEASE that this version did not write stays, and the error contains advice."""
    store = MemoryStore()
    store.create(PLACE.lease, data)
    with pytest.raises(StateError) as caught:
        await new_lease(store, FakeClock()).acquire()
    assert caught.value.reason == reason
    found = store.get(PLACE.lease)
    assert found is not None
    assert found.data == data


async def test_a_lease_lasts_at_least_two_requests() -> None:
    """A time to live that leaves no time to send is raised."""
    assert new_lease(MemoryStore(), FakeClock(), ttl=5.0, margin=10.0).ttl == 20


async def test_a_cancelled_release_gives_the_lease_back() -> None:
    """A release is completed even if its caller is cancelled."""
    store, clock = MemoryStore(), FakeClock()
    lease = await new_lease(store, clock).acquire()
    releasing = asyncio.create_task(lease.release())
    await asyncio.sleep(0)
    releasing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await releasing
    assert content(store)["who"] is None


async def test_a_lease_works_in_threads(s3_url: str) -> None:
    """The lease of a real store is written from other threads."""
    from aiobatch.sync.state.objects._open import open_store

    store = open_store(s3_url)
    lease = await Lease(store, PLACE, "sync vip", margin=5.0, clock=BootClock()).acquire()
    lease.check()
    await lease.release()
    assert content(store)["epoch"] == 1
    assert BootClock().monotonic() > 0
