"""A server behind a pacing transport, on a fake clock."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

from aiobatch.interfaces import Request, Response
from aiobatch.options import Limits
from aiobatch.testing import FakeClock, FakeTransport
from aiobatch.transport import PacingTransport

from .support import make_request

OK = Response(status=200, body=b"{}")


DOWN = Response(status=503)


class Server:
    """Responds after a while, and counts the requests in flight."""

    def __init__(self, clock: FakeClock, answer: Callable[[Request], Any], seconds: float = 0.1) -> None:
        self.clock = clock
        self.answer = answer
        self.seconds = seconds
        self.now = 0
        self.most = 0
        self.names: list[str] = []
        self.times: list[float] = []

    async def __call__(self, request: Request) -> Response:
        """Respond to a request."""
        self.names.append(request.label)
        self.times.append(self.clock.monotonic())
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.clock.sleep(self.seconds)
            answer = self.answer(request)
            if isinstance(answer, Exception):
                raise answer
            assert isinstance(answer, Response)
            return answer
        finally:
            self.now -= 1


def make_pacing(server: Server, *, in_flight: int | None = None, **options: Any) -> PacingTransport:
    """Return a pacing transport to *server*, with *options* of its limits."""
    emit = options.pop("emit", None)
    return PacingTransport(
        FakeTransport(server),
        limits=Limits(**{"pause_initial": 1.0, "pause_maximum": 8.0} | options),
        clock=server.clock,
        rng=random.Random(7),
        emit=emit,
        in_flight=in_flight,
    )


def spawn(coroutine: Coroutine[Any, Any, Response]) -> asyncio.Task[Response]:
    """Start a request."""
    return asyncio.create_task(coroutine)


async def send_all(pacing: PacingTransport, count: int) -> list[Response | BaseException]:
    """Send so many requests at once, and return the responses and errors."""
    sends = (pacing.send(make_request(f"a{index}")) for index in range(count))
    return await asyncio.gather(*sends, return_exceptions=True)


def script(*answers: Response | Exception) -> Callable[[Request], Response | Exception]:
    """Return a function that gives one answer after another, then `OK`."""
    rest = iter(answers)
    return lambda request: next(rest, OK)
