"""What the engines of a simulation share: a store, Batch, and what must always be true of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, NoReturn

import attrs
import orjson

from aiobatch.sync import StateError
from aiobatch.sync.state.objects._head import Head
from aiobatch.sync.state.objects._layout import Place
from aiobatch.sync.state.objects._store import Tag
from aiobatch.sync.state.objects.stores._memory import MemoryStore

PLACE = Place("scope", "key")
# Seconds: how long a lease lasts, how long a request to Batch may take, and how long the store is tried.
TTL, REQUEST_TIMEOUT, STORE_TIMEOUT = 60.0, 20.0, 10.0
IDS = [f"u{n:02}" for n in range(24)]


class BrokenError(BaseException):
    """An invariant does not hold. No engine catches it."""


@attrs.frozen
class Chunk:
    """The content of one request."""

    adds: frozenset[str]
    removes: frozenset[str]


@attrs.define
class Call:
    """A request that Batch has accepted.

    Attributes:
        chunk: Its content.
        applied_at: When Batch applies it, in virtual seconds.
    """

    chunk: Chunk
    applied_at: float


@attrs.define(eq=False)
class World:
    """The store and Batch.

    Attributes:
        rng: All random choices.
        share: The share of requests with a fault, from 0 to 1. 0 once faults stop.
        slowness: Seconds until Batch has applied a request at most.
        store: The objects.
        calls: What Batch accepted, in its order. Index -> token.
        sent: Number of requests that left an engine.
        stale: Number of requests that arrived late, because their engine was frozen between check and send.
        sendings: The stored SENDING transitions: epoch, run and chunk.
        trace: What happened, for a comparison of two runs.
        over: Set at the end, so that the tasks of killed processes end.
        broken: The first invariant that does not hold. None if all do.
    """

    rng: random.Random
    share: float
    slowness: float
    store: ObservedStore = attrs.field(init=False)
    calls: list[Call] = attrs.field(factory=list)
    sent: int = 0
    stale: int = 0
    sendings: set[tuple[int, int, int]] = attrs.field(factory=set)
    trace: list[tuple[float, str]] = attrs.field(factory=list)
    over: asyncio.Event = attrs.field(factory=asyncio.Event)
    broken: BrokenError | None = None

    def __attrs_post_init__(self) -> None:
        self.store = ObservedStore(world=self)

    @property
    def now(self) -> float:
        """The virtual time, seconds."""
        return asyncio.get_running_loop().time()

    def fail(self, text: str) -> NoReturn:
        """Remember and raise that an invariant does not hold."""
        self.note(text)
        self.broken = self.broken or BrokenError(f"at {self.now:.1f} s: {text}")
        raise self.broken

    def note(self, text: str) -> None:
        """Add to the trace."""
        self.trace.append((round(self.now, 6), text))

    def is_faulty(self) -> bool:
        """Return whether a request has a fault."""
        return self.rng.random() < self.share

    def delay(self, most: float) -> float:
        """Return a delay, most often short."""
        return float(most * self.rng.random() ** 4)

    def deliver_late(self, function: Callable[[], Any]) -> None:
        """Call the store later. No task waits for the answer."""

        def call() -> None:
            try:
                function()
            except (Exception, BrokenError) as error:  # noqa: BLE001 - the answer is lost
                self.note(f"late {type(error).__name__}")

        asyncio.get_running_loop().call_later(self.rng.uniform(0, 6 * TTL), call)

    # -- Batch -----------------------------------------------------------------------------------------

    @property
    def members(self) -> set[str]:
        """The members that Batch has applied by now."""
        members: set[str] = set()
        for call in self.calls:
            if call.applied_at <= self.now:
                members = members - call.chunk.removes | call.chunk.adds
        return members

    def on_send(self, epoch: int, run: int, n: int) -> None:
        """Check a request before it leaves: its SENDING is stored."""
        self.sent += 1
        self.note(f"send {epoch} {run} {n}")
        if (epoch, run, n) not in self.sendings:
            self.fail(f"chunk {n} of run {run} is sent without a stored SENDING of epoch {epoch}")

    def on_arrival(self, epoch: int, chunk: Chunk, *, is_residual: bool) -> int:
        """Accept a request: its sender still has the lease. Return its token."""
        holder = self.epoch
        if epoch != holder and not is_residual:
            self.fail(f"a request of epoch {epoch} arrives although epoch {holder} has the lease")
        self.stale += epoch != holder
        # Batch applies the requests of one audience in their order.
        last = self.calls[-1].applied_at if self.calls else 0.0
        self.calls.append(Call(chunk, max(last, self.now + self.delay(self.slowness))))
        self.note(f"accept {epoch}")
        return len(self.calls) - 1

    # -- the store -------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The epoch of the lease. 0 if there is none yet."""
        found = self.store.get(PLACE.lease)
        return 0 if found is None else int(orjson.loads(found.data)["epoch"])

    def recorded(self) -> set[str]:
        """Return the members that the head names."""
        found = self.store.get(PLACE.head)
        return set() if found is None else self.members_of(Head.from_json(found.data, location="test"))

    def members_of(self, head: Head) -> set[str]:
        """Return the members of a head."""
        members: set[str] = set()
        for file in head.members:
            found = self.store.get(file.path)
            if found is None:
                self.fail(f"the head names {file.path}, which is not stored")
            content = orjson.loads(found.data)
            members = members - set(content["removes"]) | set(content["adds"])
        return members

    def on_head(self, head: Head) -> None:
        """Check a head before it is stored: it counts exactly what is APPLIED."""
        self.note(f"head {head.epoch} {head.serial} {head.open_run}")
        if not self.stale and head.open_run is None and self.members_of(head) != self.members:
            self.fail(
                f"the head counts {sorted(self.members_of(head) ^ self.members)}, which are not APPLIED"
            )


@attrs.define(eq=False)
class ObservedStore(MemoryStore):
    """A store in memory, which checks what is written."""

    world: World = attrs.field(kw_only=True)

    def _put(self, path: str, data: bytes) -> Tag:
        if path == PLACE.head:
            self.world.on_head(Head.from_json(data, location="test"))
        parts = path.removeprefix(PLACE.prefix).split("/")
        if parts[0] == "runs" and parts[2] == "transitions":
            content = orjson.loads(data)
            for one in content["transitions"]:
                if one["state"] == "sending":
                    self.world.sendings.add((content["epoch"], int(parts[1]), one["n"]))
        if path == PLACE.lease:
            content = orjson.loads(data)
            self.world.note(f"lease {content['epoch']} {content['who'] is not None}")
        return MemoryStore._put(self, path, data)


async def use_store(world: World, function: Callable[[], Any]) -> Any:
    """Call the store as a process does over a network, with delays and faults.

    A failed write may take place before, or much later. A failed process does not retry: its run ends.
    """
    fault = world.rng.choice(["before", "after", "late"]) if world.is_faulty() else None
    await asyncio.sleep(world.delay(STORE_TIMEOUT / 2))
    if fault is None:
        result = function()
        await asyncio.sleep(world.delay(STORE_TIMEOUT / 2))
        return result
    if fault == "after":
        function()
    await asyncio.sleep(STORE_TIMEOUT)
    if fault == "late":
        world.deliver_late(function)
    msg = "the store does not answer."
    raise StateError(msg, path="memory://test", reason="unreachable")
