from __future__ import annotations

import datetime as dt
from typing import Any

import orjson
import pytest

from aiobatch.dialects import Dialect, ListedState, Page
from aiobatch.errors import InvalidInputError, MalformedResponseError
from aiobatch.interfaces import Request, Response
from aiobatch.models import Audience, IdType, IndexingState, Member

from .conftest import PROJECT_KEY, REST_KEY


def sent(request: Request) -> tuple[str, str, Any]:
    """Return verb, path and body as Batch gets them, without the version's prefix."""
    path = request.target.removeprefix("/2.11/audiences")
    return request.method, path, orjson.loads(request.body) if request.body else None


def writes(v2: Dialect) -> list[Request]:
    """Return one request of each write."""
    return [
        v2.build_create("vip"),
        v2.build_update("vip", ["u1"], []),
        v2.build_replace("vip", ["u1"]),
        v2.build_delete("vip"),
    ]


def test_requests_have_both_keys_and_json(v2: Dialect) -> None:
    """Every request has the REST key as a bearer token and the project key, and asks for JSON."""
    expected = {
        "Authorization": f"Bearer {REST_KEY}",
        "X-Batch-Project": PROJECT_KEY,
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Cache-Control": "no-cache",
    }

    assert all(
        request.headers == expected for request in [*writes(v2), v2.build_view("vip"), v2.build_list()]
    )


def test_create_sends_type_and_display_name(v2: Dialect) -> None:
    """A create sends name, type and the description as display_name. It is not idempotent."""
    request = v2.build_create("vip", description="Very important")

    assert sent(request) == (
        "POST",
        "/create",
        {"name": "vip", "type": "custom_ids", "display_name": "Very important"},
    )
    assert sent(v2.build_create("vip")) == ("POST", "/create", {"name": "vip", "type": "custom_ids"})
    assert (request.operation, request.label) == ("create", "create of audience 'vip'")
    assert request.path == "/2.11/audiences/create"
    assert not request.idempotent


def test_view_quotes_the_token(v2: Dialect) -> None:
    """A view sends the name and the token percent-encoded. The path for display has neither."""
    request = v2.build_view("vip", "a/b&c=é")

    assert sent(v2.build_view("vip")) == ("GET", "/view?name=vip", None)
    assert sent(request) == ("GET", "/view?name=vip&indexing_token=a%2Fb%26c%3D%C3%A9", None)
    assert (request.operation, request.label) == ("view", "view of audience 'vip'")
    assert request.path == "/2.11/audiences/view"
    assert request.idempotent


def test_list_sends_cursor_and_limit(v2: Dialect) -> None:
    """A list request has an opaque cursor and a limit."""
    request = v2.build_list("MTA=&", limit=50)

    assert sent(v2.build_list()) == ("GET", "/list?limit=100", None)
    assert sent(request) == ("GET", "/list?from=MTA%3D%26&limit=50", None)
    assert (request.operation, request.label) == ("list", "list of audiences")
    assert request.path == "/2.11/audiences/list"
    assert request.idempotent


def test_update_sends_name_and_attributes(v2: Dialect) -> None:
    """An update sends the audience's name and attributes."""
    request = v2.build_update("vip", [Member("u1", attributes={"age": 7})], ["u2"])

    assert sent(request) == (
        "POST",
        "/update",
        {
            "name": "vip",
            "ids": [
                {"action": "add", "id": "u1", "attributes": {"age": 7}},
                {"action": "remove", "id": "u2"},
            ],
        },
    )
    assert (request.operation, request.label) == ("update", "update of audience 'vip'")
    assert request.idempotent


def test_replace_sends_no_actions(v2: Dialect) -> None:
    """A replace is an update without actions."""
    request = v2.build_replace("vip", ["u1", Member("u2", attributes={"age": 7})])

    assert sent(request) == (
        "POST",
        "/replace",
        {"name": "vip", "ids": [{"id": "u1"}, {"id": "u2", "attributes": {"age": 7}}]},
    )
    assert (request.operation, request.label) == ("replace", "replace of audience 'vip'")
    assert request.idempotent


def test_delete_uses_batchs_remove(v2: Dialect) -> None:
    """A delete uses the route that Batch calls remove."""
    request = v2.build_delete("vip")

    assert sent(request) == ("POST", "/remove", {"name": "vip"})
    assert (request.operation, request.label) == ("delete", "delete of audience 'vip'")
    assert request.idempotent


def test_2_x_accepts_no_tags(v2: Dialect) -> None:
    """2.x accepts no tags."""
    with pytest.raises(InvalidInputError, match=r"^add\[1\]: Audience API 2.11 accepts no tags"):
        v2.build_update("vip", ["u0", Member("u1", tags=["new"])], [])
    with pytest.raises(InvalidInputError, match=r"^members\[0\]: Audience API 2.11 accepts no tags"):
        v2.build_replace("vip", [Member("u1", tags=["new"])])


def test_every_write_has_a_token(v2: Dialect) -> None:
    """The token of every write is read, with status 202 or another 2xx."""
    for request in writes(v2):
        for status in (200, 202):
            assert v2.read_token(request, Response(status=status, body=b'{"indexing_token": "t1"}')) == "t1"


@pytest.mark.parametrize(
    "answer", [{}, {"token": "t1"}, {"indexing_token": None}, {"indexing_token": "a b"}], ids=repr
)
def test_response_without_token_is_malformed(v2: Dialect, answer: object) -> None:
    """A write's response without a valid token is an error, because no wait would be possible."""
    for request in writes(v2):
        with pytest.raises(MalformedResponseError, match=r"@ \$\.indexing_token"):
            v2.read_token(request, Response(status=202, body=orjson.dumps(answer)))


def test_documented_fields_are_read(v2: Dialect) -> None:
    """The documented fields of 2.x are read."""
    row = {
        "name": "audience1",
        "display_name": "The audience1 description",
        "type": "CUSTOM_ID",
        "nb_ids": 16743,
        "indexing_state": "APPLIED",
        "created": "2018-06-29T13:12:09Z",
        "updated": "2018-06-29T13:42:59Z",
    }
    audience = v2.read_view(v2.build_view("audience1"), Response(status=200, body=orjson.dumps(row)))

    assert audience == Audience(
        name="audience1",
        id_type=IdType.CUSTOM_IDS,
        description="The audience1 description",
        nb_ids=16743,
        indexing_state=IndexingState.APPLIED,
        created=dt.datetime(2018, 6, 29, 13, 12, 9, tzinfo=dt.UTC),
        updated=dt.datetime(2018, 6, 29, 13, 42, 59, tzinfo=dt.UTC),
    )


def test_page_has_states_count_and_cursor(v2: Dialect) -> None:
    """A page has states. The first has a count, and all but the last have a cursor."""
    row = {"name": "vip", "type": "CUSTOM_ID", "indexing_state": "REPLACED"}
    first = {"audiences": [row], "count": 2, "has_more": True, "next_from": "MTA="}
    last = {"audiences": [], "has_more": False, "next_from": "MTA="}
    vip = Audience(name="vip", id_type=IdType.CUSTOM_IDS, indexing_state=IndexingState.REPLACED)
    request = v2.build_list()

    assert v2.read_list(request, Response(status=200, body=orjson.dumps(first))) == Page(
        rows=(vip,), next_cursor="MTA=", count=2
    )
    assert v2.read_list(request, Response(status=200, body=orjson.dumps(last))) == Page(rows=())


def test_listed_states_have_names_and_states_only(v2: Dialect) -> None:
    """Only names and states of the rows are read, including unknown and missing states."""
    rows = [
        {"name": "vip", "indexing_state": "IN_PROCESS", "created": "yesterday", "nb_ids": "?"},
        {"name": "old", "indexing_state": "PAUSED"},
        {"name": "new", "indexing_state": None},
        {"name": "none"},
    ]
    first = {"audiences": rows, "count": 2, "has_more": True, "next_from": "MTA="}
    last = {"audiences": [], "has_more": False, "next_from": "MTA="}
    request = v2.build_list()

    page = v2.read_states(request, Response(status=200, body=orjson.dumps(first)))

    states = [IndexingState.IN_PROGRESS, IndexingState("PAUSED"), None, None]
    names = ["vip", "old", "new", "none"]
    assert page.rows == tuple(map(ListedState, names, states))
    assert (page.next_cursor, page.count) == ("MTA=", 2)
    assert v2.read_states(request, Response(status=200, body=orjson.dumps(last))) == Page(rows=())


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"has_more": False}, "required field missing @ $.audiences"),
        ({"audiences": {}, "has_more": False}, "must be a list, not an object @ $.audiences"),
        ({"audiences": [], "has_more": True}, "has_more is true, but next_from is missing @ $.next_from"),
        ({"audiences": [[]], "has_more": False}, "must be an object, not a list @ $.audiences[0]"),
        ({"audiences": [{}], "has_more": False}, "required field missing @ $.audiences[0].name"),
    ],
    ids=repr,
)
def test_malformed_states_are_an_error(v2: Dialect, answer: object, problem: str) -> None:
    """A page with malformed names or states is an error."""
    with pytest.raises(MalformedResponseError) as caught:
        v2.read_states(v2.build_list(), Response(status=200, body=orjson.dumps(answer)))
    assert caught.value.problems == (problem,)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"has_more": False}, "required field missing @ $.audiences"),
        ({"audiences": []}, "required field missing @ $.has_more"),
        ({"audiences": [], "has_more": 1}, "must be a boolean, not a number @ $.has_more"),
        ({"audiences": [], "has_more": True}, "has_more is true, but next_from is missing @ $.next_from"),
        (
            {"audiences": [], "has_more": True, "next_from": ""},
            "has_more is true, but next_from is missing @ $.next_from",
        ),
        (
            {"audiences": [{"name": 3, "type": "x"}], "has_more": False},
            "must be a string, not a number @ $.audiences[0].name",
        ),
    ],
    ids=repr,
)
def test_malformed_list_does_not_end_early(v2: Dialect, answer: object, problem: str) -> None:
    """A malformed page is an error, never a list that ends early."""
    with pytest.raises(MalformedResponseError) as caught:
        v2.read_list(v2.build_list(), Response(status=200, body=orjson.dumps(answer)))
    assert caught.value.problems == (problem,)


@pytest.mark.parametrize("count", ["2", 2.0, -1, {}])
def test_unreadable_count_is_none(v2: Dialect, count: object) -> None:
    """A page does not need the number of audiences on all pages."""
    answer = {"audiences": [], "has_more": False, "count": count}

    assert v2.read_list(v2.build_list(), Response(status=200, body=orjson.dumps(answer))).count is None


def test_contradicting_tokens_are_refused(v2: Dialect) -> None:
    """A response with two tokens does not decide which one to wait for."""
    twice = b'{"indexing_token": "a", "indexing_token": "b"}'
    with pytest.raises(MalformedResponseError, match="a field occurs twice"):
        v2.read_token(v2.build_update("vip", ["u1"], []), Response(status=202, body=twice))
