"""The stage of a scenario: one of the three APIs, in the process with a fake clock or over a real socket."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Mapping
from typing import Any, Literal, TypedDict

import attrs

from aiobatch import App, AudienceClient, Event, IdType, IndexingToken, Limits, Project
from aiobatch.errors import TransportError
from aiobatch.interfaces import Clock, Request, Response, Transport
from aiobatch.sandbox import API_KEY, PROJECT_KEY, REST_API_KEY, Sandbox, SandboxMember, Scope
from aiobatch.testing import FakeTransport
from aiobatch.transport import AiohttpTransport

from ..helpers.sandbox_clock import SandboxClock

# Seconds that a response takes on the fake clock.
LATENCY = 0.02

TARGETS: Mapping[str, App | Project] = {
    "1.0": App(rest_api_key=REST_API_KEY, api_key=API_KEY, version="1.0"),
    "1.1": App(rest_api_key=REST_API_KEY, api_key=API_KEY, version="1.1"),
    "2.x": Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY),
}


class Answers(TypedDict, total=False):
    """The options of a sandbox for what Batch does not document."""

    missing_audience: Literal[404, 400]
    taken_name: Literal[400, 409]
    unknown_project: Literal[401, 403]
    delete_answer: Literal["empty", "object", "nothing"]


class QuickClock:
    """A clock a hundred times as fast as the machine's: a minute of maintenance takes 0.6 s on a socket."""

    _FACTOR = 100

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start."""
        return time.monotonic() * self._FACTOR

    def time(self) -> float:
        """Return seconds since the epoch: only differences count, and these are as fast."""
        return time.time() * self._FACTOR

    async def sleep(self, seconds: float) -> None:
        """Sleep a hundredth of *seconds*."""
        await asyncio.sleep(seconds / self._FACTOR)


def answer_of(sandbox: Sandbox, request: Request) -> Response:
    """Return the response of a sandbox that does not listen."""
    try:
        status, headers, body = sandbox.answer(request.method, request.target, request.headers, request.body)
    except ConnectionResetError:
        msg = f"{request.label}: the connection was reset"
        raise TransportError(msg) from None
    return Response(status=status, headers=headers, body=body)


def in_process(sandbox: Sandbox, clock: Clock) -> FakeTransport:
    """Return a transport to a sandbox that does not listen. Every response takes `LATENCY`."""

    async def answer(request: Request) -> Response:
        await clock.sleep(LATENCY)
        return answer_of(sandbox, request)

    return FakeTransport(answer)


@attrs.define
class ReplacingTransport:
    """A transport that replaces one word by another in every response."""

    inner: Transport
    old: bytes
    new: bytes

    async def send(self, request: Request) -> Response:
        """Send, and replace the word in the response."""
        response = await self.inner.send(request)
        return attrs.evolve(response, body=response.body.replace(self.old, self.new))

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self.inner.aclose()


@attrs.frozen(kw_only=True)
class Stage:
    """A sandbox whose time passes by `clock` unless it is halted, and the clients of it."""

    label: str
    sandbox: Sandbox
    time: SandboxClock
    clock: Clock
    is_fake: bool
    sent: list[tuple[float, Event]] = attrs.field(factory=list)

    @property
    def target(self) -> App | Project:
        """The target of the clients."""
        return TARGETS[self.label]

    @property
    def scope(self) -> Scope:
        """The sandbox's name for the target."""
        return "2.x" if self.label == "2.x" else "1.x"

    @property
    def id_type(self) -> IdType:
        """The default type of IDs."""
        return IdType.INSTALL_IDS if self.label == "1.1" else IdType.CUSTOM_IDS

    def transport(self) -> Transport:
        """Return a transport to the sandbox."""
        if self.is_fake:
            return in_process(self.sandbox, self.clock)
        return AiohttpTransport(self.sandbox.url, limits=Limits(), request_timeout=30)

    def client(self, **kwargs: Any) -> AudienceClient:
        """Create a client. Its events go to `sent`, with their times."""
        return AudienceClient(
            kwargs.pop("target", self.target),
            transport=kwargs.pop("transport", None) or self.transport(),
            clock=self.clock,
            rng=random.Random(0),
            on_event=self._note,
            **kwargs,
        )

    def _note(self, event: Event) -> None:
        self.sent.append((self.clock.monotonic(), event))

    def times(self, kind: type[Event]) -> list[float]:
        """Return the times of all events of a kind."""
        return [moment for moment, event in self.sent if isinstance(event, kind)]

    def members(self, name: str = "vip") -> Mapping[str, SandboxMember]:
        """Return the members of an audience."""
        return self.sandbox.members(name, scope=self.scope)

    def operations(self) -> list[str]:
        """Return the operations that the sandbox received, in order."""
        return [request.operation for request in self.sandbox.requests]


async def create_applied(client: AudienceClient, *names: str, id_type: IdType | None = None) -> None:
    """Create audiences and wait until they exist."""
    tokens = await asyncio.gather(*(client.create(name, id_type=id_type) for name in names or ("vip",)))
    await asyncio.gather(*(client.await_applied(token) for token in tokens if token is not None))


async def populate(stage: Stage, client: AudienceClient, count: int) -> list[str]:
    """Create many audiences, and wait until they exist."""
    names = [f"a{number}" for number in range(count)]
    await asyncio.gather(*map(client.create, names))
    await stage.clock.sleep(200 if stage.is_fake else 2)
    assert len(stage.sandbox.audiences()) == count
    return names


async def applied(client: AudienceClient, write: Awaitable[IndexingToken]) -> None:
    """Await a write, then wait until it is applied."""
    await client.await_applied(await write)
