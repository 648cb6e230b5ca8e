"""A TCP proxy that harms what passes: it cuts, delays, splits and half-closes, and reorders nothing."""

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
# Bytes at the start of a stream that come a few at a time: the head of a message is what a parser gets wrong.
_CRUMBS = 2000
# Share of the cuts that are as likely at one byte as at any other.
_EVENLY = 0.7
# Share of the segments that are late, where any are.
_LATE = 0.2


@attrs.frozen(kw_only=True)
class Harm:
    """What befalls connections; of every connection it is drawn anew.

    Attributes:
        span: Bytes within which every connection is cut or half-closed; 0 for never.
        request: Whether that counts the bytes of the request; else those of the answer.
        reset: Whether a cut is a reset; else an orderly end.
        half: Whether only the direction that is counted ends.
        delay: Seconds that a segment may be held back.
        split: Whether segments are split, those at the start into a few bytes.
    """

    span: int = 0
    request: bool = True
    reset: bool = True
    half: bool = False
    delay: float = 0.0
    split: bool = False


class Wire(Listener):
    """The proxy.

    Args:
        port: Where the server is, on this machine.
        harm: What befalls connections.
        seed: Of all that is drawn.
        host: Where the server is, and the proxy.

    Attributes:
        connections: How many there were.
        cuts: How many were cut or half-closed.
        harm: What befalls connections from now on.
    """

    def __init__(self, port: int, harm: Harm, *, seed: int = 0, host: str = "127.0.0.1") -> None:
        super().__init__()
        self.host = host
        self.connections = 0
        self.cuts = 0
        self.harm = harm
        self._address = (host, port)
        self._rng = random.Random(seed)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on."""
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
        """Pass bytes on, both ways, until either end or the harm has it."""
        harm, rng = self.harm, random.Random(self._rng.random())
        limit = self._draw_limit(rng)
        there = _Stream(near[0], far[1], harm, rng, limit if harm.request else math.inf)
        back = _Stream(far[0], near[1], harm, rng, math.inf if harm.request else limit)
        pumps = [asyncio.create_task(stream.pump()) for stream in (there, back)]
        try:
            # A server that ends says so to the client at once; a client that ends may still be answered.
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if there.is_cut or back.is_cut:
                self.cuts += 1
                if not harm.half:
                    for writer in (near[1], far[1]):
                        _end(writer, reset=harm.reset)
            await asyncio.wait(pumps, timeout=2)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    def _draw_limit(self, rng: random.Random) -> float:
        """Draw after how many bytes a connection is cut: any byte, the first ones more often than others."""
        span = self.harm.span
        if not span:
            return math.inf
        return rng.randint(1, span) if rng.random() < _EVENLY else math.floor(span ** rng.random())


@attrs.define
class _Stream:
    """One direction of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    harm: Harm
    rng: random.Random
    limit: float
    is_cut: bool = False
    passed: int = 0

    async def pump(self) -> None:
        """Pass bytes on until there are no more, or the limit is reached."""
        with contextlib.suppress(OSError):
            while not self.is_cut and (data := await self.reader.read(_SEGMENT)):
                await self._pass_on(data)
            if self.writer.can_write_eof():
                self.writer.write_eof()

    async def _pass_on(self, data: bytes) -> None:
        while data and not self.is_cut:
            size = self._draw_size(len(data))
            if self.harm.delay and self.rng.random() < _LATE:
                await asyncio.sleep(self.rng.uniform(0, self.harm.delay))
            self.writer.write(data[:size])
            await self.writer.drain()
            if self.harm.split:
                await asyncio.sleep(0)  # so that segments leave apart
            self.passed += size
            self.is_cut = self.passed >= self.limit
            data = data[size:]

    def _draw_size(self, available: int) -> int:
        """Draw the size of the next segment."""
        most = self.limit - self.passed
        if self.harm.split:
            most = min(most, self.rng.randint(1, 9 if self.passed < _CRUMBS else 20_000))
        return int(min(most, available))


def _end(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    """End a connection, in good order or with a reset."""
    if writer.is_closing():
        return
    if reset:
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    else:
        writer.close()
