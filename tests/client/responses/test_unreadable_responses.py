from __future__ import annotations

import gzip
from collections.abc import Mapping

import aiohttp
import orjson
import pytest

from aiobatch import (
    AudienceClient,
    MalformedResponseError,
    RequestTimeoutError,
    TransportError,
)

from .scripted_server import (
    HTML,
    VIP,
    Script,
    Service,
    bomb,
    close,
    drip,
    fails,
    flood,
    json,
    make,
    raw,
    reset,
    silence,
    then,
    whole,
)

BROKEN: Mapping[str, tuple[Script, type[Exception], str]] = {
    "truncated json": (whole(200, b'{"name": "vi'), MalformedResponseError, "the body is not JSON"),
    "a list": (json(200, [VIP]), MalformedResponseError, "must be an object, not a list"),
    "a string": (json(200, "vip"), MalformedResponseError, "must be an object, not a string"),
    "an error's body": (json(200, {"code": 1}), MalformedResponseError, r"must have a field name.* @ \$"),
    "null": (whole(200, b"null"), MalformedResponseError, "must be an object, not null"),
    "html": (whole(200, HTML), MalformedResponseError, "the body is HTML, not JSON"),
    "nothing": (whole(200), MalformedResponseError, "the body is empty"),
    "no content": (raw(b"HTTP/1.1 204 No Content\r\n\r\n"), MalformedResponseError, "the body is empty"),
    "no utf-8": (whole(200, b"{\xff\xfe}"), MalformedResponseError, "the body is not JSON"),
    "deep nesting": (whole(200, b'{"a":' * 100_000), MalformedResponseError, "the body is not JSON"),
    "200 MB, announced": (whole(200, b"{", length=200 * 1024**2), MalformedResponseError, "is larger than"),
    "200 MB": (flood, MalformedResponseError, "is larger than 1048576 bytes"),
    "64 MB, zipped": (
        whole(200, bomb(), "Content-Encoding: gzip"),
        MalformedResponseError,
        "is larger than 1048576 bytes",
    ),
    "gzip garbage": (
        whole(200, b"\x1f\x8bgarbage", "Content-Encoding: gzip"),
        MalformedResponseError,
        "cannot be decompressed",
    ),
    "no gzip": (
        whole(200, orjson.dumps(VIP), "Content-Encoding: gzip"),
        MalformedResponseError,
        "cannot be decompressed",
    ),
    "half of a gzip": (
        whole(200, gzip.compress(orjson.dumps(VIP))[:-20], "Content-Encoding: gzip"),
        MalformedResponseError,
        "the body is (not JSON|empty)",
    ),
    "closed in the body": (
        then(whole(200, b'{"na', length=99), close),
        TransportError,
        "no readable response",
    ),
    "reset in the body": (
        then(whole(200, b'{"na', length=99), reset),
        TransportError,
        "no readable response",
    ),
    "closed in the head": (then(raw(b"HTTP/1.1 200 O"), close), TransportError, "no readable response"),
    "reset at once": (then(raw(b""), reset), TransportError, "no readable response"),
    "closed at once": (then(raw(b""), close), TransportError, "no readable response"),
    "no http": (raw(b"220 smtp.example.com ESMTP\r\n\r\n"), TransportError, "no readable response"),
    "a bad length": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), TransportError, "no readable"),
    "a bad chunk": (
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
        TransportError,
        "no readable response",
    ),
    "a huge head": (whole(200, b"{}", "X: " + "x" * 100_000), TransportError, "no readable response"),
}
SLOW: Mapping[str, Script] = {
    "silence": silence,
    "a slow head": drip(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 999),
    "a slow body": drip(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + b" " * 999),
}


@pytest.mark.parametrize("label", ["2.x"])
@pytest.mark.parametrize("case", list(BROKEN))
async def test_unreadable_response_names_the_problem(
    service: Service, client: AudienceClient, case: str
) -> None:
    """The error names the problem, and the connection is released or closed."""
    script, kind, text = BROKEN[case]
    service.scripts.append(script)
    await fails(client, kind, text)


@pytest.mark.parametrize("label", ["2.x"])
@pytest.mark.parametrize("case", list(SLOW))
async def test_endless_response_times_out(
    service: Service, client: AudienceClient, session: aiohttp.ClientSession, label: str, case: str
) -> None:
    """A response that is silent or never ends times out, and its connection is closed."""
    service.scripts.append(SLOW[case])
    async with make(service, label, session, 0.5) as hasty:
        await fails(hasty, RequestTimeoutError, "no complete response in time", after=client)
