"""One process that syncs the audience: the real lease, head and transitions, and a plan of a few IDs.

Real are `Lease`, `HeadFile`, `RunLog`, `fold` and the numbers of runs, in the order of `ObjectLedger`. Sets
of IDs that are stored as JSON stand for DuckDB, Parquet and the client.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable
from typing import Any

import attrs
import orjson

from aiobatch.models import IndexingToken
from aiobatch.sync import LockedError, LostLeaseError, StateError
from aiobatch.sync.state._chunks import ChunkState, ChunkTransition
from aiobatch.sync.state.objects._head import Head, HeadFile, MemberFile
from aiobatch.sync.state.objects._lease import Lease
from aiobatch.sync.state.objects._root import open_root, take_number
from aiobatch.sync.state.objects._run_log import Entry, RunLog, fold

from .world import PLACE, REQUEST_TIMEOUT, TTL, Chunk, World, use_store

_CHUNK_SIZE = 4
_POLL_INTERVAL = 3.0


class UnsentError(Exception):
    """Batch did not answer. It may have the request."""


@attrs.frozen
class Protocol:
    """What an engine does. Each flag breaks the protocol in one way.

    Attributes:
        skips_sending: It sends without a stored SENDING.
        takes_early: It does not wait until a lease has ended.
        moves_head_first: It counts what it sent before that is APPLIED.
        trusts_sent: On resume it counts SENT chunks without asking for their tokens.
        sleeps_uncounted: Its clock stops while the process does.
        ignores_versions: It replaces the head whatever its version.
        resumes_unfenced: It resumes a run before it has moved the head, so that an earlier holder still can.
    """

    skips_sending: bool = False
    takes_early: bool = False
    moves_head_first: bool = False
    trusts_sent: bool = False
    sleeps_uncounted: bool = False
    ignores_versions: bool = False
    resumes_unfenced: bool = False


@attrs.define(eq=False)
class Process:
    """The life of one process: its clock, when it is frozen, and whether it was killed.

    Attributes:
        world: What it shares with others.
        rate: The speed of its clock. 1 is right.
        counts_sleep: Whether its clock goes on while the process is frozen.
        frozen_until: The virtual time until which it is frozen.
        is_dead: Whether it was killed.
        residual: The share of sends before which it is frozen after the check of its lease.
    """

    world: World
    rate: float = 1.0
    counts_sleep: bool = True
    frozen_until: float = 0.0
    is_dead: bool = False
    residual: float = 0.0
    _slept: float = 0.0

    def freeze(self, seconds: float) -> None:
        """Stop the process, as SIGSTOP and a suspended machine do."""
        start = max(self.frozen_until, self.world.now)
        self.frozen_until = start + seconds
        self._slept += seconds

    async def thaw(self) -> None:
        """Return when the process runs."""
        while self.is_dead or self.frozen_until > self.world.now:
            if self.is_dead:
                await self.world.over.wait()
                msg = "the process was killed."
                raise StateError(msg, path="", reason="killed")
            await asyncio.sleep(self.frozen_until - self.world.now)

    def monotonic(self) -> float:
        """Return the time of the process's clock, seconds."""
        return self.rate * (self.world.now - (0.0 if self.counts_sleep else self._slept))

    def time(self) -> float:
        """Return a time of day, which jumps: nothing may depend on it."""
        return self.world.rng.uniform(0, 2e9)

    async def sleep(self, seconds: float) -> None:
        """Sleep for *seconds* of the process's clock."""
        await asyncio.sleep(seconds / self.rate)
        await self.thaw()

    async def in_thread(self, function: Callable[[], Any], /) -> Any:
        """Call the store."""
        await self.thaw()
        try:
            return await use_store(self.world, function)
        finally:
            await self.thaw()


@attrs.define(eq=False)
class Engine:
    """One sync of the audience with a source.

    Attributes:
        process: The process that runs it.
        source: The IDs that the audience is to have.
        protocol: What it does.
        sends: Number of requests of this engine that left.
    """

    process: Process
    source: frozenset[str]
    protocol: Protocol = Protocol()
    sends: int = 0
    _lease: Lease = attrs.field(init=False)
    _file: HeadFile = attrs.field(init=False)
    _recording: asyncio.Lock = attrs.field(factory=asyncio.Lock, init=False)

    def __attrs_post_init__(self) -> None:
        store, process = self.world.store, self.process
        self._lease = Lease(
            store, PLACE, "sync", margin=REQUEST_TIMEOUT, ttl=TTL, clock=process, in_thread=process.in_thread
        )
        self._file = HeadFile(store, PLACE)

    @property
    def world(self) -> World:
        """What the engines share."""
        return self.process.world

    async def sync(self) -> str:
        """Settle the open run, and bring the audience in line with the source. Return the outcome."""
        try:
            if self.protocol.takes_early:
                await self._take_early()
            await self._lease.acquire()
        except LockedError:
            return "locked"
        except StateError as error:
            return error.reason
        try:
            return await self._run()
        except LostLeaseError:
            return "lost"
        except StateError as error:
            return error.reason
        except UnsentError:
            return "unsent"
        finally:
            await self._lease.release()

    async def _run(self) -> str:
        await self._call(functools.partial(open_root, self.world.store))
        head: Head | None = await self._call(self._file.read)
        if head is not None and head.open_run is not None:
            head = await self._resume(head)
        head = head or _empty_head()
        members = self.world.members_of(head)
        plan = _cut(self.source - members, members - self.source)
        if not plan:
            return "unchanged"
        run: int = await self._call(functools.partial(take_number, self.world.store))
        log = RunLog(self.world.store, PLACE, run)
        ranges = [[n, n, n + 1] for n in range(len(plan))]
        content = [{"adds": sorted(one.adds), "removes": sorted(one.removes)} for one in plan]
        self._lease.check()
        document = {"epoch": self._lease.epoch, "chunks": ranges, "changes": [], "content": content}
        await self._call(functools.partial(log.create_plan, document))
        await self._commit(attrs.evolve(head, open_run=run))
        await self._finish(log, dict(enumerate(plan)), {}, set())
        return "done"

    async def _resume(self, head: Head) -> Head:
        """Settle the open run: SENDING is sent again, SENT is polled, and PLANNED is dropped."""
        assert head.open_run is not None
        if not self.protocol.resumes_unfenced:
            await self._commit(head)
        log = RunLog(self.world.store, PLACE, head.open_run)
        document = await self._call(log.read_plan)
        entries = await self._call(log.read)
        _, steps = fold([tuple(one) for one in document["chunks"]], entries)
        last = {step.n: step for step in steps}
        tokens = {step.n: step.token for step in steps if step.token is not None}
        plan = {
            n: Chunk(frozenset(one["adds"]), frozenset(one["removes"]))
            for n, one in enumerate(document["content"])
        }
        applied = {n for n, step in last.items() if step.state is ChunkState.APPLIED}
        waiting = {n: tokens[n] for n, step in last.items() if step.state is ChunkState.SENT}
        if self.protocol.trusts_sent:
            applied, waiting = applied | set(waiting), {}
        sending = {n: plan[n] for n, step in last.items() if step.state is ChunkState.SENDING}
        return await self._finish(log, sending, waiting, applied, plan)

    async def _finish(
        self,
        log: RunLog,
        sending: dict[int, Chunk],
        waiting: dict[int, IndexingToken],
        applied: set[int],
        plan: dict[int, Chunk] | None = None,
    ) -> Head:
        """Bring chunks to their end, and move the head."""
        plan = sending if plan is None else plan
        if self.protocol.moves_head_first:
            await self._count(plan, set(plan))
        queue = list(sending.items())
        try:
            async with asyncio.TaskGroup() as group:
                for n, token in waiting.items():
                    group.create_task(self._wait(log, n, token))
                for _ in range(2):
                    group.create_task(self._send_all(log, queue))
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        if self.protocol.moves_head_first:
            return self._file.head or _empty_head()
        return await self._count(plan, applied | set(waiting) | set(sending))

    async def _count(self, plan: dict[int, Chunk], applied: Iterable[int]) -> Head:
        """Add the applied chunks to the members, and move the head."""
        head = self._file.head
        assert head is not None
        adds = {one for n in applied for one in plan[n].adds}
        removes = {one for n in applied for one in plan[n].removes}
        path = PLACE.new_members(head.generation + 1, "delta")
        text = orjson.dumps({"adds": sorted(adds), "removes": sorted(removes)})
        await self._call(functools.partial(self.world.store.create, path, text))
        delta = MemberFile(path=path, rows=len(adds) + len(removes), run=head.open_run or 0)
        generation = head.generation + 1
        new = attrs.evolve(head, open_run=None, generation=generation, deltas=(*head.deltas, delta))
        return await self._commit(new)

    async def _commit(self, head: Head) -> Head:
        self._lease.check()
        write = functools.partial(self._replace_head, attrs.evolve(head, epoch=self._lease.epoch))
        if self.world.is_faulty():
            # The process is killed, and a proxy delivers its last write much later.
            self.process.is_dead = True
            self.world.deliver_late(write)
        await self._call(write)
        assert self._file.head is not None
        return self._file.head

    def _replace_head(self, head: Head) -> None:
        if self.protocol.ignores_versions:
            found = self.world.store.get(PLACE.head)
            self._file._tag = None if found is None else found.tag
        self._file.commit(head)

    async def _send_all(self, log: RunLog, queue: list[tuple[int, Chunk]]) -> None:
        while queue:
            n, chunk = queue.pop(0)
            self._lease.check()
            if not self.protocol.skips_sending:
                await self._record(log, ChunkTransition(n=n, state=ChunkState.SENDING))
            token = await self._send(log.run, n, chunk)
            await self._record(log, ChunkTransition(n=n, state=ChunkState.SENT, token=token))
            await self._wait(log, n, token)

    async def _send(self, run: int, n: int, chunk: Chunk) -> IndexingToken:
        """Send a request, and send it again if its answer is lost."""
        for _ in range(4):
            self._lease.check()
            is_residual = self.world.rng.random() < self.process.residual
            if is_residual:
                self.process.freeze(self.world.rng.uniform(TTL, 3 * TTL))
                await self.process.thaw()
            self.sends += 1
            self.world.on_send(self._lease.epoch, run, n)
            token = await self._request(chunk, is_residual=is_residual)
            await self.process.thaw()
            if token is not None:
                return IndexingToken(audience="vip", value=str(token), operation="update")
            await self.process.sleep(self.world.rng.uniform(0, 5))
        raise UnsentError

    async def _request(self, chunk: Chunk, *, is_residual: bool) -> int | None:
        """Return the token of a request, or None if Batch did not answer in time.

        The connection of a process that is killed is closed, and its request does not arrive any more. That
        of a frozen one does.
        """
        world = self.world
        fault = world.rng.choice(["refused", "lost"]) if world.is_faulty() else None
        arrival, limit = world.delay(REQUEST_TIMEOUT), world.now + REQUEST_TIMEOUT
        await asyncio.sleep(arrival)
        if self.process.is_dead or fault == "refused":
            return None
        token = world.on_arrival(self._lease.epoch, chunk, is_residual=is_residual)
        answer = world.delay(REQUEST_TIMEOUT)
        if not world.share:
            answer = min(answer, limit - world.now)
        if fault == "lost" or world.now + answer > limit:
            await asyncio.sleep(max(limit - world.now, 0.0))
            return None
        await asyncio.sleep(answer)
        return token

    async def _wait(self, log: RunLog, n: int, token: IndexingToken) -> None:
        """Poll until a token is APPLIED."""
        call = self.world.calls[int(token.value)]
        while call.applied_at > self.world.now:
            await self.process.sleep(_POLL_INTERVAL)
        await self._record(log, ChunkTransition(n=n, state=ChunkState.APPLIED))

    async def _record(self, log: RunLog, transition: ChunkTransition) -> None:
        async with self._recording:
            self._lease.check()
            entry = Entry(epoch=self._lease.epoch, transitions=[transition])
            await self._call(functools.partial(log.append, entry))

    async def _call(self, function: Callable[[], Any]) -> Any:
        return await self.process.in_thread(function)

    async def _take_early(self) -> None:
        """Write over another lease after a moment."""
        await self.process.sleep(TTL / 4)
        found = self.world.store.get(PLACE.lease)
        if found is not None:
            content = orjson.loads(found.data)
            text = orjson.dumps(content | {"who": None, "beat": content["beat"] + 1})
            await self._call(functools.partial(self.world.store.replace, PLACE.lease, text, found.tag))


def _cut(adds: frozenset[str], removes: set[str]) -> list[Chunk]:
    """Return chunks, removals first."""
    gone, new = sorted(removes), sorted(adds)
    chunks = [
        Chunk(frozenset(), frozenset(gone[n : n + _CHUNK_SIZE])) for n in range(0, len(gone), _CHUNK_SIZE)
    ]
    return chunks + [
        Chunk(frozenset(new[n : n + _CHUNK_SIZE]), frozenset()) for n in range(0, len(new), _CHUNK_SIZE)
    ]


def _empty_head() -> Head:
    return Head(epoch=0, state_id="state", scope=PLACE.scope, key=PLACE.key, name="vip", target="app")


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of a group."""
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
