from __future__ import annotations

import asyncio
import gzip
import inspect
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aioresponses import aioresponses

from aiobatch.errors import (
    AiobatchError,
    TransportError,
)
from aiobatch.transport import AiohttpTransport

from .support import (
    KEY,
    REST_KEY,
    answering,
    http,
    make_request,
    open_transport,
    raw_server,
    receive,
    web_server,
)


async def test_request_is_sent_as_it_was_built() -> None:
    """Path, query, headers and body arrive unchanged, with aiobatch's User-Agent."""
    seen: list[tuple[str, str, str, str, bytes]] = []

    async def handle(request: web.Request) -> web.Response:
        headers = request.headers
        seen.append(
            (
                request.method,
                request.raw_path,
                headers["X-Authorization"],
                headers["User-Agent"].partition("/")[0],
                await request.read(),
            )
        )
        return web.json_response({"a": 1})

    async with web_server(handle) as url, open_transport(url) as transport:
        target = f"/1.0/{KEY}/custom-audience/a%2Fb?from=%C3%A9+x"
        response = await transport.send(make_request(method="PATCH", target=target, body=b'{"ids":[]}'))
    assert seen == [("PATCH", target, REST_KEY, "aiobatch", b'{"ids":[]}')]
    assert (response.status, response.body, response.attempts) == (200, b'{"a": 1}', 1)


async def test_large_body_is_sent_without_a_warning() -> None:
    """A body of more than a megabyte is written in pieces."""
    sizes: list[int] = []

    async def handle(request: web.Request) -> web.Response:
        sizes.append(len(await request.read()))
        return web.json_response({})

    async with web_server(handle) as url, open_transport(url) as transport:
        await transport.send(make_request(method="POST", body=b"x" * 3_000_000))
    assert sizes == [3_000_000]


async def test_connections_are_reused() -> None:
    """Consecutive requests share a connection, whether the size of the response is known or not."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await answering(http(), chunked, http(), chunked)(reader, writer)

    async with raw_server(handle) as url, open_transport(url) as transport:
        bodies = [(await transport.send(make_request())).body for _ in range(4)]
    assert bodies == [b"{}"] * 4
    assert connections == 1


async def test_aiohttp_sends_no_request_twice() -> None:
    """A kept connection that drops is one failed attempt, not a silent second request."""
    requests = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await reader.readuntil(b"\r\n\r\n")
        requests += 1
        if requests == 1:
            writer.write(http())
            await reader.readuntil(b"\r\n\r\n")
            requests += 1
        writer.transport.abort()

    async with raw_server(handle) as url, open_transport(url) as transport:
        await transport.send(make_request())
        with pytest.raises(TransportError):
            await transport.send(make_request())
    assert requests == 2


async def test_error_response_has_the_headers_that_are_read() -> None:
    """They have lower-case names, and other headers are left out."""
    answer = http(b"{}", b"RETRY-AFTER: 7", b"Date: now", b"X-Other: o", status=b"429 Too Many Requests")
    assert (await receive(answering(answer))).headers == {"retry-after": "7", "date": "now"}


async def test_redirects_are_not_followed() -> None:
    """A redirect is a response like any other, because a key must not be sent elsewhere."""
    response = await receive(answering(http(b"", b"Location: http://elsewhere/", status=b"302 Found")))
    assert (response.status, response.headers["location"]) == (302, "http://elsewhere/")


@pytest.mark.parametrize("status", [401, 404, 429, 500, 503])
async def test_error_status_is_a_response(status: int) -> None:
    """The transport raises no error for a status."""
    line = f"{status} {HTTPStatus(status).phrase}".encode()
    assert (await receive(answering(http(b"<html>", status=line)))).status == status


@pytest.mark.parametrize(
    "answer",
    [
        http(b"abcde", b"Content-Encoding: gzip", status=b"401 Unauthorized"),
        b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 50\r\n\r\nhalf",
    ],
    ids=["gzip garbage", "truncated"],
)
async def test_error_status_survives_an_unreadable_body(answer: bytes) -> None:
    """An unreadable error page is replaced by an empty body."""
    response = await receive(answering(answer))
    assert (response.status, response.body) == (401, b"")


async def test_compressed_response_is_decompressed() -> None:
    """The transport accepts compression."""
    response = await receive(answering(http(gzip.compress(b'{"a":1}'), b"Content-Encoding: gzip")))
    assert response.body == b'{"a":1}'


async def test_response_without_a_length_ends_with_the_connection() -> None:
    """HTTP/1.0 framing is supported."""
    assert (await receive(answering(b"HTTP/1.1 200 OK\r\n\r\n{}"))).body == b"{}"


async def test_cancelling_closes_the_connection() -> None:
    """A cancelled request raises CancelledError and leaves no connection open."""
    came, closed = asyncio.Event(), asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        came.set()
        await reader.read()
        closed.set()

    async def expire(timeout: asyncio.Timeout) -> None:
        await came.wait()
        timeout.reschedule(0)

    async def send(transport: AiohttpTransport) -> None:
        async with asyncio.timeout(None) as timeout, asyncio.TaskGroup() as group:
            group.create_task(expire(timeout))
            await transport.send(make_request())

    async with raw_server(handle) as url, open_transport(url) as transport:
        with pytest.raises(TimeoutError) as caught:
            await send(transport)
        assert not isinstance(caught.value, AiobatchError)
        await asyncio.wait_for(closed.wait(), 60)


@pytest.mark.parametrize("chunked", [True, False])
async def test_cancelling_in_the_middle_of_a_body_closes_the_connection(chunked: bool) -> None:
    """The same applies while the body is read."""
    came, closed = asyncio.Event(), asyncio.Event()
    head = b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n" if chunked else b"Content-Length: 50\r\n\r\n{"

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + head)
        await writer.drain()
        came.set()
        await reader.read()
        closed.set()

    async with raw_server(handle) as url, open_transport(url) as transport:
        task = asyncio.create_task(transport.send(make_request()))
        await came.wait()
        await asyncio.sleep(0.05)  # until the headers were read
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(closed.wait(), 60)


class _MockedResponse(aiohttp.ClientResponse):
    """Adds to aiohttp 3.14's response what aioresponses lacks (pnuckowski/aioresponses#289)."""

    def __init__(self, *args: Any, **options: Any) -> None:
        if "stream_writer" in inspect.signature(aiohttp.ClientResponse).parameters:
            options["stream_writer"] = SimpleNamespace(output_size=0)
        super().__init__(*args, **options)


async def test_transport_works_with_aioresponses() -> None:
    """Users' tests may mock aiohttp below aiobatch."""
    with aioresponses() as mocked:
        url = f"https://api.batch.com/1.0/{KEY}/custom-audience/vip"
        mocked.get(url, payload={"a": 1}, response_class=_MockedResponse)
        async with open_transport("https://api.batch.com") as transport:
            response = await transport.send(make_request())
    assert (response.status, response.body) == (200, b'{"a": 1}')
