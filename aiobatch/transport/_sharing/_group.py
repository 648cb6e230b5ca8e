"""Clients of one process that share a limit, because they send to one target with the same keys."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import attrs

from ...interfaces import Clock
from .._circuit_breaker import CircuitBreaker
from .._rate_limit import RateMeter, RateState
from ._limit import SharedLimit, Store
from ._state import Reply

# A difference between two times of a pause, seconds, that clocks and the network explain.
_SAME = 0.01


class Member(Protocol):
    """The admission of one client, as its group uses it."""

    queued: int
    in_flight: int
    breaker: CircuitBreaker
    meter: RateMeter

    def follow_pause(self, until: float, status: int, failures: int) -> None:
        """Pause until *until*, because a refusal paused another client."""
        ...

    def follow_resume(self) -> None:
        """End the pause, because the probe of another client succeeded."""
        ...

    def follow_probe(self, *, is_sent: bool) -> None:
        """Wait for the probe of another client, or stop waiting for it."""
        ...

    def use_share(self, share: float) -> None:
        """Send at most this share of the configured rate."""
        ...


class ProcessRate:
    """What clients share across the event loops of a process, each in a thread of its own.

    Attributes:
        state: The slots and the learned limit.
        lock: Held while `state` is read and changed.
        groups: The groups with clients, one for each event loop.
    """

    def __init__(self) -> None:
        self.state = RateState()
        self.lock = threading.Lock()
        self.groups: tuple[RateGroup, ...] = ()

    def add(self, group: RateGroup) -> None:
        """Add the group of an event loop."""
        with self.lock:
            self.groups = (*self.groups, group)

    def remove(self, group: RateGroup) -> None:
        """Remove a group without clients."""
        with self.lock:
            self.groups = tuple(one for one in self.groups if one is not group)


class RateGroup:
    """The clients of one event loop that share slots, pauses and what 429 responses taught.

    Args:
        shared: The store of a limit that other processes share. None if they do not.
        clock: The clock of that limit.
        process: What the groups of other event loops share. None if there are none.

    Attributes:
        process: What the groups of all event loops share.
        members: The clients.
        turn: Held by the first request of one client until its slot comes, so that clients take turns.
        shared: The limit that other processes share. None if they do not.
    """

    def __init__(
        self, shared: Store | None = None, clock: Clock | None = None, process: ProcessRate | None = None
    ) -> None:
        self.process = process or ProcessRate()
        self.turn = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context = contextvars.copy_context()
        self.members: list[Member] = []
        self._is_open = False
        self._opening = asyncio.Lock()
        self.shared: SharedLimit | None = None
        if shared is not None and clock is not None:
            self.shared = SharedLimit(shared, clock, follow=self._follow, on_share=self._use_share)

    @property
    def queued(self) -> int:
        """Requests that wait for admission."""
        return sum(member.queued for member in self._all_members())

    @property
    def in_flight(self) -> int:
        """Requests in flight."""
        return sum(member.in_flight for member in self._all_members())

    def rate(self, now: float, *, without: int = 0) -> float:
        """Return the requests per second of all clients over the last seconds.

        Args:
            now: Monotonic seconds.
            without: Number of requests not to count.
        """
        members = self._all_members()
        if len(members) == 1:
            return members[0].meter.rate(now, without=without)
        rate = sum(member.meter.rate(now) for member in members)
        return max(0.0, rate - without / RateMeter.WINDOW)

    async def add(self, member: Member) -> None:
        """Add a client. It follows a pause of the others.

        Raises:
            InvalidInputError: The store of a shared limit can never be used.
        """
        if self.shared is not None:
            await self._open(self.shared)
        self._loop = asyncio.get_running_loop()
        self.add_now(member)

    async def _open(self, shared: SharedLimit) -> None:
        """Open the store, once for all clients."""
        async with self._opening:
            if self._is_open:
                return
            await shared.open()
            self._is_open = True

    def add_now(self, member: Member) -> None:
        """Add a client to a group that is open already."""
        for other in self._all_members():
            if other.breaker.paused_since is not None:
                _follow(member, other.breaker, is_near=other in self.members)
                break
        self.members.append(member)
        if self not in self.process.groups:
            self.process.add(self)

    async def remove(self, member: Member) -> None:
        """Remove a client. The last one releases the store."""
        self.members.remove(member)
        if not self.members:
            self.process.remove(self)
            if self.shared is not None:
                await self.shared.aclose()
                self._is_open = False

    def on_pause(self, member: Member) -> None:
        """Pause the other clients."""
        breaker = member.breaker
        for other in self._others(member):
            _follow(other, breaker)
        until, status, failures = breaker.paused_until, breaker.status, breaker.failures
        self._post(lambda far: far.follow_pause(until, status, failures))

    def on_resume(self, member: Member) -> None:
        """Resume the other clients."""
        for other in self._others(member):
            other.follow_resume()
        self._post(lambda far: far.follow_resume())

    def on_probe(self, member: Member, *, is_sent: bool) -> None:
        """Make the other clients of this event loop wait for a probe, or end that.

        Each event loop sends a probe of its own: another one may stop before its probe ends.
        """
        for other in self._others(member):
            other.follow_probe(is_sent=is_sent)

    def _learn(self, state: RateState) -> None:
        """Replace what 429 responses taught, and keep the slot."""
        for name in attrs.fields_dict(RateState):
            if name != "slot":
                setattr(self.process.state, name, getattr(state, name))

    def _post(self, follow: Callable[[Member], None]) -> None:
        """Call *follow* with each client of other event loops, in its own loop."""
        for group in self.process.groups:
            if group is not self:
                group.call_soon(follow)

    def call_soon(self, follow: Callable[[Member], None]) -> None:
        """Call *follow* with each client, in the event loop of this group and the context of its opening.

        Args:
            follow: A function. Any thread may pass it.
        """
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._each, follow, context=self._context)

    def _each(self, follow: Callable[[Member], None]) -> None:
        for member in list(self.members):
            follow(member)

    def _all_members(self) -> list[Member]:
        """Return the clients of all event loops."""
        groups = self.process.groups
        if groups == (self,):
            return self.members
        return [member for group in groups for member in list(group.members)]

    def _others(self, member: Member) -> list[Member]:
        return [other for other in self.members if other is not member]

    def _use_share(self, share: float) -> None:
        """Send at most this share of the limit. What all processes learned does not apply to it."""
        if share < 1:
            self._learn(RateState())
        for member in self.members:
            member.use_share(share)

    def _follow(self, reply: Reply) -> None:
        """Follow what other processes have learned."""
        shared, state = self.shared, reply.state
        self._learn(state.rate)
        for member in list(self.members):
            breaker = member.breaker
            if state.status:
                until = state.paused_until - (reply.now - reply.at)
                if breaker.paused_since is None or until > breaker.paused_until + _SAME:
                    member.follow_pause(until, state.status, state.failures)
            elif breaker.paused_since is not None and shared is not None and not shared.has_news:
                member.follow_resume()


def _follow(member: Member, breaker: CircuitBreaker, *, is_near: bool = True) -> None:
    member.follow_pause(breaker.paused_until, breaker.status, breaker.failures)
    if breaker.half_open and is_near:
        member.follow_probe(is_sent=True)
