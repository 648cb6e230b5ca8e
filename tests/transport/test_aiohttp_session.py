"""The session of the aiohttp transport, and its limits."""

from __future__ import annotations

import asyncio
import resource
import sys
import warnings
from pathlib import Path

import aiohttp
import pytest

from aiobatch.errors import (
    AiobatchError,
    ConnectError,
    InvalidInputError,
)
from aiobatch.options import Limits
from aiobatch.transport import AiohttpTransport, Session

from .support import (
    answering,
    http,
    make_request,
    open_transport,
    raw_server,
)


async def test_given_session_is_used_and_left_open() -> None:
    """The owner of the session closes it."""
    async with raw_server(answering(http())) as url, Session(headers={"X-Own": "1"}) as session:
        async with open_transport(url, session=session) as transport:
            assert (await transport.send(make_request())).status == 200
        assert not session.closed


async def test_closed_session_is_refused() -> None:
    """The error names what to pass instead."""
    session = Session()
    await session.close()
    with pytest.raises(InvalidInputError, match="session is closed"):
        AiohttpTransport("http://127.0.0.1", limits=Limits(), request_timeout=1, session=session)


async def test_session_with_its_own_authentication_is_refused() -> None:
    """Its password would be sent to Batch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of aiohttp 3.14
        session = Session(auth=aiohttp.BasicAuth("user", "password"))
    async with session:
        with pytest.raises(InvalidInputError, match="auth=") as caught:
            AiohttpTransport("http://127.0.0.1", limits=Limits(), request_timeout=1, session=session)
    assert "password" not in str(caught.value)


async def test_session_closed_during_use_is_invalid_input() -> None:
    """Closing the session of an open client is an error of the caller."""
    session = Session()
    async with open_transport("http://127.0.0.1", session=session) as transport:
        await session.close()
        assert transport.in_flight_limit != 0
        with pytest.raises(InvalidInputError, match="session is closed"):
            await transport.send(make_request())


async def test_closed_transport_does_not_open_again() -> None:
    """A retry may meet a closed transport, so the error is not InvalidInputError."""
    async with raw_server(answering(http())) as url:
        unused = AiohttpTransport(url, limits=Limits(), request_timeout=1)
        used = AiohttpTransport(url, limits=Limits(), request_timeout=1)
        await used.send(make_request())
        for transport in (unused, used):
            await transport.aclose()
            await transport.aclose()
            with pytest.raises(AiobatchError, match="the client was closed") as caught:
                await transport.send(make_request())
            assert type(caught.value) is AiobatchError


@pytest.mark.parametrize(("limit", "per_host", "expected"), [(0, 0, None), (7, 0, 7), (0, 5, 5), (7, 5, 5)])
async def test_pool_of_a_given_session_limits_requests_in_flight(
    limit: int, per_host: int, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests must not wait in the pool, where their timeout runs."""
    monkeypatch.setattr("resource.getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    async with Session(connector=aiohttp.TCPConnector(limit=limit, limit_per_host=per_host)) as session:
        transport = AiohttpTransport("http://127.0.0.1", limits=Limits(), request_timeout=1, session=session)
        assert transport.in_flight_limit == expected


@pytest.mark.parametrize(("descriptors", "expected"), [(1024, 512), (64, 32), (1, 1)])
async def test_half_of_the_file_descriptors_stay_free(
    descriptors: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process's limit is the only limit of aiobatch's own pool."""
    monkeypatch.setattr("resource.getrlimit", lambda _: (descriptors, 4096))
    assert (
        AiohttpTransport("http://127.0.0.1", limits=Limits(), request_timeout=1).in_flight_limit == expected
    )
    async with Session(connector=aiohttp.TCPConnector(limit=500)) as session:
        transport = AiohttpTransport("http://127.0.0.1", limits=Limits(), request_timeout=1, session=session)
        assert transport.in_flight_limit == min(500, expected)


async def test_system_without_file_limits_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows and Pyodide have no module `resource`, so only the pool of a given session limits requests."""
    monkeypatch.setitem(sys.modules, "resource", None)
    assert AiohttpTransport("http://127.0.0.1", limits=Limits(), request_timeout=1).in_flight_limit is None
    async with Session(connector=aiohttp.TCPConnector(limit=7)) as session:
        transport = AiohttpTransport("http://127.0.0.1", limits=Limits(), request_timeout=1, session=session)
        assert transport.in_flight_limit == 7


@pytest.mark.parametrize("trust_env", [True, False])
@pytest.mark.parametrize("entry", ["default", "machine 127.0.0.1"])
@pytest.mark.parametrize("own", [{}, {"Authorization": "Bearer r3st"}])
@pytest.mark.parametrize("default", [{}, {"authorization": "Bearer elses-secret"}])
async def test_password_for_another_service_is_never_sent(
    trust_env: bool,
    entry: str,
    own: dict[str, str],
    default: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A request has its own Authorization or none, whatever the session trusts, which stays as it was."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f"{entry} login somebody password elses-secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    heads: list[bytes] = []

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(http())

    async with raw_server(record) as url, Session(trust_env=trust_env, headers=default) as session:
        async with open_transport(url, session=session) as transport:
            for _ in range(2):
                assert (await transport.send(make_request(headers=own))).status == 200
        assert not session.closed
        assert session.trust_env is trust_env
        assert dict(session.headers) == default

    assert len(heads) == 2
    for head in heads:
        sent = [line for line in head.decode().split("\r\n") if line.lower().startswith("authorization:")]
        assert sent == [f"{name}: {value}" for name, value in own.items()]


@pytest.mark.parametrize("own", [None, "http://127.0.0.1:9"])
async def test_trusting_session_uses_the_proxy_of_the_environment(
    own: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own proxy wins. A proxy that cannot be used is refused, and nothing is sent."""
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1080")
    async with (
        Session(trust_env=True, proxy=own) as session,
        open_transport("https://127.0.0.1:9", session=session) as transport,
    ):
        with pytest.raises(InvalidInputError if own is None else ConnectError):
            await transport.send(make_request())
