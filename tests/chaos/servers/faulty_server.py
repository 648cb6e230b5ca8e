"""A server in front of a sandbox that gives some requests a malformed response and forwards the others."""

from __future__ import annotations

import asyncio
import functools
import re
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable

from ...helpers.listener import Listener

# Writes a response, given the sandbox's response.
Script = Callable[[asyncio.StreamWriter, bytes], Awaitable[None]]
# Returns whether the response to request number n, from 0, is malformed.
Choice = Callable[[int], bool]

_MEGABYTE = b" " * 1024 * 1024
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class FaultyServer(Listener):
    """The server. Every second request with a malformed response reaches the sandbox.

    Args:
        port: The sandbox's port.
        script: Writes a malformed response.
        choice: Chooses the requests.

    Attributes:
        requests: The number of requests.
        faulty: The number of malformed responses.
    """

    def __init__(self, port: int, script: Script, choice: Choice) -> None:
        super().__init__()
        self.requests = 0
        self.faulty = 0
        self._port = port
        self._script = script
        self._choice = choice

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests until a response closes the connection."""
        while not writer.is_closing():
            await self._answer(reader, writer)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        message = await _receive(reader)
        number, self.requests = self.requests, self.requests + 1
        if not self._choice(number):
            writer.write(await self._ask(message))
            await writer.drain()
            return
        self.faulty += 1
        answer = await self._ask(message) if self.faulty % 2 else b""
        await self._script(writer, answer)
        if not writer.is_closing():
            await writer.drain()

    async def _ask(self, message: bytes) -> bytes:
        """Forward a message to the sandbox and return its response."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(message)
        try:
            return await _receive(reader)
        finally:
            writer.close()


async def _receive(reader: asyncio.StreamReader) -> bytes:
    """Receive a message with a Content-Length."""
    head = await reader.readuntil(b"\r\n\r\n")
    size = _LENGTH.search(head)
    return head + await reader.readexactly(int(size[1]) if size else 0)


def whole(data: bytes, *, end: bool = False) -> Script:
    """Respond with *data*, and close the connection if *end*."""

    async def script(writer: asyncio.StreamWriter, _answer: bytes) -> None:
        writer.write(data)
        if end:
            await writer.drain()
            writer.close()

    return script


async def reset_in_body(writer: asyncio.StreamWriter, _answer: bytes) -> None:
    """Reset the connection in the middle of a body."""
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"indexing_tok')
    await writer.drain()
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def flood(writer: asyncio.StreamWriter, _answer: bytes) -> None:
    """Respond with 100 MB without a Content-Length."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(100):
        writer.write(b"100000\r\n" + _MEGABYTE + b"\r\n")
        await writer.drain()
    writer.write(b"0\r\n\r\n")


async def flood_announced(writer: asyncio.StreamWriter, _answer: bytes) -> None:
    """Respond with 100 MB with a Content-Length."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n")
    for _ in range(100):
        writer.write(_MEGABYTE)
        await writer.drain()


@functools.cache
def _packed() -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([*(packer.compress(_MEGABYTE) for _ in range(64)), packer.flush()])


async def bomb(writer: asyncio.StreamWriter, _answer: bytes) -> None:
    """Respond with 64 MB, compressed to 64 kB."""
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    writer.write(head % len(_packed()) + _packed())


async def endless_head(writer: asyncio.StreamWriter, _answer: bytes) -> None:
    """Respond with header fields until the client closes the connection."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while not writer.is_closing():
        writer.write(b"X-More: and more\r\n" * 100)
        await writer.drain()
        await asyncio.sleep(0)


async def half(writer: asyncio.StreamWriter, answer: bytes) -> None:
    """Respond with half of the body and status 206."""
    body = answer.partition(b"\r\n\r\n")[2]
    part = body[: len(body) // 2]
    writer.write(b"HTTP/1.1 206 Partial Content\r\nContent-Length: %d\r\n\r\n%s" % (len(part), part))


async def too_short(writer: asyncio.StreamWriter, answer: bytes) -> None:
    """Respond with a Content-Length that is too short. The rest precedes the next response."""
    body = answer.partition(b"\r\n\r\n")[2] or b'{"name": "vip"}'
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body) - 5, body))


async def old(writer: asyncio.StreamWriter, answer: bytes) -> None:
    """Respond as HTTP/1.0: no length, and the connection ends with the body. Or send nothing."""
    _, _, body = answer.partition(b"\r\n\r\n")
    if answer:
        status = answer.partition(b" ")[2].partition(b"\r\n")[0]
        writer.write(b"HTTP/1.0 " + status + b"\r\nContent-Type: application/json\r\n\r\n" + body)
        await writer.drain()
    writer.close()


async def silence(_writer: asyncio.StreamWriter, _answer: bytes) -> None:
    """Send no response."""
    await asyncio.Event().wait()
