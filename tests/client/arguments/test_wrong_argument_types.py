"""Constructor arguments of wrong types, copies of a client, and other event loops."""

from __future__ import annotations

import asyncio
import copy
import functools
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from aiobatch import App, AudienceClient, Event, InvalidInputError, Limits, Project
from aiobatch.testing import FakeClock, FakeTransport, json_response

from .rejections import PRIVATE, TARGETS, NoRequests

PROJECT = TARGETS["2.x"]


async def async_hook(_: Event) -> None:
    """Take an event in a coroutine that no one awaits."""


class AsyncHook:
    """An object whose call returns a coroutine."""

    async def __call__(self, event: Event) -> None:
        """Take an event."""


PARTS: Mapping[str, tuple[list[Any], str]] = {
    "retry": ([None, {}, Limits()], "retry must be of type RetryPolicy, not "),
    "polling": ([None, 5, Limits], "polling must be of type PollingPolicy, not "),
    "limits": ([None, {"rate": 1}, PRIVATE], "limits must be of type Limits, not "),
    "session": ([5, PRIVATE, object()], r"session must be an aiohttp\.ClientSession"),
    "on_event": ([5, PRIVATE, {}], "on_event must be a function or a list of functions, not "),
    "on_event async": (
        [async_hook, functools.partial(async_hook), AsyncHook()],
        "on_event must be a plain function",
    ),
    "on_event items": ([[5], (print, PRIVATE), {None}], r"on_event\[\d\] must be a function, not "),
    "on_event async items": ([[print, async_hook], iter([AsyncHook()])], r"on_event\[\d\] must be a plain"),
    "transport": ([0, PRIVATE, object], "transport .* must have the methods send, aclose"),
    "clock": ([0, PRIVATE, asyncio], "clock .* must have the methods monotonic, time"),
    "rng": ([0, 1, PRIVATE], "rng must be of type Random, not "),
}


@pytest.mark.parametrize("part", list(PARTS))
def test_constructor_rejects_wrong_types(part: str) -> None:
    """A wrong type is rejected when the client is created, not with the first request."""
    values, text = PARTS[part]
    for value in values:
        with pytest.raises(InvalidInputError, match=f"^{text}") as caught:
            AudienceClient(PROJECT, **{part.partition(" ")[0]: value})
        assert PRIVATE not in str(caught.value)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_client_cannot_be_copied(duplicate: Callable[[AudienceClient], object]) -> None:
    """A client cannot be copied or pickled, because a copy would share its connections."""
    client = AudienceClient(PROJECT, transport=NoRequests())
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        duplicate(client)


async def test_client_is_closed_in_its_own_loop() -> None:
    """Closing from another loop, such as a thread's, is rejected and changes nothing."""
    clock = FakeClock(autojump=False)
    answer = json_response(200, {"name": "vip", "type": "CUSTOM_ID", "indexing_state": "IN_PROGRESS"})
    client = AudienceClient(PROJECT, transport=FakeTransport(lambda _: answer), clock=clock)
    async with client:
        wait = asyncio.create_task(client.await_applied("vip:update:t"))
        await asyncio.sleep(0)
        with pytest.raises(InvalidInputError, match=r"another event loop.*Close it in its own"):
            await asyncio.to_thread(asyncio.run, client.aclose())
        assert not wait.done()
        wait.cancel()
        await asyncio.gather(wait, return_exceptions=True)


async def test_unopened_client_can_be_closed_in_any_loop() -> None:
    """A client that was not opened belongs to no loop."""
    client = AudienceClient(PROJECT, transport=NoRequests())
    await asyncio.to_thread(asyncio.run, client.aclose())
    assert "closed" in repr(client)


@pytest.mark.parametrize(("read", "key"), [(App, "BATCH_PROJECT_KEY"), (Project, "BATCH_API_KEY")])
def test_missing_key_suggests_the_other_api(read: type[App | Project], key: str) -> None:
    """If only the other API's key is set, the message names the method that reads it."""
    other = Project if read is App else App
    env = {"BATCH_REST_API_KEY": "rest", key: "other"}
    with pytest.raises(InvalidInputError, match=rf"{key} is set.*{other.__name__}\.from_env\(\)"):
        read.from_env(env)


@pytest.mark.parametrize("env", [5, PRIVATE, []])
def test_environment_must_be_a_mapping(env: Any) -> None:
    """`from_env` rejects anything but a mapping."""
    for read in (App, Project):
        with pytest.raises(
            InvalidInputError, match=r"env must be a mapping such as os\.environ, not "
        ) as caught:
            read.from_env(env)
        assert PRIVATE not in str(caught.value)
