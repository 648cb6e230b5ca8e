"""The proxy that the environment names."""

from __future__ import annotations

import asyncio
import warnings

import pytest
from aiohttp import BasicAuth

from aiobatch.errors import (
    AiobatchError,
    ConnectError,
    InvalidInputError,
)
from aiobatch.options import Limits
from aiobatch.transport import AiohttpTransport, Session
from aiobatch.transport._proxy import find_proxy

from .support import (
    answering,
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


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "The proxy closed the connection."),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "The proxy's response is unreadable."),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", "The proxy's response is unreadable."),
    ],
    ids=["nothing", "SSH", "long header"],
)
async def test_broken_tunnel_sends_nothing(
    answer: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a proxy answers before it opens a tunnel, no request has left."""
    async with raw_server(answering(answer)) as url:
        monkeypatch.setenv("https_proxy", url.replace("http://", "http://user:password@"))
        error = await fail("https://api.batch.example")
    assert isinstance(error, ConnectError)
    assert not error.lasting
    assert f"Nothing was sent. {reason} The proxy is set by HTTPS_PROXY" in str(error)
    assert_no_key(error)


@pytest.mark.parametrize(
    ("variables", "proxy"),
    [
        ({"all_proxy": "http://all.example:1"}, "http://all.example:1"),
        ({"ALL_PROXY": "all.example:1"}, "http://all.example:1"),
        (
            {"all_proxy": "http://all.example:1", "https_proxy": "http://https.example:2"},
            "http://https.example:2",
        ),
        (
            {"all_proxy": "socks5://all.example:1", "https_proxy": "http://https.example:2"},
            "http://https.example:2",
        ),
        ({"all_proxy": "http://all.example:1", "https_proxy": ""}, "http://all.example:1"),
        ({"all_proxy": "socks5://all.example:1", "no_proxy": "batch.com"}, None),
        ({"http_proxy": "http://http.example:1"}, None),
    ],
    ids=str,
)
def test_proxy_for_all_protocols_is_second(
    variables: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTPS_PROXY is used, else ALL_PROXY. HTTP_PROXY is never used."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert find_proxy("https://api.batch.com") == proxy


@pytest.mark.parametrize("name", ["ALL_PROXY", "HTTPS_PROXY"])
async def test_unusable_proxy_names_its_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variable that is set, and which one is used first."""
    monkeypatch.setenv(name, "socks5h://user:password@proxy.example:1080")
    error = await fail("https://api.batch.example")
    assert isinstance(error, InvalidInputError)
    assert str(error).startswith(f"The environment variable {name} names no usable proxy. Set HTTPS_PROXY, ")
    assert "which is used before ALL_PROXY" in str(error)
    assert "SOCKS proxies are not supported" in str(error)
    assert_no_key(error)


def _session(password: str, *, in_url: bool) -> Session:
    if in_url:
        return Session(proxy=f"http://ännie:{password}@127.0.0.1:9")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of aiohttp 3.14
        auth = BasicAuth("ännie", password.replace("%E2%82%AC", "€"))
        return Session(proxy="http://127.0.0.1:9", proxy_auth=auth)


PASSWORDS = ["p€ss", "p%E2%82%ACss", "пароль"]


@pytest.mark.parametrize("password", PASSWORDS)
async def test_proxy_password_outside_latin_1_is_refused(
    password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Aiohttp could not send it. The error names the variable, and shows neither password nor user."""
    monkeypatch.setenv("https_proxy", f"http://ännie:{password}@127.0.0.1:9")
    error = await fail("https://api.batch.example")
    _assert_names_latin_1(error, "The environment variable HTTPS_PROXY")


@pytest.mark.parametrize("in_url", [True, False])
@pytest.mark.parametrize("password", PASSWORDS)
async def test_password_of_the_sessions_proxy_is_refused(password: str, in_url: bool) -> None:
    """A session is refused when it is passed in, whichever way it has the password."""
    async with _session(password, in_url=in_url) as session:
        with pytest.raises(InvalidInputError) as caught:
            AiohttpTransport("https://x", limits=Limits(), request_timeout=1, session=session)
    _assert_names_latin_1(caught.value, "session")


def _assert_names_latin_1(error: AiobatchError, place: str) -> None:
    assert isinstance(error, InvalidInputError)
    assert str(error).startswith(f"{place} has a proxy whose user or password contains a character outside")
    for word in ("€", "p%E2", "пароль", "nnie"):
        assert word not in str(error)
    assert_no_key(error)
