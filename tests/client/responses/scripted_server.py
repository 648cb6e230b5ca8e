"""A server that responds byte for byte as scripted, and a client of it."""

from __future__ import annotations

import asyncio
import collections
import re
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable, Mapping

import aiohttp
import orjson
import pytest

from aiobatch import (
    App,
    AudienceClient,
    Limits,
    Project,
    RetryPolicy,
)

from ...helpers.listener import Listener

Script = Callable[[asyncio.StreamWriter], Awaitable[None]]

TARGETS: Mapping[str, App | Project] = {
    "1.x": App(rest_api_key="rest-key", api_key="app-key"),
    "2.x": Project(rest_api_key="rest-key", project_key="project-key"),
}
VIP = {"name": "vip", "type": "custom_ids", "nb_ids": 7, "indexing_state": "APPLIED"}
HTML = b"<html><head><title>Sorry</title></head><body>Sorry</body></html>"
MEGABYTE = b" " * 1024 * 1024


def whole(status: int, body: bytes = b"", *fields: str, length: int | None = None) -> Script:
    """Respond with a status, header fields and a body."""
    size = len(body) if length is None else length
    lines = (f"HTTP/1.1 {status} Reason", f"Content-Length: {size}", *fields, "", "")
    return raw("\r\n".join(lines).encode() + body)


def json(status: int, answer: object, *fields: str) -> Script:
    """Respond with JSON."""
    return whole(status, orjson.dumps(answer), "Content-Type: application/json", *fields)


def raw(data: bytes) -> Script:
    """Respond with any bytes."""

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return script


def then(script: Script, end: Callable[[asyncio.StreamWriter], object]) -> Script:
    """Respond, and end the connection."""

    async def ended(writer: asyncio.StreamWriter) -> None:
        await script(writer)
        await writer.drain()
        end(writer)

    return ended


def close(writer: asyncio.StreamWriter) -> None:
    """Close the connection."""
    writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    """Reset the connection."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def drip(data: bytes) -> Script:
    """Respond byte by byte, without an end."""

    async def script(writer: asyncio.StreamWriter) -> None:
        for byte in data:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.005)
        await asyncio.Event().wait()

    return script


async def silence(writer: asyncio.StreamWriter) -> None:
    """Never respond."""
    await asyncio.Event().wait()


async def flood(writer: asyncio.StreamWriter) -> None:
    """Respond with 200 MB without a length."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(200):
        writer.write(b"100000\r\n" + MEGABYTE + b"\r\n")
        await writer.drain()
    pytest.fail("all of it was read")


def bomb() -> bytes:
    """Return 64 MB, compressed."""
    packer = zlib.compressobj(1, wbits=31)
    return b"".join([*(packer.compress(MEGABYTE) for _ in range(64)), packer.flush()])


class Service(Listener):
    """A server that responds by scripts, byte for byte, and with a valid view if there is none left."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: collections.deque[Script] = collections.deque()
        self.heads: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Respond to requests."""
        while True:
            await self._answer(reader, writer)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        size = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        await reader.readexactly(int(size[1]) if size else 0)
        script = self.scripts.popleft() if self.scripts else json(200, VIP)
        await script(writer)
        await writer.drain()


def make(service: Service, label: str, session: aiohttp.ClientSession, timeout: float) -> AudienceClient:
    """Return a client that does not retry."""
    return AudienceClient(
        TARGETS[label],
        base_url=service.url,
        retry=RetryPolicy(attempts=1, request_timeout=timeout),
        limits=Limits(pause_initial=0.001, pause_maximum=0.001),
        session=session,
    )


async def fails(
    client: AudienceClient, kind: type[Exception], text: str, after: AudienceClient | None = None
) -> Exception:
    """View, check the error, and check that the client still works.

    Args:
        client: The client.
        kind: The error's class.
        text: A pattern of its message.
        after: Another client of the session, for the second check.
    """
    with pytest.raises(kind, match=text) as caught:
        await client.view("vip")
    assert type(caught.value) is kind
    message = str(caught.value)
    assert "audience 'vip'" in message.lower()
    assert not re.search("rest-key|app-key|project-key", message)
    assert (await (after or client).view("vip")).nb_ids == 7
    return caught.value
