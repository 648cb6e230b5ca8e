"""The session of the aiohttp transport, and its limits."""

from __future__ import annotations

import resource

import aiohttp
import pytest

from aiobatch.errors import (
    AiobatchError,
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
    with pytest.warns(DeprecationWarning, match="auth"):
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
        with pytest.raises(InvalidInputError, match="the session is closed"):
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
