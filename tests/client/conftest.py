"""Fixtures: a client that must not send anything, and a client of a scripted server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from aiobatch import AudienceClient

from .arguments.rejections import TARGETS, NoRequests
from .responses.scripted_server import TARGETS as SERVER_TARGETS
from .responses.scripted_server import Service, make


@pytest.fixture(params=list(TARGETS))
def version(request: pytest.FixtureRequest) -> str:
    """The API version. A test may override it."""
    return str(request.param)


@pytest.fixture
async def offline_client(version: str) -> AsyncIterator[AudienceClient]:
    """A client whose test fails if it sends a request."""
    transport = NoRequests()
    async with AudienceClient(TARGETS[version], transport=transport) as client:
        yield client
    assert transport.requests == []


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    """A running server."""
    async with Service() as service:
        yield service


@pytest.fixture(params=list(SERVER_TARGETS))
def label(request: pytest.FixtureRequest) -> str:
    """The API version. A test may override it."""
    return str(request.param)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A session with one connection. If it is not released, the next request blocks."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        session._retry_connection = False  # aiohttp would resend a GET that was cut off
        yield session


@pytest.fixture
async def client(
    service: Service, label: str, session: aiohttp.ClientSession
) -> AsyncIterator[AudienceClient]:
    """A client with a long timeout, for busy machines."""
    async with make(service, label, session, 60) as client:
        yield client
