"""Event loops: a client runs in the asyncio loop that opened it, and explains that elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from aiobatch import AudienceClient, InvalidInputError, Project
from aiobatch.sandbox import Sandbox
from aiobatch.sync import SyncEngine
from aiobatch.testing import FakeTransport
from aiobatch.transport import Session

trio: Any = pytest.importorskip("trio")

PROJECT = Project(rest_api_key="rest", project_key="project")


def _client(**options: Any) -> AudienceClient:
    return AudienceClient(PROJECT, **options)


def _drive(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run *coroutine* without any event loop, as a library of its own might."""
    coroutine.send(None)


@pytest.mark.parametrize("run", [trio.run, _drive], ids=["trio", "no loop"])
@pytest.mark.parametrize("part", [_client, lambda: _client(transport=FakeTransport([])), Sandbox, SyncEngine])
def test_another_event_loop_is_refused(part: Callable[[], Any], run: Callable[..., None]) -> None:
    """Under trio, or without a loop, opening anything names asyncio in place of a traceback deep inside."""

    async def main() -> None:
        with pytest.raises(InvalidInputError, match="asyncio") as caught:
            await part().__aenter__()
        assert "trio" in str(caught.value)
        assert caught.value.__cause__ is None
        raise ZeroDivisionError  # it came this far

    with pytest.raises(ZeroDivisionError):
        run(main) if run is trio.run else run(main())


def test_open_client_is_refused_under_trio() -> None:
    """A client that asyncio opened cannot be used or closed under trio, and closes afterwards."""
    client = _client(transport=FakeTransport([]))

    async def use() -> None:
        for call in (lambda: client.view("vip"), client.aclose):
            with pytest.raises(InvalidInputError, match="asyncio"):
                await call()

    with asyncio.Runner() as runner:
        runner.run(client.open())
        trio.run(use)
        runner.run(client.aclose())


async def _open_session() -> Session:
    return Session()


def test_session_of_a_closed_loop_is_refused() -> None:
    """A session that an earlier `asyncio.run` created has no loop any more."""
    with asyncio.Runner() as runner:
        session = runner.run(_open_session())
    with pytest.raises(InvalidInputError, match=r"^session belongs to an event loop that is closed\."):
        _client(session=session)
    session.detach()


def test_session_of_another_loop_is_refused() -> None:
    """The error comes when the client is opened, before anything is sent."""
    with asyncio.Runner() as other, asyncio.Runner() as runner:
        session = other.run(_open_session())
        with pytest.raises(InvalidInputError, match=r"^session belongs to another event loop\. Create it in"):
            runner.run(_client(session=session).open())
        client = _client(session=session)
        other.run(client.open())
        other.run(client.aclose())
        other.run(session.close())


@pytest.mark.parametrize("decompresses", [True, False])
async def test_session_must_decompress(decompresses: bool) -> None:
    """Without decompression every response would be unreadable."""
    async with Session(auto_decompress=decompresses) as session:
        if decompresses:
            _client(session=session)
            return
        with pytest.raises(InvalidInputError, match=r"^session has auto_decompress=False"):
            _client(session=session)
