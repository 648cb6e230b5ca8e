from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from contextlib import aclosing
from typing import Any

import orjson
import pytest

from aiobatch import (
    App,
    Audience,
    AudienceClient,
    AudienceNotFoundError,
    ForbiddenError,
    IndexingTimeoutError,
    IndexingToken,
    InvalidInputError,
    Limits,
    MalformedResponseError,
    Member,
    Operation,
    Outcome,
    PollingPolicy,
    Project,
    Settled,
    TokenReplacedError,
    UploadError,
    ViewManyError,
)
from aiobatch._client import send_built
from aiobatch.dialects import dialect_for
from aiobatch.interfaces import Request, Response
from aiobatch.testing import FakeClock, FakeTransport, json_response

from ..conftest import leaked_tasks
from .upload_target import stream

APP = App(rest_api_key="rest", api_key="app")
PROJECT = Project(rest_api_key="rest", project_key="project")
VIEW = {"name": "vip", "type": "CUSTOM_ID", "nb_ids": 3, "indexing_state": "APPLIED"}


def named(request: Request) -> str:
    """Return the audience of a view of 2.x."""
    return request.target.partition("name=")[2].partition("&")[0]


def token_of(request: Request) -> str:
    """Return the token of a view."""
    return request.target.partition("indexing_token=")[2]


def view_any(request: Request) -> Response:
    """Respond to the view of any audience. Names that begin with x do not exist."""
    name = named(request)
    if name.startswith("x"):
        return json_response(404, {"error_code": "ROUTE_NOT_FOUND"})
    return json_response(200, VIEW | {"name": name})


def accept(request: Request) -> Response:
    """Accept any write."""
    return json_response(202, {"indexing_token": "t1"})


def make(
    answer: Callable[[Request], Any] | Iterable[Any], target: App | Project = PROJECT, **kwargs: Any
) -> tuple[AudienceClient, FakeTransport]:
    """Return a client on a fake clock, and its transport."""
    transport = FakeTransport(answer)
    return AudienceClient(target, transport=transport, clock=FakeClock(), **kwargs), transport


async def test_create_returns_the_token() -> None:
    """In 2.x a create returns a token of its own operation."""
    client, transport = make(accept)
    async with client:
        token = await client.create("vip", description="Our best")

    assert token == IndexingToken("vip", "t1", Operation.CREATE)
    assert orjson.loads(transport.requests[0].body)["display_name"] == "Our best"


async def test_create_of_1x_returns_none() -> None:
    """1.x has no token for a create."""
    client, _ = make([json_response(200, {})], APP)
    async with client:
        assert await client.create("vip") is None


async def test_create_looks_before_it_resends() -> None:
    """After a lost response the client views the audience first."""
    client, transport = make([json_response(500, {}), json_response(200, VIEW)])
    async with client:
        assert await client.create("vip") is None

    assert [request.operation for request in transport.requests] == ["create", "view"]


async def test_view_returns_the_audience() -> None:
    """A view is one request and one audience."""
    client, transport = make(view_any)
    async with client:
        audience = await client.view("vip")

    assert (audience.name, audience.nb_ids) == ("vip", 3)
    assert len(transport.requests) == 1


async def test_delete_returns_the_token() -> None:
    """A delete of 2.x returns a token, a delete of 1.x None."""
    client, _ = make(accept)
    async with client:
        assert await client.delete("vip") == IndexingToken("vip", "t1", Operation.DELETE)
    client, _ = make([json_response(200, {})], APP)
    async with client:
        assert await client.delete("vip") is None


@pytest.mark.parametrize("style", [list, iter, stream, dict.fromkeys])
async def test_view_many_yields_all(style: Callable[[list[str]], Any]) -> None:
    """Every audience is yielded once, from any kind of iterable and from the keys of a mapping."""
    names = [f"a{number}" for number in range(30)]
    client, _ = make(view_any)
    async with client:
        seen = [audience.name async for audience in client.view_many(style(names), concurrency=4)]

    assert sorted(seen) == sorted(names)


async def test_view_many_raises_failures_last() -> None:
    """Failures are raised together by name, after all audiences."""
    client, _ = make(view_any)
    seen: list[Audience] = []
    async with client:
        audiences = client.view_many(["a", "x1", "b", "x2"])
        seen += [await anext(audiences), await anext(audiences)]
        with pytest.raises(ViewManyError) as caught:
            await anext(audiences)

    assert sorted(audience.name for audience in seen) == ["a", "b"]
    assert {name: type(error) for name, error in caught.value.errors.items()} == {
        "x1": AudienceNotFoundError,
        "x2": AudienceNotFoundError,
    }


async def test_missing_ok_skips_missing_audiences() -> None:
    """With missing_ok only other errors are failures."""

    def answer(request: Request) -> Response:
        return json_response(403, {}) if named(request) == "no" else view_any(request)

    client, _ = make(answer)
    async with client:
        seen = [audience.name async for audience in client.view_many(["a", "x"], missing_ok=True)]
        with pytest.raises(ViewManyError) as caught:
            async for _ in client.view_many(["a", "x", "no"], missing_ok=True):
                pass

    assert seen == ["a"]
    assert list(caught.value.errors) == ["no"]


@pytest.mark.parametrize(("concurrency", "most"), [(None, 6), (4, 4), (50, 6)])
async def test_view_many_keeps_to_its_limit(concurrency: int | None, most: int) -> None:
    """The number of concurrent views never exceeds *concurrency* and `Limits.in_flight`."""
    under_way = peak = 0

    async def answer(request: Request) -> Response:
        nonlocal under_way, peak
        under_way += 1
        peak = max(peak, under_way)
        await client._clock.sleep(1)
        under_way -= 1
        return view_any(request)

    client, _ = make(answer, limits=Limits(in_flight=6))
    async with client:
        async for _ in client.view_many(map(str, range(40)), concurrency=concurrency):
            pass

    assert peak == most


async def test_abandoned_view_many_leaves_no_task() -> None:
    """A loop left by `break` ends its views, when it is closed or collected."""
    client, _ = make(view_any)
    async with client:
        async with aclosing(client.view_many(map(str, range(1000)))) as audiences:
            async for _ in audiences:
                break
        assert not await leaked_tasks()
        async for _ in client.view_many(map(str, range(1000))):
            break
        gc.collect()
        assert not await leaked_tasks()


def _page(names: list[str], following: str | None) -> Response:
    rows = [VIEW | {"name": name} for name in names]
    more = {"has_more": True, "next_from": following} if following else {"has_more": False}
    return json_response(200, {"audiences": rows, **more})


async def test_list_yields_each_audience_once() -> None:
    """Pages may overlap if audiences are created meanwhile, but none is yielded twice."""
    client, transport = make([_page(["a", "b"], "2"), _page(["b", "c"], "3"), _page([], None)])
    async with client:
        assert [audience.name async for audience in client.list_audiences()] == ["a", "b", "c"]
    assert len(transport.requests) == 3


async def test_repeated_page_ends_the_list() -> None:
    """A cursor that repeats would never end."""
    client, _ = make([_page(["a"], "2"), _page(["b"], "3"), _page(["c"], "2")])
    async with client:
        with pytest.raises(MalformedResponseError, match=r"does not end\. After . audiences, pages repeat"):
            async for _ in client.list_audiences():
                pass


@pytest.mark.parametrize("operation", [Operation.UPDATE, Operation.REPLACE])
async def test_built_request_returns_its_token(operation: Operation) -> None:
    """A request that was built elsewhere returns a token, and a closed client rejects it."""
    client, transport = make(accept)
    dialect = dialect_for(PROJECT)
    request = (
        dialect.build_update("vip", ["u1"], [])
        if operation is Operation.UPDATE
        else dialect.build_replace("vip", ["u1"])
    )
    async with client:
        assert await send_built(client, request) == IndexingToken("vip", "t1", operation)
    assert transport.requests == [request]
    with pytest.raises(InvalidInputError, match="closed"):
        await send_built(client, request)


async def test_update_is_one_request() -> None:
    """IDs and Members, to add and to remove, are sent in one request."""
    client, transport = make(accept)
    async with client:
        token = await client.update(
            "vip", add=["u1", Member("u2", attributes={"age": 4})], remove=iter(["u3"])
        )

    assert token == IndexingToken("vip", "t1", Operation.UPDATE)
    assert orjson.loads(transport.requests[0].body)["ids"] == [
        {"action": "add", "id": "u1"},
        {"action": "add", "id": "u2", "attributes": {"age": 4}},
        {"action": "remove", "id": "u3"},
    ]


async def test_replace_is_one_request() -> None:
    """The given IDs become the only members."""
    client, transport = make(accept)
    async with client:
        token = await client.replace("vip", ("u1", "u2"))

    assert token == IndexingToken("vip", "t1", Operation.REPLACE)
    assert [request.operation for request in transport.requests] == ["replace"]


async def test_upload_sends_chunks() -> None:
    """An upload returns one token for each chunk, in order."""
    numbers = iter(range(1000))
    client, transport = make(lambda _: json_response(202, {"indexing_token": f"t{next(numbers)}"}))
    heard: list[int] = []
    async with client:
        tokens = await client.upload("vip", add=map(str, range(25_000)), on_progress=heard.append)

    assert [token.value for token in tokens] == ["t0", "t1", "t2"]
    assert [len(orjson.loads(request.body)["ids"]) for request in transport.requests] == [
        10_000,
        10_000,
        5000,
    ]
    assert heard[-1] == 25_000


async def test_failed_upload_reports_its_tokens() -> None:
    """The error contains the tokens of the accepted chunks."""
    answers = [json_response(202, {"indexing_token": "t0"}), json_response(403, {})]
    client, _ = make(answers, limits=Limits(uploads_in_flight=1))
    async with client:
        with pytest.raises(UploadError) as caught:
            await client.upload("vip", add=map(str, range(15_000)))

    assert caught.value.tokens == ("vip:update:t0",)
    assert caught.value.sent == (("add", range(10_000)),)
    assert isinstance(caught.value.__cause__, ForbiddenError)


@pytest.mark.parametrize(
    ("token", "audience"),
    [
        (IndexingToken("vip", "a:b"), None),
        (IndexingToken("vip", "a:b"), "vip"),
        ("vip:update:a:b", None),
        ("vip:update:a:b", "vip"),
        ("a:b", "vip"),
    ],
)
async def test_await_applied_takes_any_form_of_a_token(token: Any, audience: str | None) -> None:
    """A token, its text, and Batch's bare token with its audience are equivalent."""
    client, transport = make(view_any)
    async with client:
        await client.await_applied(token, audience=audience)

    assert named(transport.requests[0]) == "vip"
    assert token_of(transport.requests[0]) == "a%3Ab"


@pytest.mark.parametrize(("timeout", "waited"), [({}, 60.0), ({"timeout": 5}, 5.0)])
async def test_timeout_of_a_wait(timeout: dict[str, Any], waited: float) -> None:
    """The timeout is the call's, or else the policy's."""
    client, _ = make(
        lambda _: json_response(200, VIEW | {"indexing_state": "IN_PROGRESS"}),
        polling=PollingPolicy(timeout=60),
    )
    async with client:
        with pytest.raises(IndexingTimeoutError) as caught:
            await client.await_applied("vip:update:t", **timeout)

    assert caught.value.waited == pytest.approx(waited, abs=0.05)


async def test_timeout_of_none_is_no_limit() -> None:
    """Without a timeout the wait ends with the token."""
    clock_started = []

    def answer(request: Request) -> Response:
        clock_started.append(client._clock.monotonic())
        state = "APPLIED" if client._clock.monotonic() > 5000 else "IN_PROGRESS"
        return json_response(200, VIEW | {"indexing_state": state})

    client, _ = make(answer)
    async with client:
        await client.await_applied("vip:update:t", timeout=None)

    assert clock_started[-1] > 5000


async def test_new_token_is_not_polled_early() -> None:
    """A token that this client has just received is not polled before it can be applied."""
    client, transport = make(lambda request: accept(request) if request.body else view_any(request))
    async with client:
        token = await client.update("vip", add=["u1"])
        await client.await_applied(token)
        assert client._clock.monotonic() > 0.2
    assert len(transport.requests) == 2


async def settled(client: AudienceClient, tokens: Iterable[Any], **kwargs: Any) -> list[Settled]:
    """Return the outcomes of all tokens."""
    return [one async for one in client.settle(tokens, **kwargs)]


async def test_settle_yields_every_outcome_once() -> None:
    """Each token has its own outcome, and a repeated token is yielded once."""
    states = {"t1": "APPLIED", "t2": "REPLACED", "t3": "IN_PROGRESS"}

    def answer(request: Request) -> Response:
        state = states.get(token_of(request))
        if state is None:
            return json_response(403, {})
        return json_response(200, VIEW | {"name": request.audience, "indexing_state": state})

    client, _ = make(answer)
    tokens = ["vip:update:t1", IndexingToken("gold", "t2"), "tin:update:t3", "no:update:t4"]
    async with client:
        ends = await settled(client, [*tokens, *tokens], timeout=20)

    found = {one.token.value: (one.outcome, type(one.error)) for one in ends}
    assert len(ends) == 4
    assert found == {
        "t1": (Outcome.APPLIED, type(None)),
        "t2": (Outcome.REPLACED, TokenReplacedError),
        "t3": (Outcome.TIMED_OUT, IndexingTimeoutError),
        "t4": (Outcome.FAILED, ForbiddenError),
    }
    assert [one.audience is not None for one in ends].count(True) == 1
    assert ends[-1].token.value == "t3"


async def test_settle_checks_all_tokens_first() -> None:
    """An invalid token is rejected before any wait starts."""
    client, transport = make(view_any)
    async with client:
        with pytest.raises(InvalidInputError, match="Not the text of an indexing token"):
            await settled(client, ["vip:update:t", "nonsense"])
    assert transport.requests == []
