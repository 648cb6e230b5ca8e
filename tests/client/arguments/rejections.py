"""Helpers for tests of invalid arguments: nothing is sent, and no message shows a value."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any

import pytest

from aiobatch import App, AudienceClient, Project
from aiobatch.interfaces import Request, Response
from aiobatch.testing import FakeTransport

TARGETS: Mapping[str, App | Project] = {
    "1.0": App(rest_api_key="rest", api_key="app"),
    "1.1": App(rest_api_key="rest", api_key="app", version="1.1"),
    "2.x": Project(rest_api_key="rest", project_key="project"),
}
# A value that no message may show.
PRIVATE = "zoe@example.com"

Call = Callable[[AudienceClient], Awaitable[object]]


class NoRequests(FakeTransport):
    """A transport that fails the test on any request."""

    def __init__(self) -> None:
        super().__init__(_fail)


def _fail(request: Request) -> Response:
    msg = f"the {request.label} was sent"
    raise AssertionError(msg)


async def collect(items: AsyncIterator[object]) -> list[object]:
    """Read an asynchronous iterator to its end."""
    return [item async for item in items]


async def stream(items: Iterable[Any]) -> AsyncIterator[Any]:
    """Yield items asynchronously."""
    for item in items:
        yield item


def message_of(error: pytest.ExceptionInfo[BaseException]) -> str:
    """Return the message of an error that is a ValueError and shows nothing private."""
    assert isinstance(error.value, ValueError)
    message = str(error.value)
    assert PRIVATE not in message
    return message
