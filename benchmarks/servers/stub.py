"""A small stub of Batch in its own process, with just enough of HTTP and the API.

It answers several times as many requests per second as any client here sends, so that the client is what is
measured. The sandbox, which checks all that Batch checks, would be the slower side. It is driven through
`/control`; see `_control`. What the peers' own services would answer, it answers as well; see `_services`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import orjson

from .peer_services import find_service, locate_operation, read_number

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *([0-9]+)")
_PAGE = 100
_MAINTENANCE = (503, b'{"error_code":"MAINTENANCE_ERROR","error_message":"Down for maintenance"}')
_REASONS = {
    200: "OK",
    202: "Accepted",
    404: "Not Found",
    429: "Too Many Requests",
    503: "Service Unavailable",
}
# Views of 2.x and 1.x, as in BATCH_API.md.
_VIEW_2X = (
    '{{"name":"{}","display_name":"An audience","type":"CUSTOM_ID","nb_ids":16743,"indexing_state":"{}",'
    '"created":"2018-06-29T13:12:09Z","updated":"2018-06-29T13:42:59Z"}}'
)
_VIEW_1X = (
    '{{"name":"{}","type":"custom_ids","description":"An audience","created":"2018-06-29T13:12:09",'
    '"updated":"2018-06-29T13:42:59","nb_ids":16743,"indexing_state":"{}"}}'
)

Answer = tuple[int, bytes]


class StubServer:
    """The stub's data and responses."""

    def __init__(self) -> None:
        self.latency = 0.0
        self._tokens = itertools.count(1)  # two writes never share one, across resets too
        self._begin({})

    def answer(self, method: str, target: str, body: bytes) -> Answer:
        """Answer and count one request."""
        path, _, query = target.partition("?")
        if path == "/control":
            return 200, orjson.dumps(self._begin(orjson.loads(body)) if body else self._counts())
        now = time.time()
        self._per_tenth[int(now * 10)] += 1
        service = find_service(path)
        operation, name = _route(method, path, query) if service is None else ("poll", read_number(path))
        self._requests[operation] += 1
        if self._outage[0] <= now < self._outage[1]:
            self._refused += 1
            return _MAINTENANCE
        if service is not None:
            is_done = method == "GET" and self._is_applied(f"a{name}", now)
            return 200 if method == "GET" else 202, service.status_body(name, is_done=is_done)
        if operation == "view":
            return 200, self._show(name, now, _VIEW_2X if path.startswith("/2") else _VIEW_1X)
        if operation == "list":
            return 200, self._list(int(name or 0), now)
        self._ids += body.count(b'"id"')
        return 202, b'{"indexing_token":"t%d"}' % next(self._tokens)

    def _begin(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Reset everything, see `server_control.begin`."""
        self._requests: Counter[str] = Counter()
        self._per_tenth: Counter[int] = Counter()
        self._refused = self._ids = 0
        self.latency = order.get("latency", 0.0)
        now = time.time()
        outage = order.get("outage", (0, 0))
        self._outage = (now + outage[0], now + outage[1])
        draw = random.Random(order.get("seed", 0))
        shortest, longest = order.get("indexing", (0, 0))
        # Each audience has one token, whose state is the audience's.
        self._applied_at = {
            f"a{number}": now + draw.uniform(shortest, longest) for number in range(order.get("tokens", 0))
        }
        self._names = list(self._applied_at)
        self._cpu = time.process_time()
        return {"applied_at": list(self._applied_at.values())}

    def _counts(self) -> dict[str, Any]:
        """Return the counts since the reset."""
        return {
            "requests": dict(self._requests),
            "refused": self._refused,
            "ids": self._ids,
            "peak": 10 * max(self._per_tenth.values(), default=0),
            "burst": self._burst(),
            "cpu": time.process_time() - self._cpu,
        }

    def _burst(self) -> float | None:
        """Return the busiest 100 ms after the outage as a multiple of the busiest before it."""
        start, stop = (int(10 * when) for when in self._outage)
        before = max((count for tenth, count in self._per_tenth.items() if tenth < start), default=0)
        after = max((count for tenth, count in self._per_tenth.items() if tenth >= stop), default=0)
        return after / before if start < stop and before else None

    def _show(self, name: str, now: float, template: str) -> bytes:
        """Return the body of one audience."""
        state = "APPLIED" if self._is_applied(name, now) else "IN_PROGRESS"
        return template.format(name, state).encode()

    def _is_applied(self, name: str, now: float) -> bool:
        return self._applied_at.get(name, 0.0) <= now

    def _list(self, start: int, now: float) -> bytes:
        """Return one page of the list of 2.x."""
        stop = start + _PAGE
        rows = b",".join(self._show(name, now, _VIEW_2X) for name in self._names[start:stop])
        count = b'"count":%d,' % len(self._names) if not start else b""
        more = b'"has_more":true,"next_from":"%d"' % stop if stop < len(self._names) else b'"has_more":false'
        return b'{"audiences":[%b],%b%b}' % (rows, count, more)


def _route(method: str, path: str, query: str) -> tuple[str, str]:
    """Return the operation with its name or cursor."""
    parameters = dict(part.split("=", 1) for part in query.split("&") if part)
    last = path.rpartition("/")[2]
    if path.startswith("/2"):
        return last, parameters.get("name", parameters.get("from", ""))
    return "view" if method == "GET" else "update", last


class Connection(asyncio.Protocol):
    """One kept-alive connection."""

    def __init__(self, stub_server: StubServer) -> None:
        self._stand_in = stub_server
        self._buffer = bytearray()
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        assert isinstance(transport, asyncio.WriteTransport)  # noqa: S101 - a server's transport
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each complete request."""
        self._buffer += data
        while (taken := self._take()) is not None:
            status, body = self._stand_in.answer(*taken)
            written = _head(status, len(body), taken[1]) + body
            if self._stand_in.latency and not taken[1].startswith("/control"):
                asyncio.get_running_loop().call_later(self._stand_in.latency, self._write, written)
            else:
                self._write(written)

    def _take(self) -> tuple[str, str, bytes] | None:
        """Remove the next request from the buffer: method, target, body."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(self._buffer[:end])
        length = _LENGTH.search(head)
        stop = end + 4 + (int(length[1]) if length else 0)
        if len(self._buffer) < stop:
            return None
        body = bytes(self._buffer[end + 4 : stop])
        del self._buffer[:stop]
        method, target, _ = head.decode("latin-1").split(" ", 2)
        return method, target, body

    def _write(self, answer: bytes) -> None:
        """Send a response, unless the client has closed the connection."""
        if not self._transport.is_closing():
            self._transport.write(answer)


def _head(status: int, length: int, target: str) -> bytes:
    """Return the head of a response."""
    lines = (
        f"HTTP/1.1 {status} {_REASONS[status]}",
        "Content-Type: application/json",
        f"Content-Length: {length}",
    )
    located = locate_operation(target) if status == 202 else ""
    return ("\r\n".join(lines) + f"\r\n{located}\r\n").encode()


async def serve(stub_server: StubServer) -> None:
    """Listen, print the port, and run until standard input ends with the parent process.

    Args:
        stub_server: The stub.
    """
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(stub_server), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(sys.stdin.fileno(), "rb")
    )
    await reader.read()


if __name__ == "__main__":
    asyncio.run(serve(StubServer()))
