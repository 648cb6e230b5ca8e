"""Test doubles: a clock that jumps, a transport that answers from a script, and a running sandbox."""

from __future__ import annotations

import asyncio
import heapq
import inspect
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson

from ._http import Request, Response
from .errors import InvalidInputError
from .sandbox import Sandbox, SandboxOptions

__all__ = ["FakeClock", "FakeTransport", "json_response", "running_sandbox"]

# Turns of the event loop without a call to the clock after which every task must be waiting for it: callbacks
# that chain (task, future, gather, timeout, lock) each take a turn or two.
_SETTLED = 32

Answer = Response | BaseException | Awaitable[Response]


class FakeClock:
    """A clock whose time passes only when told, or when everybody sleeps.

    Whatever it drives must wait for nothing but the clock and for each other: no I/O, no threads.

    Args:
        start: The first reading, seconds; `time` counts from the epoch.
        autojump: Whether time jumps to the next sleeper as soon as nothing else can happen.
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
        """How many sleepers there are."""
        return sum(not waiter.done() for _, _, waiter in self._sleepers)

    def monotonic(self) -> float:
        """Return the current reading, seconds."""
        return self._now

    def time(self) -> float:
        """Return the current reading as seconds since the epoch."""
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
        """Let *seconds* pass: wake whoever sleeps until then, in order, and let each finish what it does."""
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
        """Give the loop turns until nobody has called the clock for a while."""
        quiet, seen = 0, self._activity
        while quiet < _SETTLED:
            await asyncio.sleep(0)
            quiet, seen = (quiet + 1 if seen == self._activity else 0), self._activity

    def _wake_next(self, end: float) -> bool:
        """Wake the sleeper that is due first, if it is due by *end*."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        if not self._sleepers or self._sleepers[0][0] > end:
            return False
        due, _, waiter = heapq.heappop(self._sleepers)
        self._now = max(self._now, due)
        waiter.set_result(None)
        return True

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start counting the loop's quiet turns, once per loop."""
        if self._watching is not loop:
            self._watching = loop
            loop.call_soon(self._count, loop, 0, self._activity)

    def _count(self, loop: asyncio.AbstractEventLoop, quiet: int, seen: int) -> None:
        """Count one turn of the loop; jump after enough quiet ones, stop when nobody sleeps."""
        quiet = quiet + 1 if seen == self._activity else 0
        if quiet >= _SETTLED and not self._advancing:
            quiet = 0
            if not self._wake_next(float("inf")):
                self._watching = None
                return
        loop.call_soon(self._count, loop, quiet, self._activity)


class FakeTransport:
    """A transport that sends nothing and answers as told.

    Args:
        answer: A function from the request to its answer, or the answers in order. An exception is raised, an
            awaitable is awaited.

    Attributes:
        requests: What was sent, in order.
        closed: Whether `aclose` was called.
    """

    requests: list[Request]
    closed: bool

    def __init__(self, answer: Callable[[Request], Answer] | Iterable[Answer]) -> None:
        self.requests = []
        self.closed = False
        self._answer = answer if callable(answer) else _script(_checked_script(answer))

    async def send(self, request: Request) -> Response:
        """Record *request* and answer it."""
        self.requests.append(request)
        answer = self._answer(request)
        if inspect.isawaitable(answer):
            answer = await answer
        if isinstance(answer, BaseException):
            raise answer
        if not isinstance(answer, Response):
            msg = f"an answer must be a Response, as json_response(200, {{}}) is, not {type(answer).__name__}"
            raise InvalidInputError(msg)
        return answer

    async def aclose(self) -> None:
        """Record the call."""
        self.closed = True


def _checked_script(answers: Iterable[Answer]) -> Iterable[Answer]:
    """Return the answers in order; a single one is a mistake."""
    if isinstance(answers, str | bytes | Mapping) or not isinstance(answers, Iterable):
        kind = type(answers).__name__
        msg = f"answer must be a function of the request, or a list of answers in order, not {kind}"
        raise InvalidInputError(msg)
    return answers


def _script(answers: Iterable[Answer]) -> Callable[[Request], Answer]:
    """Return what answers from *answers*, in order."""
    rest: Iterator[Answer] = iter(answers)

    def answer(request: Request) -> Answer:
        try:
            return next(rest)
        except StopIteration:
            msg = f"the script has no answer left for the {request.label}"
            raise AssertionError(msg) from None

    return answer


def json_response(status: int, obj: object, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer with a JSON body.

    Args:
        status: The HTTP status.
        obj: What the body holds.
        headers: Further headers, by lower-case name.
    """
    fields = {"content-type": "application/json", **(headers or {})}
    return Response(status=status, headers=fields, body=orjson.dumps(obj))


@asynccontextmanager
async def running_sandbox(options: SandboxOptions | None = None, **kwargs: Any) -> AsyncIterator[Sandbox]:
    """Run a sandbox on a free port of this machine.

    Args:
        options: How it behaves; None to say so in *kwargs*, the fields of `SandboxOptions`.
        kwargs: Fields of `SandboxOptions`.

    Raises:
        InvalidInputError: Both were given, or a value is of no use.
    """
    if options is not None and kwargs:
        msg = f"give options or {', '.join(kwargs)}, not both: attrs.evolve(options, …) changes options"
        raise InvalidInputError(msg)
    async with Sandbox(options or SandboxOptions(**kwargs)) as sandbox:
        yield sandbox
