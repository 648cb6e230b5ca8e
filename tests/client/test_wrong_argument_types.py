"""A client in hands that mean well: parts of a wrong kind, copies, other loops; each is told what to do."""

from __future__ import annotations

import asyncio
import copy
import functools
import io
import itertools
import pickle
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import pytest

from aiobatch import (
    App,
    AudienceClient,
    Event,
    IndexingToken,
    InvalidInputError,
    Limits,
    Operation,
    Project,
    ViewManyError,
)
from aiobatch._http import Request, Response
from aiobatch.dialects import dialect_for
from aiobatch.testing import FakeClock, FakeTransport, json_response

PROJECT = Project(rest_api_key="rest", project_key="project")
# A value that no error may repeat.
PRIVATE = "zoe@example.com"


def refuse(request: Request) -> Response:
    """Answer nothing: nothing may be sent."""
    msg = f"the {request.label} was sent"
    raise AssertionError(msg)


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


@pytest.mark.parametrize("on_progress", [5, PRIVATE, hear])
async def test_progress_that_nobody_can_be_told_of(on_progress: Any) -> None:
    """It is found before anything is sent, not logged with each chunk."""
    async with AudienceClient(PROJECT, transport=FakeTransport(refuse)) as client:
        with pytest.raises(InvalidInputError, match="on_progress must be a ") as caught:
            await client.upload("vip", add=["u1"], on_progress=on_progress)
    assert PRIVATE not in str(caught.value)


@pytest.mark.parametrize("method", ["update", "replace"])
async def test_an_endless_iterator_is_not_read_to_its_end(method: str) -> None:
    """One request takes 10,000 ids: more need not be counted to be refused."""
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        for taken in itertools.count(1):
            yield f"u{taken}"

    async with AudienceClient(PROJECT, transport=FakeTransport(refuse)) as client:
        with pytest.raises(InvalidInputError, match=r"more than 10,000 ids.*use upload\(\)"):
            await (
                client.update("vip", add=endless())
                if method == "update"
                else client.replace("vip", endless())
            )
    assert taken == 10_001


@pytest.mark.parametrize("method", ["update", "upload", "replace"])
async def test_the_lines_of_a_file_are_no_ids(method: str) -> None:
    """Each ends in a newline, and Batch would take it for a part of the id."""
    lines = io.StringIO(f"{PRIVATE}\nu2\n")
    async with AudienceClient(PROJECT, transport=FakeTransport(refuse)) as client:
        calls: Mapping[str, Callable[[], Awaitable[object]]] = {
            "update": lambda: client.update("vip", add=lines),
            "upload": lambda: client.upload("vip", add=lines),
            "replace": lambda: client.replace("vip", lines),
        }
        with pytest.raises(InvalidInputError, match=r"not the lines of a file.*strip\(\)") as caught:
            await calls[method]()
    assert PRIVATE not in str(caught.value)


async def test_the_text_of_another_audiences_token() -> None:
    """It is refused as the token itself is, and not taken for a bare one, which would never be APPLIED."""
    text = str(IndexingToken("gold", "t1", Operation.REPLACE))
    async with AudienceClient(PROJECT, transport=FakeTransport(refuse)) as client:
        with pytest.raises(InvalidInputError, match="the token is of audience 'gold', not 'vip'"):
            await client.await_applied(text, audience="vip")


async def test_no_token_where_one_was_meant() -> None:
    """A creation of 1.x has none, nor one whose answer was lost: there is nothing to wait for."""
    nothing: Any = None
    async with AudienceClient(PROJECT, transport=FakeTransport(refuse)) as client:
        with pytest.raises(InvalidInputError, match="cannot be None: where create and delete return none"):
            await client.await_applied(nothing)
        with pytest.raises(InvalidInputError, match="cannot be None"):
            [end async for end in client.settle([nothing])]


HUGE = -(10**5000)


async def test_numbers_that_cannot_be_written() -> None:
    """A number of thousands of digits is refused like any other, in words that do not spell it."""
    huge: Any = HUGE
    async with AudienceClient(PROJECT, transport=FakeTransport(refuse)) as client:
        with pytest.raises(InvalidInputError, match="concurrency must be a whole number"):
            await anext(client.view_many(["vip"], concurrency=huge))
        with pytest.raises(InvalidInputError, match="audience name must be a string, not int"):
            await client.await_applied("t1", audience=huge)
        with pytest.raises(ViewManyError) as caught:
            await anext(client.view_many([huge]))
    assert list(caught.value.errors) == ["int"]


@pytest.mark.parametrize(("read", "key"), [(App, "BATCH_PROJECT_KEY"), (Project, "BATCH_API_KEY")])
def test_the_other_apis_key_in_the_environment(read: type[App | Project], key: str) -> None:
    """The text says what reads it."""
    other = Project if read is App else App
    env = {"BATCH_REST_API_KEY": "rest", key: "other"}
    with pytest.raises(InvalidInputError, match=rf"or use {other.__name__}\.from_env\(\), as {key} is set"):
        read.from_env(env)


@pytest.mark.parametrize("env", [5, PRIVATE, []])
def test_an_environment_that_is_none(env: Any) -> None:
    """A mapping is, such as os.environ."""
    for read in (App, Project):
        with pytest.raises(
            InvalidInputError, match=r"env must be a mapping, such as os\.environ, not "
        ) as caught:
            read.from_env(env)
        assert PRIVATE not in str(caught.value)
