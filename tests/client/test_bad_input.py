from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any

import aiohttp
import pytest

from aiobatch import (
    App,
    AudienceClient,
    IdType,
    IndexingToken,
    InvalidInputError,
    Limits,
    Member,
    PollingPolicy,
    Project,
    RetryPolicy,
    UploadError,
    ViewManyError,
)
from aiobatch._http import Request, Response
from aiobatch.testing import FakeTransport, json_response

TARGETS: Mapping[str, App | Project] = {
    "1.0": App(rest_api_key="rest", api_key="app"),
    "1.1": App(rest_api_key="rest", api_key="app", version="1.1"),
    "2.x": Project(rest_api_key="rest", project_key="project"),
}
# A value that no error may repeat.
PRIVATE = "zoe@example.com"

Call = Callable[[AudienceClient], Awaitable[object]]


class Silence(FakeTransport):
    """A transport that nobody may reach."""

    def __init__(self) -> None:
        super().__init__(self._refuse)

    def _refuse(self, request: Request) -> Response:
        msg = f"the {request.label} was sent"
        raise AssertionError(msg)


@pytest.fixture(params=list(TARGETS))
def label(request: pytest.FixtureRequest) -> str:
    """The API; a test may override this."""
    return str(request.param)


@pytest.fixture
async def client(label: str) -> AsyncIterator[AudienceClient]:
    """A client that must send nothing."""
    transport = Silence()
    async with AudienceClient(TARGETS[label], transport=transport) as client:
        yield client
    assert transport.requests == []


async def collect(items: AsyncIterator[object]) -> list[object]:
    """Run an asynchronous iterator to its end."""
    return [item async for item in items]


async def stream(items: Iterable[Any]) -> AsyncIterator[Any]:
    """Yield items asynchronously."""
    for item in items:
        yield item


def said(error: pytest.ExceptionInfo[BaseException]) -> str:
    """Return the text of an error that is a ValueError and repeats nothing private."""
    assert isinstance(error.value, ValueError)
    text = str(error.value)
    assert PRIVATE not in text
    return text


NAMES: Mapping[str, tuple[Any, str]] = {
    "empty": ("", "0 characters.*give 1 to 255 letters, digits, '_' or '-'"),
    "too long": ("a" * 256, "256 characters.*give 1 to 255"),
    "slash": ("a/b", "give 1 to 255"),
    "dot-dot": ("..", "give 1 to 255"),
    "space": ("a b", "give 1 to 255"),
    "percent": ("a%2Fb", "give 1 to 255"),
    "newline": ("vip\n", "give 1 to 255"),
    "accent": ("é", "give 1 to 255"),
    "query": ("vip?x=1", "give 1 to 255"),
    "number": (5, "must be a string, not int"),
    "none": (None, "must be a string, not None"),
    "bytes": (b"vip", "must be a string, not bytes"),
    "list": (["vip"], "must be a string, not list"),
}

BY_NAME: Mapping[str, Callable[[AudienceClient, Any], Awaitable[object]]] = {
    "create": lambda client, name: client.create(name),
    "view": lambda client, name: client.view(name),
    "update": lambda client, name: client.update(name, add=["u1"]),
    "replace": lambda client, name: client.replace(name, ["u1"]),
    "upload": lambda client, name: client.upload(name, add=["u1"]),
    "delete": lambda client, name: client.delete(name),
    "token": lambda client, name: client.await_applied("abc", audience=name),
}


@pytest.mark.parametrize("method", list(BY_NAME))
@pytest.mark.parametrize("name", list(NAMES))
async def test_a_name_that_cannot_be_one(client: AudienceClient, method: str, name: str) -> None:
    """Every method that takes a name refuses it and says what a name is made of."""
    value, text = NAMES[name]
    if (method, name) == ("token", "none"):
        text = "not an indexing token"  # no audience beside a bare token
    with pytest.raises(InvalidInputError, match=text) as caught:
        await BY_NAME[method](client, value)
    said(caught)


@pytest.mark.parametrize("name", list(NAMES))
async def test_a_name_among_many_that_cannot_be_one(client: AudienceClient, name: str) -> None:
    """`view_many` names it together with all other failures."""
    value, text = NAMES[name]
    with pytest.raises(ViewManyError) as caught:
        await collect(client.view_many([value]))
    (error,) = caught.value.exceptions
    assert isinstance(error, InvalidInputError)
    with pytest.raises(InvalidInputError, match=text):
        raise error


IDS: Mapping[str, tuple[Any, str]] = {
    "empty": ("", "must not be empty; leave it out"),
    "number": (5, "must be a string, not int; write it as Batch knows it"),
    "none": (None, "must be a string, not None"),
    "bytes": (PRIVATE.encode(), "must be a string, not bytes"),
    "float": (math.nan, "must be a string, not float"),
    "list": ([PRIVATE], "must be a string, not list"),
    "dict": ({"id": PRIVATE}, "must be a string, not dict"),
    "too long": (PRIVATE + "x" * 1010, "an id of 1025 characters is too long, at most 1024"),
    "nul": (PRIVATE + "\0", "must not hold a NUL character"),
    "surrogate": (PRIVATE + "\ud800", "must be valid Unicode"),
}
PLACES: Mapping[str, Callable[[AudienceClient, Any], Awaitable[object]]] = {
    "add[1]": lambda client, value: client.update("vip", add=["u1", value], remove=["u3"]),
    "remove[2]": lambda client, value: client.update("vip", add=["u0"], remove=["u1", "u2", value]),
    "members[1]": lambda client, value: client.replace("vip", ["u1", value]),
    "add[10001]": lambda client, value: client.upload(
        "vip", add=[*map(str, range(10_001)), value], remove=["x"]
    ),
    "remove[10001]": lambda client, value: client.upload(
        "vip", add=["x"], remove=[*map(str, range(10_001)), value]
    ),
}


@pytest.mark.parametrize("place", list(PLACES))
@pytest.mark.parametrize("kind", list(IDS))
async def test_an_id_that_cannot_be_one(client: AudienceClient, kind: str, place: str) -> None:
    """Its place is named, and never its value."""
    value, text = IDS[kind]
    with pytest.raises(InvalidInputError, match=text) as caught:
        await PLACES[place](client, value)
    assert said(caught).startswith(f"{place}: an id ")


@pytest.mark.parametrize("kind", [kind for kind in IDS if kind != "list"])
async def test_a_member_with_such_an_id(kind: str) -> None:
    """It cannot be made in the first place."""
    value, text = IDS[kind]
    with pytest.raises(InvalidInputError, match=f"Member.id: .*{text}") as caught:
        Member(value)
    said(caught)


def _token(request: Request) -> Response:
    """Accept a write."""
    return json_response(202, {"indexing_token": f"t{len(request.body)}"})


@pytest.mark.parametrize("style", [iter, stream])
@pytest.mark.parametrize("name", ["add", "remove"])
async def test_an_id_far_into_a_stream_that_cannot_be_one(
    style: Callable[[list[Any]], Any], name: str
) -> None:
    """What came before it is sent and accounted for; its place is that in the stream."""
    ids: list[Any] = [*map(str, range(20_005)), PRIVATE + "\0", "last"]
    transport = FakeTransport(_token)
    async with AudienceClient(TARGETS["2.x"], transport=transport) as client:
        with pytest.raises(UploadError, match="Not sent") as caught:
            await client.upload("vip", **{name: style(ids)})
    error = caught.value
    assert isinstance(error.__cause__, InvalidInputError)
    assert str(error.__cause__).startswith(f"{name}[20005]: an id must not hold a NUL")
    assert PRIVATE not in str(error.__cause__) + str(error)
    assert error.not_sent == ((name, range(20_000, 20_007)),)
    assert len(error.tokens) == len(transport.requests) == 2


@pytest.mark.parametrize("style", [iter, stream])
async def test_an_id_in_both_streams_of_an_upload(style: Callable[[list[Any]], Any]) -> None:
    """Where both land in one chunk, their places in the streams are named."""
    add, remove = [f"u{number}" for number in range(10_005)], ["x", "u10003"]
    transport = FakeTransport(_token)
    async with AudienceClient(TARGETS["2.x"], transport=transport) as client:
        with pytest.raises(UploadError) as caught:
            await client.upload("vip", add=style(add), remove=style(remove))
    assert str(caught.value.__cause__).startswith("add[10003] stands in remove as well")
    assert len(transport.requests) == 1


LISTS: Mapping[str, tuple[Call, str]] = {
    "10,001 ids": (
        lambda c: c.update("vip", add=map(str, range(6000)), remove=map(str, range(6000, 10_001))),
        "10,001 IDs are too many: .* Use upload",
    ),
    "10,001 members": (
        lambda c: c.replace("vip", [str(number) for number in range(10_001)]),
        "10,001 IDs are too many: .* Use upload",
    ),
    "an id in both lists": (
        lambda c: c.update("vip", add=["u1", PRIVATE], remove=["u3", "u4", PRIVATE]),
        r"add\[1\] and remove\[2\] are the same ID",
    ),
    "a member in both lists": (
        lambda c: c.update("vip", add=["u1", Member(PRIVATE)], remove=[Member(PRIVATE)]),
        r"add\[1\] and remove\[0\] are the same ID",
    ),
    "an id in both lists of an upload": (
        lambda c: c.upload("vip", add=["u1", PRIVATE], remove=[PRIVATE]),
        r"add\[1\].*remove",
    ),
    "no ids": (lambda c: c.update("vip"), "at least one ID in add or remove"),
    "empty lists": (lambda c: c.update("vip", add=[], remove=iter(())), "no IDs"),
    "no members": (lambda c: c.replace("vip", []), "at least one ID, or delete the audience"),
}


@pytest.mark.parametrize("case", list(LISTS))
async def test_lists_of_ids_that_cannot_be_meant(client: AudienceClient, case: str) -> None:
    """Too many, too few, contradicting, or one id in the place of many."""
    call, text = LISTS[case]
    with pytest.raises(InvalidInputError, match=text) as caught:
        await call(client)
    said(caught)


NO_LIST: Mapping[str, Any] = {
    "str": PRIVATE,
    "bytes": PRIVATE.encode(),
    "Member": Member(PRIVATE),
    "int": 5,
    "NoneType": None,
    "dict": {PRIVATE: 1},
}


@pytest.mark.parametrize("kind", list(NO_LIST))
@pytest.mark.parametrize(
    ("method", "field"),
    [
        ("update", "add"),
        ("update", "remove"),
        ("replace", "members"),
        ("upload", "add"),
        ("upload", "remove"),
    ],
)
async def test_one_thing_in_the_place_of_a_list(
    client: AudienceClient, method: str, field: str, kind: str
) -> None:
    """A string is not the ids of its letters; the text says how to write one id."""
    text = rf'{field} must be (a list|an iterable) of ids, not {kind}; for one id write {field}=\["…"\]'
    with pytest.raises(InvalidInputError, match=text) as caught:
        await getattr(client, method)("vip", **{field: NO_LIST[kind]})
    said(caught)


async def test_a_stream_in_the_place_of_a_list(client: AudienceClient) -> None:
    """One request takes what is there; `upload` takes streams."""
    with pytest.raises(InvalidInputError, match="add must be a list of ids, not async_generator"):
        await client.update("vip", add=stream(["u1"]))  # type: ignore[arg-type]  # the mistake tested


ATTRIBUTES: Mapping[str, tuple[Any, str]] = {
    "sixteen": (
        {f"a{number}": 1 for number in range(16)},
        "attributes: 16 given, at most 15 per id; leave some out",
    ),
    "name of a wrong type": ({5: 1}, "attributes: a name must be a string, not int"),
    "empty name": ({"": 1}, "attributes: a name must not be empty"),
    "empty typed name": ({"date()": 1}, "attributes: a name must not be empty"),
    "nan": ({"score": math.nan}, r"attributes\['score'\]: must be a finite number"),
    "infinity": ({"score": math.inf}, r"attributes\['score'\]: must be a finite number"),
    "none": ({"score": None}, r"attributes\['score'\]: must be a string, integer, float, boolean or a list"),
    "object": ({"score": {"x": PRIVATE}}, r"attributes\['score'\]: must be a string, .*not dict"),
    "nan in a list": ({"scores": [1, math.nan]}, r"attributes\['scores'\]\[1\]: must be a finite number"),
    "list in a list": ({"scores": [[1]]}, r"attributes\['scores'\]\[0\]: must be a string"),
    "no date": ({"date(born)": PRIVATE}, r"attributes\['date\(born\)'\]: must be a datetime or an ISO 8601"),
    "no url": (
        {"url(site)": PRIVATE},
        r"attributes\['url\(site\)'\]: must be a string that starts with http",
    ),
    "no mapping": ([("a", 1)], "attributes must be a mapping of name to value, not list"),
    "big": ({"n": 2**63}, r"attributes\['n'\]: an integer must fit 64 bits"),
}


@pytest.mark.parametrize("case", list(ATTRIBUTES))
def test_attributes_that_batch_would_refuse(case: str) -> None:
    """The attribute is named, its value is not."""
    attributes, text = ATTRIBUTES[case]
    with pytest.raises(InvalidInputError, match=text) as caught:
        Member("u1", attributes=attributes)
    said(caught)


@pytest.mark.parametrize("tags", ["gold", [5], [""], 5, None, {"a": 1}.items()])
def test_tags_that_batch_would_refuse(tags: Any) -> None:
    """A bare string is no list of tags."""
    with pytest.raises(InvalidInputError, match=r"^tags(\[0\])? must be a") as caught:
        Member("u1", tags=tags)
    said(caught)


TAGGED, RATED = Member("u2", tags=["gold"]), Member("u2", attributes={"age": 5})


@pytest.mark.parametrize(
    ("label", "member", "text"),
    [
        ("1.0", TAGGED, r"add\[1\]: Custom Audience API 1.0 accepts no tags"),
        ("2.x", TAGGED, r"add\[1\]: Audience API 2.11 accepts no tags"),
        ("1.0", RATED, r"add\[1\]: Custom Audience API 1.0 accepts no attributes"),
    ],
)
async def test_what_a_version_does_not_take_beside_an_id(
    client: AudienceClient, member: Member, text: str
) -> None:
    """The place is named, and the version that does take it."""
    with pytest.raises(InvalidInputError, match=text):
        await client.update("vip", add=["u1", member])
    with pytest.raises(InvalidInputError, match=text.replace("add", "members")):
        await client.replace("vip", ["u1", member])


@pytest.mark.parametrize("label", ["1.1"])
@pytest.mark.parametrize("member", [TAGGED, RATED])
async def test_ids_to_remove_stand_alone(client: AudienceClient, member: Member) -> None:
    """Only IDs to add can have attributes and tags."""
    with pytest.raises(InvalidInputError, match=r"remove\[0\]: only IDs to add can have attributes"):
        await client.update("vip", remove=[member])


@pytest.mark.parametrize(
    ("label", "id_type", "text"),
    [
        (
            "1.0",
            IdType.INSTALL_IDS,
            r"1.0 accepts custom_ids and advertising_ids, not install_ids.*version='1.1'",
        ),
        ("1.1", IdType.CUSTOM_IDS, r"1.1 accepts install_ids, not custom_ids.*version='1.0'.*or Project"),
        ("1.1", IdType.ADVERTISING_IDS, r"1.1 accepts install_ids, not advertising_ids.*version='1.0'"),
        ("2.x", IdType.ADVERTISING_IDS, r"2.11 accepts custom_ids, not advertising_ids.*version='1.0'"),
        ("2.x", IdType.INSTALL_IDS, r"2.11 accepts custom_ids, not install_ids.*version='1.1'"),
        ("1.0", "emails", "id_type 'emails' is unknown"),
        ("2.x", 5, "id_type must be an IdType"),
    ],
)
@pytest.mark.parametrize("method", ["create", "update", "replace", "upload"])
async def test_ids_of_a_type_that_the_version_does_not_take(
    client: AudienceClient, method: str, id_type: Any, text: str
) -> None:
    """The text names what does take them."""
    calls: Mapping[str, Call] = {
        "create": lambda c: c.create("vip", id_type=id_type),
        "update": lambda c: c.update("vip", add=["u1"], id_type=id_type),
        "replace": lambda c: c.replace("vip", ["u1"], id_type=id_type),
        "upload": lambda c: c.upload("vip", add=["u1"], id_type=id_type),
    }
    with pytest.raises(InvalidInputError, match=text):
        await calls[method](client)


@pytest.mark.parametrize("description", [5, b"Our best", ["x"], "\ud800"])
async def test_a_description_that_is_no_text(client: AudienceClient, description: Any) -> None:
    """It must be a string that can be written."""
    with pytest.raises(InvalidInputError, match=r"^description must be"):
        await client.create("vip", description=description)


@pytest.mark.parametrize(
    "key", ["", " ", "\t\n", "secret\n", "sec ret", "sécret", "se\0cret", None, 5, b"secret"]
)
@pytest.mark.parametrize("field", ["rest_api_key", "api_key", "project_key"])
def test_a_key_that_cannot_be_one(field: str, key: Any) -> None:
    """It is refused where it is given, and not shown."""
    kind = Project if field == "project_key" else App
    keys = {"rest_api_key": "rest", "project_key" if kind is Project else "api_key": "key"}
    with pytest.raises(InvalidInputError, match=r"key must (be|not be)") as caught:
        kind(**(keys | {field: key}))
    assert "cret" not in said(caught)


@pytest.mark.parametrize("variable", ["BATCH_REST_API_KEY", "BATCH_API_KEY", "BATCH_PROJECT_KEY"])
@pytest.mark.parametrize("value", [None, "", "a\nb"])
def test_a_key_missing_from_the_environment(variable: str, value: str | None) -> None:
    """A missing or empty one is named."""
    env = {"BATCH_REST_API_KEY": "rest", "BATCH_API_KEY": "app", "BATCH_PROJECT_KEY": "project"}
    kind = Project if variable == "BATCH_PROJECT_KEY" else App
    del env[variable]
    if value is not None:
        env[variable] = value
    text = "key must" if value == "a\nb" else f"environment variable {variable} is not set"
    with pytest.raises(InvalidInputError, match=text):
        kind.from_env(env)


@pytest.mark.parametrize(
    ("base_url", "text"),
    [
        ("http://api.batch.com", "plain http is for a loopback address only.*use https"),
        ("http://10.0.0.1:8080", "plain http is for a loopback address only"),
        ("http://127.0.0.1.example.com", "plain http is for a loopback address only"),
        ("http://localhost.example.com", "plain http is for a loopback address only"),
        ("ftp://api.batch.com", "base_url must be an origin"),
        ("api.batch.com", "base_url must be an origin"),
        ("https://", "base_url must be an origin"),
        ("https://user:secret@api.batch.com", "base_url must be an origin"),
        ("https://api.batch.com/1.0", "base_url must be an origin"),
        ("https://api.batch.com?x=1", "base_url must be an origin"),
        ("https://api.batch.com:port", "base_url must be an origin"),
        ("https://api.batch.com\n", "base_url must be an origin"),
        ("", "base_url must be an origin"),
        (5, "base_url must be an origin"),
    ],
)
def test_an_address_that_keys_may_not_go_to(base_url: Any, text: str) -> None:
    """Refused when the client is made."""
    with pytest.raises(InvalidInputError, match=text) as caught:
        AudienceClient(TARGETS["1.0"], base_url=base_url)
    assert "secret" not in said(caught)


def test_an_address_in_the_environment_is_held_to_the_same_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """BATCH_BASE_URL is no way around them."""
    monkeypatch.setenv("BATCH_BASE_URL", "http://api.batch.com")
    with pytest.raises(InvalidInputError, match="plain http"):
        AudienceClient(TARGETS["1.0"])


NO_SECONDS = [0, -1, -0.5, math.nan, math.inf, "5", True, [5]]


@pytest.mark.parametrize("timeout", NO_SECONDS, ids=repr)
async def test_a_timeout_that_is_none(client: AudienceClient, timeout: Any) -> None:
    """For one token and for many; None is the way to say for ever."""
    token = IndexingToken("vip", "abc")
    with pytest.raises(InvalidInputError, match=r"^timeout must be"):
        await client.await_applied(token, timeout=timeout)
    with pytest.raises(InvalidInputError, match=r"^timeout must be"):
        await collect(client.settle([token], timeout=timeout))
    assert client.stats.tokens == 0


@pytest.mark.parametrize("value", NO_SECONDS, ids=repr)
@pytest.mark.parametrize(
    ("policy", "field"),
    [
        *((RetryPolicy, field) for field in ("timeout", "request_timeout", "initial", "maximum")),
        *(
            (PollingPolicy, field)
            for field in ("timeout", "poll_cost", "minimum", "maximum", "failure_maximum", "rate")
        ),
        *((Limits, field) for field in ("rate", "pause_initial", "pause_maximum")),
    ],
)
def test_times_and_rates_of_a_policy(policy: type[Any], field: str, value: Any) -> None:
    """Above 0, finite, and numbers."""
    with pytest.raises(InvalidInputError, match=rf"\b{field} must be"):
        policy(**{field: value})


@pytest.mark.parametrize("value", [0, -1, 1.5, math.nan, "5", True, None])
@pytest.mark.parametrize(
    ("policy", "field"),
    [
        (RetryPolicy, "attempts"),
        (RetryPolicy, "budget"),
        (PollingPolicy, "in_flight"),
        (Limits, "in_flight"),
        (Limits, "uploads_in_flight"),
        (Limits, "response_bytes"),
    ],
)
def test_counts_of_a_policy(policy: type[Any], field: str, value: Any) -> None:
    """Whole numbers from 1."""
    with pytest.raises(InvalidInputError, match=rf"\b{field} must be a whole number of at least 1"):
        policy(**{field: value})


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, math.nan, "5", True])
async def test_a_concurrency_that_is_none(client: AudienceClient, concurrency: Any) -> None:
    """A whole number from 1."""
    with pytest.raises(InvalidInputError, match="concurrency must be a whole number of at least 1"):
        await collect(client.view_many(["vip"], concurrency=concurrency))


@pytest.mark.parametrize("names", ["vip", b"vip", None, 5], ids=repr)
async def test_one_name_in_the_place_of_many(client: AudienceClient, names: Any) -> None:
    """A string is not the names of its letters."""
    with pytest.raises(InvalidInputError, match="names must be an iterable of names, not"):
        await collect(client.view_many(names))


@pytest.mark.parametrize("tokens", ["vip:update:abc", b"x", IndexingToken("vip", "abc"), None, 5])
async def test_one_token_in_the_place_of_many(client: AudienceClient, tokens: Any) -> None:
    """The text says how to wait for one."""
    with pytest.raises(InvalidInputError, match=r"tokens must be an iterable of tokens, not .*await_applied"):
        await collect(client.settle(tokens))


@pytest.mark.parametrize(
    "token",
    [
        "",
        "abc",
        "vip:abc",
        "vip:fly:abc",
        "vip:update:",
        "vip:update:a b",
        "vip:update:a\n",
        "a b:update:x",
        None,
        5,
    ],
)
async def test_a_token_that_is_none(client: AudienceClient, token: Any) -> None:
    """The text says what one looks like, alone or among others."""
    text = (
        "audience:operation:value|operation must be one of|value must be printable|audience name 'a b'"
        "|token cannot be None"
    )
    with pytest.raises(InvalidInputError, match=text):
        await client.await_applied(token)
    with pytest.raises(InvalidInputError, match=text):
        await collect(client.settle([IndexingToken("vip", "abc"), token]))
    assert client.stats.tokens == 0


@pytest.mark.parametrize("token", ["", "a b", "a\n", 5, None])
async def test_a_bare_token_that_is_none(client: AudienceClient, token: Any) -> None:
    """Its audience does not make it one."""
    with pytest.raises(InvalidInputError, match="indexing token"):
        await client.await_applied(token, audience="vip")


async def test_a_token_of_another_audience(client: AudienceClient) -> None:
    """Token and audience must agree."""
    with pytest.raises(InvalidInputError, match="the token is of audience 'vip', not 'other'"):
        await client.await_applied(IndexingToken("vip", "abc"), audience="other")


@pytest.mark.parametrize("target", ["rest", None, App, {"rest_api_key": "rest"}])
def test_a_target_that_is_none(target: Any) -> None:
    """A client is of an App or a Project."""
    with pytest.raises(InvalidInputError, match="target must be an App or a Project, not"):
        AudienceClient(target)


METHODS: Mapping[str, Call] = {
    "create": lambda c: c.create("vip"),
    "view": lambda c: c.view("vip"),
    "view_many": lambda c: collect(c.view_many(["vip"])),
    "list_audiences": lambda c: collect(c.list_audiences()),
    "update": lambda c: c.update("vip", add=["u1"]),
    "replace": lambda c: c.replace("vip", ["u1"]),
    "upload": lambda c: c.upload("vip", add=["u1"]),
    "await_applied": lambda c: c.await_applied(IndexingToken("vip", "abc")),
    "settle": lambda c: collect(c.settle([IndexingToken("vip", "abc")])),
    "delete": lambda c: c.delete("vip"),
}


@pytest.mark.parametrize("method", list(METHODS))
async def test_a_client_that_is_not_open(method: str) -> None:
    """Before it is opened and after it was closed."""
    transport = Silence()
    client = AudienceClient(TARGETS["1.0"], transport=transport)
    with pytest.raises(InvalidInputError, match="open the client first: async with AudienceClient"):
        await METHODS[method](client)
    async with client:
        pass
    with pytest.raises(InvalidInputError, match="the client is closed; make a new AudienceClient"):
        await METHODS[method](client)
    assert transport.requests == []


async def test_a_client_is_opened_once() -> None:
    """Neither twice at a time nor one time after the other."""
    client = AudienceClient(TARGETS["1.0"], transport=Silence())
    async with client:
        with pytest.raises(InvalidInputError, match="opened before"):
            await client.__aenter__()
    with pytest.raises(InvalidInputError, match="opened before"):
        await client.__aenter__()


@pytest.mark.parametrize("method", list(METHODS))
async def test_a_client_of_another_event_loop(client: AudienceClient, method: str) -> None:
    """As when two threads share one by mistake."""

    async def elsewhere() -> object:
        return await METHODS[method](client)

    with pytest.raises(InvalidInputError, match="the client belongs to another event loop; make one"):
        await asyncio.to_thread(asyncio.run, elsewhere())


async def test_a_closed_session() -> None:
    """One that was closed before, and one that is closed later."""
    session = aiohttp.ClientSession()
    client = AudienceClient(TARGETS["1.0"], session=session, base_url="http://127.0.0.1:9")
    await session.close()
    with pytest.raises(InvalidInputError, match="session is closed"):
        AudienceClient(TARGETS["1.0"], session=session)
    async with client:
        with pytest.raises(InvalidInputError, match="session is closed"):
            await client.view("vip")
