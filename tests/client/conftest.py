"""A client that must not send anything."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from aiobatch import AudienceClient

from .rejections import TARGETS, NoRequests


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
