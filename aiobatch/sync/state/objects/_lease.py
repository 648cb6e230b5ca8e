"""The lease of an audience: one process writes its objects and sends its chunks at a time.

The lease is an object that its holder renews. No two clocks are compared. A taker waits until the object has
not changed for more than its time to live, by the taker's clock. The holder counts from the moment before it
sent its last renewal, by its own clock.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final, Protocol, Self

import attrs
import orjson

from ...._clock import BootClock
from ...._logs import log
from ...._tasks import cancel_and_wait, wait_through_cancellation
from ....interfaces import Clock
from ..._errors import LockedError, LostLeaseError, StateError
from .._lock import describe_process
from ._layout import Place, find_leases
from ._store import ConflictError, ObjectStore, Tag

_logger = logging.getLogger("aiobatch.sync")

_FORMAT: Final = 1
# Seconds after which another process may take a lease that is not renewed.
TIME_TO_LIVE: Final = 60.0
# A taker waits this many times the holder's time to live, because clocks run at different speeds.
_PATIENCE: Final = 1.2
# The holder renews this often within its time to live. A taker looks as often as that.
_RENEWALS: Final = 3
_LOOKS: Final = 12
# Seconds after which no lease is live, whatever its time to live. It need not be read.
_ABANDONED: Final = 86_400.0


class InThread(Protocol):
    """Calls a function that blocks, such as `asyncio.to_thread`."""

    def __call__(self, function: Callable[[], Any], /) -> Awaitable[Any]:
        """Call *function* and return its result."""
        ...


@attrs.frozen(kw_only=True)
class LeaseObject:
    """The content of a lease.

    Attributes:
        epoch: Counts the holders. It never decreases.
        who: The holder. None if it has released the lease.
        ttl: Its time to live, seconds.
        nonce: Distinguishes two holders.
        beat: Counts the writes of a holder.
    """

    epoch: int
    who: Mapping[str, Any] | None
    ttl: float
    nonce: str
    beat: int = 0

    def to_json(self) -> bytes:
        """Return it as JSON."""
        return orjson.dumps({"format": _FORMAT, **attrs.asdict(self, recurse=False)})

    @classmethod
    def from_json(cls, data: bytes, url: str) -> Self:
        """Return a lease that was read.

        Raises:
            StateError: It is not one, or has another format.
        """
        try:
            content = orjson.loads(data)
            if content["format"] != _FORMAT:
                msg = "a newer version of aiobatch wrote its lease. Install that version."
                raise StateError(msg, path=url, reason="newer")
            return cls(**{name: content[name] for name in ("epoch", "who", "ttl", "nonce", "beat")})
        except (ValueError, KeyError, TypeError):
            msg = "its LEASE was not written by aiobatch. Name another prefix."
            raise StateError(msg, path=url, reason="foreign") from None


def find_held(store: ObjectStore, now: float) -> Iterator[Place]:
    """Yield the audiences whose lease was renewed within its time to live.

    This is for reports only, because it compares the store's clock with another one.

    Args:
        store: The store.
        now: The time of day, seconds since the epoch.

    Raises:
        StateError: The store cannot be used, or a lease cannot be read.
    """
    for place, entry in list(find_leases(store)):
        age = now - entry.modified
        found = store.get(place.lease) if age < _ABANDONED else None
        lease = None if found is None else LeaseObject.from_json(found.data, store.url)
        if lease is not None and lease.who is not None and age < lease.ttl * _PATIENCE:
            yield place


@attrs.define(eq=False)
class Lease:
    """The lease of one audience, from `acquire` to `release`.

    Attributes:
        store: The store.
        place: The audience.
        what: What this process does (`sync vip`), for the error of other processes.
        margin: Seconds that one request to Batch may take. None starts if less remain.
        ttl: Seconds after which another process may take the lease. At least twice the margin.
        clock: A clock that counts the time in which the machine is suspended.
        in_thread: Calls the store, which blocks.
        epoch: Counts the holders. 0 before `acquire`.
    """

    store: ObjectStore
    place: Place
    what: str
    margin: float
    ttl: float = attrs.field(factory=lambda: TIME_TO_LIVE)
    clock: Clock = attrs.field(factory=BootClock)
    in_thread: InThread = asyncio.to_thread
    epoch: int = attrs.field(default=0, init=False)
    _mine: LeaseObject | None = attrs.field(default=None, init=False)
    _tag: Tag | None = attrs.field(default=None, init=False)
    _until: float = attrs.field(default=float("-inf"), init=False)
    _holder: LeaseObject | None = attrs.field(default=None, init=False)
    _renewing: asyncio.Task[None] | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.ttl = max(self.ttl, 2 * self.margin)

    async def acquire(self) -> Self:
        """Take the lease. Wait for one that its holder may not renew any more.

        Raises:
            LockedError: Another process holds it.
            StateError: The store cannot be used, or supports no conditional writes.
        """
        found, tag = await self._look()
        if found is not None and found.who is not None:
            found, tag = await self._wait(found, tag)
        self.epoch = 1 if found is None else found.epoch + 1
        self._mine = LeaseObject(
            epoch=self.epoch, who=describe_process(self.what), ttl=self.ttl, nonce=uuid.uuid4().hex
        )
        try:
            await self._write(tag)
            await self._probe()
        except ConflictError:
            self._lose()
            raise self._locked((await self._look())[0]) from None
        except BaseException:
            self._lose()
            raise
        self._renewing = asyncio.create_task(self._renew_until_lost(), name="aiobatch lease")
        return self

    def check(self) -> None:
        """Raise LostLeaseError if a request to Batch must not start now. It does no I/O."""
        if self.clock.monotonic() > self._until - self.margin:
            holder = {} if self._holder is None else self._holder.who or {}
            raise LostLeaseError(path=self._url, holder=holder, lease=self.ttl)

    async def release(self) -> None:
        """Release the lease, so that the next process has it at once. A second call does nothing.

        If the store cannot be used, the lease ends after its time to live.
        """
        if self._renewing is not None:
            renewing, self._renewing = self._renewing, None
            try:
                await cancel_and_wait([renewing])
            finally:
                writing = asyncio.ensure_future(self._give_back())
                await wait_through_cancellation([writing])

    async def _give_back(self) -> None:
        mine, tag = self._mine, self._tag
        is_lost = self._holder is not None
        self._lose()
        if mine is None or is_lost:
            return
        try:
            free = attrs.evolve(mine, who=None, beat=mine.beat + 1).to_json()
            await self.in_thread(functools.partial(self._put, free, tag))
        except (ConflictError, StateError) as error:
            _logger.debug("no release of a lease: %s", error)

    async def _look(self) -> tuple[LeaseObject | None, Tag | None]:
        found = await self.in_thread(lambda: self.store.get(self.place.lease))
        if found is None:
            return None, None
        return LeaseObject.from_json(found.data, self.store.url), found.tag

    async def _wait(self, first: LeaseObject, tag: Tag | None) -> tuple[LeaseObject, Tag | None]:
        """Return the lease when it has not changed for long enough, or was released.

        Raises:
            LockedError: Its holder renews it.
        """
        since, patience = self.clock.monotonic(), first.ttl * _PATIENCE
        log(_logger, logging.INFO, "waiting for a lease", seconds=patience, epoch=first.epoch)
        while (left := since + patience - self.clock.monotonic()) > 0:
            await self.clock.sleep(min(left, first.ttl / _LOOKS))
            now, now_tag = await self._look()
            if now_tag != tag:
                if now is not None and now.who is None:
                    return now, now_tag
                raise self._locked(now)
        return first, tag

    async def _write(self, tag: Tag | None) -> None:
        """Write the own lease in place of the version *tag*. It lasts from the moment before."""
        mine = self._mine
        assert mine is not None  # noqa: S101 - `acquire` sets it
        self._mine = attrs.evolve(mine, beat=mine.beat + 1)
        text, before = self._mine.to_json(), self.clock.monotonic()
        self._tag = await self.in_thread(functools.partial(self._put, text, tag))
        self._until = before + self.ttl

    def _put(self, text: bytes, tag: Tag | None) -> Tag:
        if tag is None:
            return self.store.create(self.place.lease, text)
        return self.store.replace(self.place.lease, text, tag)

    async def _probe(self) -> None:
        """Check that a write with a wrong condition fails. Otherwise two processes could hold the lease."""
        old = self._tag
        await self._write(old)
        assert self._mine is not None  # noqa: S101 - `_write` has set it
        for wrong in (None, old):
            self._mine = attrs.evolve(self._mine, beat=self._mine.beat + 1)
            text = self._mine.to_json()
            try:
                await self.in_thread(functools.partial(self._put, text, wrong))
            except ConflictError:
                continue
            msg = (
                "the store does not support conditional writes, which keep two runs apart. Use another store."
            )
            raise StateError(msg, path=self.store.url, reason="unconditional")

    async def _renew_until_lost(self) -> None:
        pause = self.ttl / _RENEWALS
        while True:
            await self.clock.sleep(pause)
            try:
                await self._uninterrupted(self._renew())
                pause = self.ttl / _RENEWALS
            except ConflictError:
                self._until = float("-inf")
                log(_logger, logging.WARNING, "lost a lease", path=self._url)
                return
            except StateError as error:
                pause = self.ttl / _LOOKS
                _logger.warning("no renewal of a lease: %s", error)

    async def _renew(self) -> None:
        try:
            await self._write(self._tag)
        except ConflictError:
            found, tag = await self._look()
            if found is not None and self._mine is not None and found.nonce == self._mine.nonce:
                await self._write(tag)  # a write whose answer was lost arrived late
                return
            self._holder = found
            raise

    @staticmethod
    async def _uninterrupted(awaitable: Awaitable[None]) -> None:
        """Wait for a write, however often the task is cancelled, so that its tag is known."""
        writing = asyncio.ensure_future(awaitable)
        await wait_through_cancellation([writing])
        writing.result()

    def _lose(self) -> None:
        self._until, self._mine = float("-inf"), None

    def _locked(self, found: LeaseObject | None) -> LockedError:
        holder = {} if found is None else found.who or {}
        return LockedError(path=self._url, holder=holder, lease=None if found is None else found.ttl)

    @property
    def _url(self) -> str:
        return f"{self.store.url}/{self.place.lease}"
