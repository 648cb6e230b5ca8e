"""Helpers of the transports' tests: requests with made-up keys, and servers with faults."""

from __future__ import annotations

import asyncio
import copy
import pickle
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from aiohttp import web

from aiobatch.errors import (
    AiobatchError,
)
from aiobatch.interfaces import Request, Response
from aiobatch.options import Limits
from aiobatch.transport import AiohttpTransport, Session

KEY = "k3y-in-the-path"
REST_KEY = "r3st-k3y-in-a-header"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def make_request(name: str = "vip", **fields: Any) -> Request:
    """Return a view request of 1.x, with a key in its path and one in its headers."""
    defaults: dict[str, Any] = {
        "label": f"view of audience {name!r}",
        "operation": "view",
        "method": "GET",
        "path": f"/1.0/***/custom-audience/{name}",
        "target": f"/1.0/{KEY}/custom-audience/{name}",
        "headers": {"X-Authorization": REST_KEY},
    }
    return Request(**defaults | fields)


@asynccontextmanager
async def raw_server(handle: Handler) -> AsyncIterator[str]:
    """Serve connections with *handle* on a free port, and yield the origin."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await handle(reader, writer)
        finally:
            writer.transport.abort()
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def answering(*answers: bytes) -> Handler:
    """Return a handler that sends *answers* to the requests of a connection, then closes it."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    return handle


def lingering(answer: bytes) -> Handler:
    """Return a handler that sends one response and keeps the connection open."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await reader.read()

    return handle


def http(body: bytes = b"{}", *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """Return a response with the length of *body*."""
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@asynccontextmanager
async def open_transport(
    base_url: str, *, seconds: float = 5.0, session: Session | None = None, **limits: Any
) -> AsyncIterator[AiohttpTransport]:
    """Open a transport, and close it in the end."""
    transport = AiohttpTransport(base_url, limits=Limits(**limits), request_timeout=seconds, session=session)
    try:
        yield transport
    finally:
        await transport.aclose()


async def fail(base_url: str, **options: Any) -> AiobatchError:
    """Send one request that fails, and return its error."""
    async with open_transport(base_url, **options) as transport:
        with pytest.raises(AiobatchError) as caught:
            await transport.send(make_request())
    return caught.value


async def receive(handle: Handler, **options: Any) -> Response:
    """Send one request to a raw server, and return the response."""
    async with raw_server(handle) as url, open_transport(url, **options) as transport:
        return await transport.send(make_request())


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reset the connection after the headers of a request."""
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Never respond."""
    await reader.read()


def assert_no_key(error: BaseException) -> None:
    """Search for the keys wherever an error is shown or stored."""
    lines = traceback.TracebackException(
        type(error), error, error.__traceback__, capture_locals=True
    ).format()
    places = [
        "".join(lines),
        repr(error),
        str(error.__dict__),
        repr(copy.copy(error)),
        str(pickle.dumps(error)),
    ]
    for place in places:
        assert KEY not in place
        assert REST_KEY not in place
    assert error.__cause__ is None
    assert error.__context__ is None


@asynccontextmanager
async def web_server(handle: Any) -> AsyncIterator[str]:
    """Serve all requests with *handle* on a free port, and yield the origin."""
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
