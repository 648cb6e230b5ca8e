"""Processes that share a limit, each as a group of its own in one event loop on one fake clock."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiobatch.interfaces import Request, Response
from aiobatch.options import Limits
from aiobatch.testing import FakeClock, FakeTransport
from aiobatch.transport import PacingTransport
from aiobatch.transport._sharing import RateGroup, Store
from aiobatch.transport._sharing._file import FileStore
from aiobatch.transport._sharing._state import Reply

from ..paced_server import OK
from ..support import make_request

Answer = Callable[[float], Response]


class Fleet:
    """Processes and the server that they send to.

    Args:
        directory: The directory of the state.
        rate: The limit in requests per second.
        answer: Returns the response of a time. None for success.
        limits: Fields of the clients' limits.
    """

    def __init__(self, directory: Path, *, rate: float, answer: Answer | None = None, **limits: Any) -> None:
        self.clock = FakeClock(100.0)
        self.limits = Limits(rate=rate, shared=directory, **{"pause_initial": 1.0} | limits)
        self.sent: list[tuple[float, str, int]] = []
        self.latency = 0.01
        self._answer = answer or (lambda _now: OK)
        self._directory = directory
        self._rate = rate

    @property
    def times(self) -> list[float]:
        """When requests arrived."""
        return [when for when, _, _ in self.sent]

    @property
    def counts(self) -> Counter[str]:
        """Accepted requests of each process."""
        return self.counts_until(math.inf)

    def counts_until(self, end: float) -> Counter[str]:
        """Return the accepted requests of each process before *end*, when the last ones wait together."""
        return Counter(name for when, name, status in self.sent if status == OK.status and when < end)

    def store(self) -> FileStore:
        """Return a process's store."""
        return FileStore(self._directory, "name", self.clock, self._rate)

    async def store_reply(self) -> Reply:
        """Return the state as another process reads it."""
        store = self.store()
        await store.open()
        return await store.transact(lambda _state, _now: None)

    async def process(self, name: str, *, store: Store | None = None, **fields: Any) -> PacingTransport:
        """Start a process."""
        transport = self.client(name, **fields)
        await transport.admission.join(RateGroup(store or self.store(), self.clock))
        return transport

    def client(self, name: str, **fields: Any) -> PacingTransport:
        """Return a client that shares nothing yet."""

        async def respond(_request: Request) -> Response:
            now = self.clock.monotonic()
            response = self._answer(now)
            self.sent.append((now, name, response.status))
            await self.clock.sleep(self.latency)
            return response

        return PacingTransport(
            FakeTransport(respond), limits=self.limits, clock=self.clock, rng=random.Random(name), **fields
        )

    async def send_all(self, process: PacingTransport, count: int) -> None:
        """Send so many requests at once."""
        await asyncio.gather(*(process.send(make_request(f"a{number}")) for number in range(count)))

    async def send_until(self, process: PacingTransport, end: float, workers: int = 3) -> None:
        """Send with some workers until a time."""

        async def work() -> None:
            while self.clock.monotonic() < end:
                await process.send(make_request())

        await asyncio.gather(*(work() for _ in range(workers)))
