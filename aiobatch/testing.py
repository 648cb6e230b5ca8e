"""Test doubles: a clock that jumps, a transport with scripted responses, and a running sandbox."""

from __future__ import annotations

import asyncio
import heapq
import inspect
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from typing import TypedDict, Unpack

import orjson

from ._client import quick_polling
from .errors import InvalidInputError
from .interfaces import Request, Response
from .sandbox import Sandbox, SandboxOptions
from .sandbox._options import DeleteAnswer, MissingAudience, TakenName, UnknownProject

__all__ = ["FakeClock", "FakeTransport", "SandboxFields", "json_response", "running_sandbox"]

# Iterations of the event loop without a call to the clock, after which every task waits for it.
# Chained callbacks (task, future, gather, timeout, lock) take one or two iterations each.
_QUIET_ITERATIONS = 32

Answer = Response | BaseException | Awaitable[Response]


class FakeClock:
    """A clock whose time passes only by `advance`, or when every task sleeps.

    Its tasks must wait only for the clock and for each other, not for I/O or threads.

    Args:
        start: The initial time, seconds. `time` counts it from the epoch.
        autojump: Whether time jumps to the next sleeper as soon as no task can run.
    """

    def __init__(self, start: float = 0.0, *, autojump: bool = True) -> None:
        self._now = start
        self._autojump = autojump
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._activity = 0
        self._advancing = False
        self._watching: asyncio.AbstractEventLoop | None = None

    @property
    def sleeping(self) -> int:
        """Number of sleepers."""
        return sum(not waiter.done() for _, _, waiter in self._sleepers)

    def monotonic(self) -> float:
        """Return the current time, seconds."""
        return self._now

    def time(self) -> float:
        """Return the current time as seconds since the epoch."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Sleep until *seconds* of this clock have passed."""
        self._activity += 1
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), waiter))
        if self._autojump:
            self._watch(loop)
        try:
            await waiter
        finally:
            self._activity += 1

    async def advance(self, seconds: float) -> None:
        """Advance by *seconds*: wake due sleepers in order, each after the previous one is idle."""
        end = self._now + seconds
        self._advancing = True
        try:
            await self._settle()
            while self._wake_next(end):
                await self._settle()
        finally:
            self._advancing = False
            self._activity += 1
        self._now = max(self._now, end)

    async def _settle(self) -> None:
        """Run the loop until no task has called the clock for a while."""
        quiet, seen = 0, self._activity
        while quiet < _QUIET_ITERATIONS:
            await asyncio.sleep(0)
            quiet, seen = (quiet + 1 if seen == self._activity else 0), self._activity

    def _wake_next(self, end: float) -> bool:
        """Wake the earliest sleeper, if it is due by *end*."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        if not self._sleepers or self._sleepers[0][0] > end:
            return False
        due, _, waiter = heapq.heappop(self._sleepers)
        self._now = max(self._now, due)
        waiter.set_result(None)
        return True

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start counting the loop's quiet iterations, once per loop."""
        if self._watching is not loop:
            self._watching = loop
            loop.call_soon(self._count, loop, 0, self._activity)

    def _count(self, loop: asyncio.AbstractEventLoop, quiet: int, seen: int) -> None:
        """Count one iteration of the loop. Jump after enough quiet ones. Stop if no task sleeps."""
        quiet = quiet + 1 if seen == self._activity else 0
        if quiet >= _QUIET_ITERATIONS and not self._advancing:
            quiet = 0
            if not self._wake_next(float("inf")):
                self._watching = None
                return
        loop.call_soon(self._count, loop, quiet, self._activity)


class FakeTransport:
    """A transport that sends nothing and returns scripted responses.

    Args:
        answer: A function from the request to its response, or the responses in order. An exception is
            raised, an awaitable is awaited.

    Attributes:
        requests: The requests, in order.
        closed: Whether `aclose` was called.
    """

    requests: list[Request]
    closed: bool

    def __init__(self, answer: Callable[[Request], Answer] | Iterable[Answer]) -> None:
        self.requests = []
        self.closed = False
        self._answer = answer if callable(answer) else _script(_checked_script(answer))

    async def send(self, request: Request) -> Response:
        """Record *request* and return its response."""
        self.requests.append(request)
        answer = self._answer(request)
        if inspect.isawaitable(answer):
            answer = await answer
        if isinstance(answer, BaseException):
            raise answer
        if not isinstance(answer, Response):
            msg = (
                f"An answer must be a Response such as json_response(200, {{}}), not {type(answer).__name__}."
            )
            raise InvalidInputError(msg)
        return answer

    async def aclose(self) -> None:
        """Record the call."""
        self.closed = True


def _checked_script(answers: Iterable[Answer]) -> Iterable[Answer]:
    """Return *answers* if they are a list of responses."""
    if isinstance(answers, str | bytes | Mapping) or not isinstance(answers, Iterable):
        kind = type(answers).__name__
        msg = f"answer must be a function of the request, or a list of responses in order, not {kind}."
        raise InvalidInputError(msg)
    return answers


def _script(answers: Iterable[Answer]) -> Callable[[Request], Answer]:
    """Return a function that returns the *answers* in order."""
    rest: Iterator[Answer] = iter(answers)

    def answer(request: Request) -> Answer:
        try:
            return next(rest)
        except StopIteration:
            msg = f"The script has no response left for the {request.label}."
            raise AssertionError(msg) from None

    return answer


def json_response(status: int, obj: object, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with a JSON body.

    Args:
        status: The HTTP status.
        obj: The content of the body.
        headers: Additional headers, by lower-case name.
    """
    fields = {"content-type": "application/json", **(headers or {})}
    return Response(status=status, headers=fields, body=orjson.dumps(obj))


class SandboxFields(TypedDict, total=False):
    """The fields of `SandboxOptions`, as keywords of `running_sandbox`."""

    indexing_delay: float | tuple[float, float]
    faults: Mapping[str, float]
    rate: float | None
    slow_answer: float
    missing_audience: MissingAudience
    taken_name: TakenName
    unknown_project: UnknownProject
    delete_answer: DeleteAnswer
    refused_ids: Iterable[str]
    seed: int
    host: str
    port: int


@asynccontextmanager
async def running_sandbox(
    options: SandboxOptions | None = None, **fields: Unpack[SandboxFields]
) -> AsyncIterator[Sandbox]:
    """Run a sandbox on a free port of this machine.

    Clients that are created meanwhile poll it fast by default, so that a wait costs milliseconds. If the
    sandbox has a rate limit, they poll as usual.

    Args:
        options: The sandbox's options.
        fields: Fields of `SandboxOptions`, in place of *options*.

    Raises:
        InvalidInputError: Both were given, or a value is invalid.
    """
    if options is not None and fields:
        msg = f"Pass either options or {', '.join(fields)}. Use attrs.evolve(options, …) to change options."
        raise InvalidInputError(msg)
    options = options or SandboxOptions(**fields)
    async with Sandbox(options) as sandbox:
        with quick_polling(sandbox.url) if options.rate is None else nullcontext():
            yield sandbox
