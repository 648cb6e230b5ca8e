from __future__ import annotations

import asyncio
import itertools
import pickle
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from aiobatch import Audience, AudienceClient, InvalidInputError, Outcome, WaitInterruptedError
from aiobatch.interfaces import Request, Response
from aiobatch.testing import FakeClock, FakeTransport, json_response

from ..conftest import leaked_tasks
from .arguments.rejections import TARGETS

TOKENS = ("vip:update:t1", "vip:update:t2", "new:create:t3")


class Indexing:
    """A server whose updates stay IN_PROGRESS until `done`."""

    def __init__(self) -> None:
        self.done = False
        self.numbers = itertools.count()

    def __call__(self, request: Request) -> Response:
        """Respond to a view or a write."""
        state = "APPLIED" if self.done else "IN_PROGRESS"
        token = f"t{next(self.numbers)}"
        return json_response(
            200, {"name": request.audience, "indexing_token": token, "indexing_state": state}
        )


@pytest.fixture
def server() -> Indexing:
    """The server."""
    return Indexing()


@pytest.fixture
async def client(server: Indexing) -> AsyncIterator[AudienceClient]:
    """A client in virtual time."""
    clock = FakeClock()
    async with AudienceClient(TARGETS["2.x"], transport=FakeTransport(server), clock=clock) as client:
        yield client


async def settle_all(client: AudienceClient) -> list[Any]:
    """Return the outcomes of all tokens."""
    return [settled async for settled in client.settle(TOKENS, timeout=None)]


ENDS: dict[str, Callable[[AudienceClient], Any]] = {
    "drain": lambda client: client.drain(),
    "drain later": lambda client: client.drain(timeout=30),
    "close": lambda client: client.aclose(),
}


@pytest.mark.parametrize("end", list(ENDS))
async def test_open_waits_end_with_their_tokens(client: AudienceClient, end: str) -> None:
    """Every wait of either kind ends with its token and last state, and no task is left."""
    waits = [asyncio.create_task(client.await_applied(token, timeout=None)) for token in TOKENS]
    settling = asyncio.create_task(settle_all(client))
    await client._clock.sleep(5)
    before = client._clock.monotonic()

    await ENDS[end](client)

    await asyncio.wait(waits)
    errors = [pickle.loads(pickle.dumps(wait.exception())) for wait in waits]  # noqa: S301  # our own pickle
    assert [error.token for error in errors] == list(TOKENS)
    assert [error.audience for error in errors] == ["vip", "vip", "new"]
    assert errors[0].last_state == errors[2].last_state == "IN_PROGRESS"
    assert all(isinstance(error, WaitInterruptedError) for error in errors)
    assert all(repr(token) in str(error) for token, error in zip(TOKENS, errors, strict=True))
    settled = await settling
    assert {(str(each.token), each.outcome) for each in settled} == {
        (token, Outcome.FAILED) for token in TOKENS
    }
    assert all(isinstance(each.error, WaitInterruptedError) for each in settled)
    assert client._clock.monotonic() - before == (30 if end == "drain later" else 0)
    assert not await leaked_tasks()


@pytest.mark.parametrize("timeout", [60, None])
async def test_drain_lets_waits_finish(
    client: AudienceClient, server: Indexing, timeout: float | None
) -> None:
    """Within the timeout waits end as usual, and the drain ends with the last of them."""
    waits = [asyncio.create_task(client.await_applied(token)) for token in TOKENS]
    await client._clock.sleep(5)
    draining = asyncio.create_task(client.drain(timeout=timeout))
    await client._clock.sleep(1)
    assert not draining.done()
    server.done = True

    await draining

    assert all(isinstance(end, Audience) for end in await asyncio.gather(*waits))
    assert client._clock.monotonic() < 40


async def test_new_wait_ends_at_once(client: AudienceClient) -> None:
    """After a drain other calls work, and a wait ends with the token that the caller keeps."""
    await client.drain()

    token = await client.update("vip", add=["u1"])
    with pytest.raises(WaitInterruptedError) as caught:
        await client.await_applied(token, timeout=None)
    assert caught.value.token == str(token)
    assert caught.value.last_state is None
    assert {settled.outcome for settled in await settle_all(client)} == {Outcome.FAILED}
    await client.drain()


async def test_cancelled_drain_leaves_no_task(client: AudienceClient) -> None:
    """The waits go on until the client is closed."""
    wait = asyncio.create_task(client.await_applied(TOKENS[0], timeout=None))
    await asyncio.sleep(0)
    draining = asyncio.create_task(client.drain(timeout=None))
    await client._clock.sleep(5)
    draining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await draining
    assert not wait.done()

    await client.aclose()

    with pytest.raises(WaitInterruptedError):
        await wait
    assert not await leaked_tasks()


@pytest.mark.parametrize("timeout", [-1, float("nan"), "5", True])
async def test_invalid_timeout_is_rejected(client: AudienceClient, timeout: Any) -> None:
    """The timeout of a drain is 0, a positive number or None."""
    with pytest.raises(InvalidInputError, match="timeout"):
        await client.drain(timeout=timeout)
