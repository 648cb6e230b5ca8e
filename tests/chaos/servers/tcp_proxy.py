"""A TCP proxy that cuts, half-closes, delays and splits connections, and reorders nothing."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import socket
import struct

import attrs

from ...helpers.listener import Listener

_SEGMENT = 65536
# Bytes at the start of a stream that are sent a few at a time, because the head is hard to parse.
_CRUMBS = 2000
# The share of cuts at a uniformly random byte.
_EVENLY = 0.7
# The share of segments that are delayed, if any.
_LATE = 0.2


@attrs.frozen(kw_only=True)
class TcpFault:
    """The faults of connections. They are drawn for each connection.

    Attributes:
        span: Bytes within which every connection is cut or half-closed. 0 for never.
        request: Whether these bytes are those of the requests, else of the responses.
        reset: Whether a cut is a reset, else an orderly end.
        half: Whether only the counted direction ends.
        delay: The longest delay of a segment, in seconds.
        split: Whether segments are split, those at the start into a few bytes.
    """

    span: int = 0
    request: bool = True
    reset: bool = True
    half: bool = False
    delay: float = 0.0
    split: bool = False


class TcpProxy(Listener):
    """The proxy.

    Args:
        port: The server's port on this machine.
        fault: The faults of connections.
        seed: The seed of all random choices.
        host: The address of server and proxy.

    Attributes:
        connections: The number of connections.
        cuts: The number of connections cut or half-closed.
        fault: The faults of later connections.
    """

    def __init__(self, port: int, fault: TcpFault, *, seed: int = 0, host: str = "127.0.0.1") -> None:
        super().__init__()
        self.host = host
        self.connections = 0
        self.cuts = 0
        self.fault = fault
        self._address = (host, port)
        self._rng = random.Random(seed)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection."""
        self.connections += 1
        far_reader, far_writer = await asyncio.open_connection(*self._address)
        try:
            await self._relay((reader, writer), (far_reader, far_writer))
        finally:
            far_writer.close()

    async def _relay(
        self,
        near: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        far: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        """Forward bytes both ways until either end or the fault closes the connection."""
        fault, rng = self.fault, random.Random(self._rng.random())
        limit = self._draw_limit(rng)
        there = _Stream(near[0], far[1], fault, rng, limit if fault.request else math.inf)
        back = _Stream(far[0], near[1], fault, rng, math.inf if fault.request else limit)
        pumps = [asyncio.create_task(stream.pump()) for stream in (there, back)]
        try:
            # If the server ends, the client learns it at once. A client that ends may still get a response.
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if there.is_cut or back.is_cut:
                self.cuts += 1
                if not fault.half:
                    for writer in (near[1], far[1]):
                        _end(writer, reset=fault.reset)
            await asyncio.wait(pumps, timeout=2)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    def _draw_limit(self, rng: random.Random) -> float:
        """Draw the number of bytes before a cut. The first bytes are more likely."""
        span = self.fault.span
        if not span:
            return math.inf
        return rng.randint(1, span) if rng.random() < _EVENLY else math.floor(span ** rng.random())


@attrs.define
class _Stream:
    """One direction of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    fault: TcpFault
    rng: random.Random
    limit: float
    is_cut: bool = False
    passed: int = 0

    async def pump(self) -> None:
        """Forward bytes until the end or the limit."""
        with contextlib.suppress(OSError):
            while not self.is_cut and (data := await self.reader.read(_SEGMENT)):
                await self._pass_on(data)
            if self.writer.can_write_eof():
                self.writer.write_eof()

    async def _pass_on(self, data: bytes) -> None:
        while data and not self.is_cut:
            size = self._draw_size(len(data))
            if self.fault.delay and self.rng.random() < _LATE:
                await asyncio.sleep(self.rng.uniform(0, self.fault.delay))
            self.writer.write(data[:size])
            await self.writer.drain()
            if self.fault.split:
                await asyncio.sleep(0)  # so that segments are sent separately
            self.passed += size
            self.is_cut = self.passed >= self.limit
            data = data[size:]

    def _draw_size(self, available: int) -> int:
        """Draw the size of the next segment."""
        most = self.limit - self.passed
        if self.fault.split:
            most = min(most, self.rng.randint(1, 9 if self.passed < _CRUMBS else 20_000))
        return int(min(most, available))


def _end(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    """Close a connection, or reset it."""
    if writer.is_closing():
        return
    if reset:
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    else:
        writer.close()
