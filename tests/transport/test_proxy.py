"""The proxy that the environment names."""

from __future__ import annotations

import asyncio

import pytest

from aiobatch.errors import (
    ConnectError,
    InvalidInputError,
)
from aiobatch.transport._proxy import find_proxy

from .support import (
    assert_no_key,
    fail,
    http,
    make_request,
    open_transport,
    raw_server,
)


async def test_proxy_of_the_environment_is_used_for_https_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain http goes to this machine only. NO_PROXY is respected."""
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "internal.example")
    assert find_proxy("https://api.batch.com") == "http://proxy.example:3128"
    assert find_proxy("https://internal.example:8443") is None
    assert find_proxy("http://127.0.0.1:1") is None


def test_proxy_needs_no_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tools accept that, too. An empty value names no proxy."""
    monkeypatch.setenv("https_proxy", "user:password@proxy.example:3128")
    assert find_proxy("https://api.batch.com") == "http://user:password@proxy.example:3128"
    monkeypatch.setenv("https_proxy", "")
    assert find_proxy("https://api.batch.com") is None


@pytest.mark.parametrize(
    "name", ["socks5://user:password@proxy.example", "http://", "http://[password", "://"]
)
async def test_unusable_proxy_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SOCKS proxy is not supported, and the error shows no password."""
    monkeypatch.setenv("https_proxy", name)
    async with open_transport("https://api.batch.example") as transport:
        with pytest.raises(InvalidInputError, match="HTTPS_PROXY") as caught:
            await transport.send(make_request())
    assert "user:password@ before" in str(caught.value)
    assert_no_key(caught.value)


async def test_https_uses_a_tunnel_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CONNECT request has the credentials of the proxy's URL. If it is refused, nothing was sent."""
    asked: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(http(b"", status=b"407 Proxy Authentication Required"))
        await writer.drain()

    async with raw_server(handle) as url:
        monkeypatch.setenv("https_proxy", url.replace("http://", "http://user:password@"))
        error = await fail("https://api.batch.example")
    assert asked[0].startswith(b"CONNECT api.batch.example:443 ")
    assert b"Proxy-Authorization: Basic" in asked[0]
    assert type(error) is ConnectError
    assert "password" not in str(error)
    assert_no_key(error)
