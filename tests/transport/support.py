"""Helpers of the transports' tests: requests with made-up keys, and servers with faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiobatch._http import Request

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
