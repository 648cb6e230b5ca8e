"""A client in hands that mean well: parts of a wrong kind, copies, other loops; each is told what to do."""

from __future__ import annotations

import asyncio
import copy
import functools
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from aiobatch import AudienceClient, Event, InvalidInputError, Limits, Project
from aiobatch._messages import Request, Response
from aiobatch.dialects import dialect_for
from aiobatch.testing import FakeClock, FakeTransport, json_response

PROJECT = Project(rest_api_key="rest", project_key="project")
# A value that no error may repeat.
PRIVATE = "zoe@example.com"


def refuse(request: Request) -> Response:
    """Answer nothing: nothing may be sent."""
    msg = f"the {request.label} was sent"
    raise AssertionError(msg)


def accept(_: Request) -> Response:
    """Accept any write."""
    return json_response(202, {"indexing_token": "t1"})


async def hear(_: Event) -> None:
    """Hear an event, if anybody awaits it."""


class Hearer:
    """An object whose call nobody awaits."""

    async def __call__(self, event: Event) -> None:
        """Hear an event."""


PARTS: Mapping[str, tuple[list[Any], str]] = {
    "retry": ([None, {}, Limits()], "retry must be of type RetryPolicy, not "),
    "polling": ([None, 5, Limits], "polling must be of type PollingPolicy, not "),
    "limits": ([None, {"rate": 1}, PRIVATE], "limits must be of type Limits, not "),
    "session": ([5, PRIVATE, object()], r"session must be an aiohttp\.ClientSession, not "),
    "on_event": ([5, PRIVATE, []], "on_event must be a function, not "),
    "on_event async": (
        [hear, functools.partial(hear), Hearer()],
        "on_event must be a plain function: nobody would await",
    ),
    "transport": ([0, PRIVATE, object], "transport must have the methods send, aclose; "),
    "clock": ([0, PRIVATE, asyncio], "clock must have the methods monotonic, time, sleep; "),
    "rng": ([0, 1, PRIVATE], "rng must be of type Random, not "),
}


@pytest.mark.parametrize("part", list(PARTS))
def test_a_part_of_a_wrong_kind(part: str) -> None:
    """It is refused when the client is made, by its name and type, and not with the first request."""
    values, text = PARTS[part]
    for value in values:
        with pytest.raises(InvalidInputError, match=f"^{text}") as caught:
            AudienceClient(PROJECT, **{part.partition(" ")[0]: value})
        assert PRIVATE not in str(caught.value)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_client_is_not_copied(duplicate: Callable[[AudienceClient], object]) -> None:
    """A copy would be open when the client is closed, and close what is the client's."""
    client = AudienceClient(PROJECT, transport=FakeTransport(refuse))
    with pytest.raises(TypeError, match=r"cannot be copied or pickled; make one AudienceClient for each"):
        duplicate(client)


async def test_a_client_is_closed_in_its_own_loop() -> None:
    """From another loop, such as a thread's, it is refused; waits go on, and it can be closed as before."""
    clock = FakeClock(autojump=False)
    answer = json_response(200, {"name": "vip", "type": "CUSTOM_ID", "indexing_state": "IN_PROGRESS"})
    client = AudienceClient(PROJECT, transport=FakeTransport(lambda _: answer), clock=clock)
    async with client:
        wait = asyncio.create_task(client.await_applied("vip:update:t"))
        await asyncio.sleep(0)
        with pytest.raises(InvalidInputError, match=r"another event loop.*close it in its own"):
            await asyncio.to_thread(asyncio.run, client.aclose())
        assert not wait.done()
        wait.cancel()
        await asyncio.gather(wait, return_exceptions=True)


async def test_a_client_that_was_not_opened_is_closed_anywhere() -> None:
    """There is nothing yet that belongs to a loop."""
    client = AudienceClient(PROJECT, transport=FakeTransport(refuse))
    await asyncio.to_thread(asyncio.run, client.aclose())
    assert "closed" in repr(client)


@pytest.mark.parametrize("request_built", [None, PRIVATE, dialect_for(PROJECT).build_view("vip")])
async def test_what_was_not_built_as_an_update_is_not_sent(request_built: Any) -> None:
    """Neither something else, nor a view, which brings no token."""
    async with AudienceClient(PROJECT, transport=FakeTransport(refuse)) as client:
        with pytest.raises(InvalidInputError, match="request must be an update or replace") as caught:
            await client.send_built(request_built, "vip")
    assert PRIVATE not in str(caught.value)


@pytest.mark.parametrize("name", [None, "a b"])
async def test_what_was_built_is_not_sent_without_a_name(name: Any) -> None:
    """An answer's token could not be kept."""
    request = dialect_for(PROJECT).build_update("vip", ["u1"], [])
    async with AudienceClient(PROJECT, transport=FakeTransport(refuse)) as client:
        with pytest.raises(InvalidInputError, match="audience name"):
            await client.send_built(request, name)
