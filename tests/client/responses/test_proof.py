"""Answers that prove nothing about the audience or the write that was asked for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aiobatch import (
    AudienceClient,
    IndexingTimeoutError,
    IndexingToken,
    InvalidRequestError,
    MalformedResponseError,
    ResponseError,
    RetryPolicy,
    UploadError,
)
from aiobatch._client._seen_tokens import SeenTokens
from aiobatch.interfaces import Request, Response
from aiobatch.testing import FakeClock, FakeTransport, json_response

from ..arguments.rejections import TARGETS

FOREIGN = {"name": "gold", "type": "CUSTOM_ID", "nb_ids": 1, "indexing_state": "APPLIED"}


@pytest.fixture(params=list(TARGETS))
def version(request: pytest.FixtureRequest) -> str:
    """The API version."""
    return str(request.param)


def open_client(version: str, answer: Callable[[Request], Any], **kwargs: Any) -> AudienceClient:
    """Return a client in virtual time."""
    transport = FakeTransport(answer)
    return AudienceClient(TARGETS[version], transport=transport, clock=FakeClock(), **kwargs)


async def test_state_of_another_audience_ends_no_wait(version: str) -> None:
    """A cache that ignores queries answers for another audience, whose APPLIED proves nothing."""
    async with open_client(version, lambda _: json_response(200, FOREIGN)) as client:
        with pytest.raises(IndexingTimeoutError, match="about another audience") as caught:
            await client.await_applied(IndexingToken("vip", "t"), timeout=60)
        assert isinstance(caught.value.__cause__, MalformedResponseError)
        with pytest.raises(MalformedResponseError, match="about another audience"):
            await client.view("vip")
        with pytest.raises(MalformedResponseError, match="about another audience"):
            await client.check(IndexingToken("vip", "t"))


async def test_wait_ends_once_the_answer_is_about_its_audience(version: str) -> None:
    """The wait goes on until an answer names its audience."""
    own = FOREIGN | {"name": "vip"}
    answers: Iterator[Response] = iter([*[json_response(200, FOREIGN)] * 5, json_response(200, own)])
    async with open_client(version, lambda _: next(answers)) as client:
        assert (await client.await_applied(IndexingToken("vip", "t"))).name == "vip"


async def test_token_of_another_write_is_no_receipt(version: str) -> None:
    """Three chunks with one token are not three updates: after a second try the upload stops."""
    sent: list[Request] = []

    def answer(request: Request) -> Response:
        sent.append(request)
        return json_response(200, {"indexing_token": "same"})

    async with open_client(version, answer) as client:
        with pytest.raises(UploadError, match="the indexing token of another write") as caught:
            await client.upload("vip", add=(f"u{n}" for n in range(25_000)))
        assert len(caught.value.tokens) == 1
        with pytest.raises(MalformedResponseError, match="the indexing token of another write"):
            await client.replace("vip", ["u1"])
        assert isinstance(caught.value.__cause__, MalformedResponseError)
    assert len({request.body for request in sent}) < len(sent)


async def test_repeated_token_is_replaced_by_a_second_try(version: str) -> None:
    """If the next answer has a token of its own, the write has succeeded."""
    tokens = itertools.chain(["t1", "t1", "t2"])
    async with open_client(version, lambda _: json_response(200, {"indexing_token": next(tokens)})) as client:
        assert (await client.update("vip", add=["u1"])).value == "t1"
        assert (await client.update("vip", add=["u2"])).value == "t2"


async def test_token_that_was_awaited_belongs_to_no_later_write(version: str) -> None:
    """A token from another process is known once it is awaited."""

    def answer(request: Request) -> Response:
        own = FOREIGN | {"name": "vip"}
        return json_response(200, own if request.method == "GET" else {"indexing_token": "old"})

    async with open_client(version, answer) as client:
        await client.await_applied("vip:update:old")
        with pytest.raises(MalformedResponseError, match="the indexing token of another write"):
            await client.update("vip", add=["u1"])


def test_oldest_tokens_are_dropped() -> None:
    """Memory is bounded, and a token is known as long as 10,000 others came after it."""
    tokens = SeenTokens()
    assert all(tokens.add(f"t{number}") for number in range(10_001))
    assert tokens.add("t0")
    assert not tokens.add("t10000")


async def test_create_is_not_sent_again_for_its_token() -> None:
    """A create is not idempotent, so a repeated token leads to a look at the audience."""
    sent: list[str] = []

    def answer(request: Request) -> Response:
        sent.append(request.operation)
        return json_response(200, FOREIGN | {"name": request.audience, "indexing_token": "same"})

    async with open_client("2.x", answer) as client:
        assert await client.create("gold") is not None
        assert await client.create("vip") is None
    assert sent == ["create", "create", "view"]


async def test_reads_bypass_caches(version: str) -> None:
    """Every request asks caches not to answer, because 1.x has no header that keeps them from it."""
    transport = FakeTransport(lambda request: json_response(200, FOREIGN | {"name": request.audience}))
    async with AudienceClient(TARGETS[version], transport=transport, clock=FakeClock()) as client:
        await client.view("vip")
    assert transport.requests[0].headers["Cache-Control"] == "no-cache"


def endless(request: Request) -> Response:
    """Return a list without an end: the same page for any offset, and empty pages with new cursors."""
    rows = [{"name": f"a{number}", "type": "custom_ids", "nb_ids": 1} for number in range(100)]
    start = int(request.target.partition("from=")[2].partition("&")[0] or 0)
    if "custom-audience" in request.target:
        return json_response(200, {"custom_audiences": rows})
    return json_response(200, {"audiences": [], "has_more": True, "next_from": str(start + 1), "count": 0})


def repeating(request: Request) -> Response:
    """Return a list that cycles through two pages."""
    start = int(request.target.partition("from=")[2].partition("&")[0] or 0)
    rows = [{"name": f"a{(start // 100) % 2 * 100 + number}"} for number in range(100)]
    if "custom-audience" in request.target:
        return json_response(200, {"custom_audiences": rows})
    return json_response(200, {"audiences": rows, "has_more": True, "next_from": str(start + 100)})


async def _collect(client: AudienceClient, names: list[str]) -> None:
    """Add the names of a list, also of one that fails."""
    async for audience in client.list_audiences():
        names.append(audience.name)  # noqa: PERF401 - a comprehension would lose them


@pytest.mark.parametrize("answer", [endless, repeating])
async def test_list_without_an_end_is_an_error(version: str, answer: Callable[[Request], Response]) -> None:
    """A list ends with an error after a few pages that bring no new name."""
    transport = FakeTransport(answer)
    async with AudienceClient(TARGETS[version], transport=transport, clock=FakeClock()) as client:
        names: list[str] = []
        with pytest.raises(MalformedResponseError, match="pages repeat"):
            await _collect(client, names)
    assert len(names) == len(set(names))
    assert len(transport.requests) <= 6


@pytest.mark.parametrize("count", [10**12 + 1, 2**64 - 1])
async def test_absurd_count_is_unreadable(version: str, count: int, caplog: pytest.LogCaptureFixture) -> None:
    """A count of more IDs than a hundred for each human is None, with one warning."""
    body = FOREIGN | {"name": "vip", "nb_ids": count}
    async with open_client(version, lambda _: json_response(200, body)) as client:
        assert [(await client.view("vip")).nb_ids for _ in range(3)] == [None] * 3
    assert caplog.text.count("unreadable field ignored") == 1


async def test_unknown_states_are_bounded_and_masked(version: str, caplog: pytest.LogCaptureFixture) -> None:
    """New states without end, of any length and with a key in them, are logged a few times and cut."""
    keys = [secret.reveal() for secret in vars_of(version)]
    numbers = itertools.count()

    def answer(_: Request) -> Response:
        number = next(numbers)
        state = f"{keys[number % len(keys)]} {number} {'x' * 100_000}" if number < 200 else "APPLIED"
        return json_response(200, FOREIGN | {"name": "vip", "indexing_state": state})

    async with open_client(version, answer) as client:
        await client.await_applied(IndexingToken("vip", "t"), timeout=None)
    lines = [record.getMessage() for record in caplog.records]
    assert 1 <= len(lines) <= 20
    assert max(map(len, lines)) < 200
    assert not [line for line in lines for key in keys if key in line]


def vars_of(version: str) -> list[Any]:
    """Return the keys of a target."""
    target = TARGETS[version]
    return [target.rest_api_key, getattr(target, "api_key", None) or getattr(target, "project_key", None)]


@pytest.mark.parametrize("state", ["APPLIED ", "\tAPPLIED", "APPLIED\0", "applied", "APPLIED\u200b"])
async def test_other_spellings_of_applied_do_not_count(version: str, state: str) -> None:
    """A state is cleaned for logs, but it does not become another one."""
    body = FOREIGN | {"name": "vip", "indexing_state": state}
    async with open_client(version, lambda _: json_response(200, body)) as client:
        with pytest.raises(IndexingTimeoutError):
            await client.await_applied(IndexingToken("vip", "t"), timeout=60)


@pytest.mark.parametrize("operation", ["update", "replace"])
async def test_message_that_names_ids_is_masked(version: str, operation: str) -> None:
    """Neither an ID nor a part of it gets into the error, whose place and reason remain."""
    message = "ids[0].id 'alice@example.com' is malformed, as is bob-0123456789 (alice@exam...)"
    body = {"code": 31, "error_code": "MALFORMED_PARAMETER", "message": message, "error_message": message}
    async with open_client(
        version, lambda _: json_response(400, body), retry=RetryPolicy(attempts=1)
    ) as client:
        ids = ["alice@example.com", "bob-0123456789"]
        with pytest.raises(InvalidRequestError) as caught:
            await (client.update("vip", add=ids) if operation == "update" else client.replace("vip", ids))
    assert caught.value.message == "ids[0].id '***' is malformed, as is *** ***"
    assert "alice" not in str(caught.value)
    assert "012345" not in repr(vars(caught.value))


@pytest.mark.parametrize("value", [b"{}", b"[]", b"0", b'""'])
@pytest.mark.parametrize("status", [200, 400, 404, 500])
async def test_megabyte_of_small_values_is_not_read(version: str, value: bytes, status: int) -> None:
    """An answer of a third of a million values is malformed, or not Batch's, before it is decoded."""
    body = b'{"code":20,"name":"vip","indexing_state":"APPLIED","x":[' + b",".join([value] * 340_000) + b"]}"
    async with open_client(
        version, lambda _: Response(status=status, body=body), retry=RetryPolicy(attempts=1)
    ) as client:
        with pytest.raises((MalformedResponseError, ResponseError)) as caught:
            await client.view("vip")
    if status == 200:
        assert "too many values" in str(caught.value)
    else:
        assert isinstance(caught.value, ResponseError)
        assert (caught.value.is_foreign, caught.value.code) == (True, None)


async def test_longest_list_is_read(version: str) -> None:
    """A hundred audiences with long names and descriptions full of commas are read."""
    rows = [
        {"name": f"{n:03}".ljust(255, "x"), "description": ", " * 60, "display_name": ", " * 60, "nb_ids": n}
        for n in range(100)
    ]
    body = {"custom_audiences": rows[:99], "audiences": rows, "has_more": False, "count": 100}
    async with open_client(version, lambda _: json_response(200, body)) as client:
        assert len([audience async for audience in client.list_audiences()]) in {99, 100}
