"""A client with full demand and a server with an unknown limit, in virtual time."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import attrs

from aiobatch.interfaces import Request, Response
from aiobatch.options import Limits, RetryPolicy
from aiobatch.transport import PacingTransport, RetryingTransport
from aiobatch.transport._sharing import RateGroup
from aiobatch.transport._sharing._state import Change, Reply, SharedState

from ..servers.rate_limiters import BURSTS, LIMITERS, Limiter
from .virtual_loop import VirtualClock, run_virtually

# A caller that keeps retrying, so that the demand stays.
_PATIENT = RetryPolicy(attempts=10_000, timeout=1e9)
_REQUEST = Request(
    label="a view", operation="view", method="GET", path="/a", target="/a", headers={}, idempotent=True
)
_OK = Response(status=200, body=b"{}")


@attrs.frozen(kw_only=True)
class Case:
    """A server and its clients.

    Attributes:
        limiter: The name of the limiter.
        rate: The limit in requests per second.
        latency: The range of the seconds of a request.
        retry_after: Whether a 429 has a `Retry-After`, in whole seconds.
        seconds: The duration.
        workers: The workers of each client, which always have a request.
        clients: The number of clients that share the limit, as if in separate processes.
        is_shared: Whether they know the limit and share it, as with `Limits(rate=…, shared=True)`.
        changed: The time and value of a new rate. None for no change.
        seed: The seed of latency and jitter.
    """

    limiter: str
    rate: float
    latency: tuple[float, float] = (0.02, 0.02)
    retry_after: bool = False
    seconds: float = 300.0
    workers: int = 32
    clients: int = 1
    is_shared: bool = False
    changed: tuple[float, float] | None = None
    seed: int = 1


@attrs.frozen
class Answer:
    """A response of the server: its time, status and client."""

    when: float
    accepted: bool
    client: int


def simulate(case: Case) -> list[Answer]:
    """Return all responses in order."""
    with _without_logs():
        return run_virtually(lambda: _demand(case))


def used(answers: Sequence[Answer], rate: float, start: float, stop: float) -> float:
    """Return the used share of *rate* from *start* to *stop*, in percent."""
    accepted = sum(answer.accepted for answer in answers if start <= answer.when < stop)
    return 100 * accepted / (rate * (stop - start))


def refused(answers: Sequence[Answer]) -> float:
    """Return the share of 429, in percent."""
    return 100 * sum(not answer.accepted for answer in answers) / len(answers)


def fairness(answers: Sequence[Answer], clients: int) -> float:
    """Return Jain's index of the clients' shares: 1 for equal shares, down to 1/clients."""
    shares = Counter(answer.client for answer in answers if answer.accepted)
    squares = sum(share * share for share in shares.values())
    return shares.total() ** 2 / (clients * squares) if squares else 0.0


def best_steady(case: Case, most_refused: float) -> float:
    """Return the used share at the best steady pace, in percent.

    Args:
        case: As for `simulate`.
        most_refused: The upper bound of the share of 429, in percent.
    """
    uses = [_keep_pace(case, percent / 100 * case.rate) for percent in range(10, 131, 2)]
    return max((use for use, share in uses if share < most_refused), default=0.0)


def _keep_pace(case: Case, pace: float) -> tuple[float, float]:
    """Send at a steady pace. Return the used share and the share of 429, in percent."""
    draw, limiter = random.Random(case.seed), LIMITERS[case.limiter](case.rate)
    count = int(case.seconds * pace)
    times = sorted(number / pace + draw.uniform(*case.latency) / 2 for number in range(count))
    answers = [Answer(when, limiter.delay(when) == 0, 0) for when in times]
    return used(answers, case.rate, 0, case.seconds), refused(answers)


async def _demand(case: Case) -> list[Answer]:
    """Send with all workers until the end."""
    server = _Server(case)
    clients = [await server.client(number) for number in range(case.clients)]
    tasks = [asyncio.create_task(_ask(client)) for client in clients for _ in range(case.workers)]
    await asyncio.sleep(case.seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return server.answers


async def _ask(client: RetryingTransport) -> None:
    """Send one request after the other."""
    while True:
        await client.send(_REQUEST)


class _Server:
    """Answers and records requests."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._loop = asyncio.get_running_loop()
        self._limiter: Limiter = {**LIMITERS, **BURSTS}[case.limiter](case.rate)
        self._draw = random.Random(case.seed)
        self.answers: list[Answer] = []
        self._store = _MemoryStore(VirtualClock(self._loop))

    async def client(self, number: int) -> RetryingTransport:
        """Return the transports of an `AudienceClient`: retrying around pacing."""
        clock, rng = VirtualClock(self._loop), random.Random(1000 * self._case.seed + number)
        limits = Limits(rate=self._case.rate if self._case.is_shared else None)
        paced = PacingTransport(_ServerTransport(self, number), limits=limits, clock=clock, rng=rng)
        if self._case.is_shared:
            await paced.admission.join(RateGroup(self._store, clock))
        return RetryingTransport(paced, policy=_PATIENT, clock=clock, rng=rng)

    async def answer(self, client: int) -> Response:
        """Answer one request."""
        await asyncio.sleep(self._draw.uniform(*self._case.latency) / 2)
        now = self._loop.time()
        if self._case.changed is not None and now >= self._case.changed[0]:
            self._limiter.rate = self._case.changed[1]
        delay = self._limiter.delay(now)
        self.answers.append(Answer(now, delay == 0, client))
        await asyncio.sleep(self._draw.uniform(*self._case.latency) / 2)
        if delay == 0:
            return _OK
        headers = {"retry-after": str(math.ceil(delay))} if self._case.retry_after else {}
        return Response(status=429, headers=headers, body=b"{}")


class _MemoryStore:
    """The store of a shared limit, as the file is for processes of one machine.

    Args:
        clock: The clock of all clients.
    """

    kind = "memory"

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._state = SharedState.new(clock.monotonic())

    async def open(self) -> None:
        """Do nothing."""

    async def transact(self, change: Change) -> Reply:
        """Change the state."""
        now = self._clock.monotonic()
        return Reply(change(self._state, now), self._state, now, now)

    async def aclose(self) -> None:
        """Do nothing."""


@attrs.frozen
class _ServerTransport:
    """The transport of one client."""

    server: _Server
    number: int

    async def send(self, request: Request) -> Response:
        """Send a request. All requests are alike."""
        del request
        return await self.server.answer(self.number)

    async def aclose(self) -> None:
        """Do nothing."""


@contextmanager
def _without_logs() -> Iterator[None]:
    """Suppress the logs of pauses and retries, of which there are thousands."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)
