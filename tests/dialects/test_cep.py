from __future__ import annotations

import datetime as dt
from typing import Any

import orjson
import pytest

from aiobatch._http import Request, Response
from aiobatch.dialects import Dialect, ListedState, Page
from aiobatch.errors import InvalidInputError, MalformedResponseError
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


def test_headers(v2: Dialect) -> None:
    """Every request carries the REST key as a bearer and the project's key, and speaks JSON."""
    expected = {
        "Authorization": f"Bearer {REST_KEY}",
        "X-Batch-Project": PROJECT_KEY,
        "Content-Type": "application/json",
        "Accept": "application/json",
    }

    assert all(
        request.headers == expected for request in [*writes(v2), v2.build_view("vip"), v2.build_list()]
    )


def test_create(v2: Dialect) -> None:
    """A create names audience and type, and the description as display_name; it is not idempotent."""
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


def test_view(v2: Dialect) -> None:
    """A view names the audience, and takes a token as it is, percent-encoded; the path shows neither."""
    request = v2.build_view("vip", "a/b&c=é")

    assert sent(v2.build_view("vip")) == ("GET", "/view?name=vip", None)
    assert sent(request) == ("GET", "/view?name=vip&indexing_token=a%2Fb%26c%3D%C3%A9", None)
    assert (request.operation, request.label) == ("view", "view of audience 'vip'")
    assert request.path == "/2.11/audiences/view"
    assert request.idempotent


def test_list(v2: Dialect) -> None:
    """A list is asked for by an opaque cursor and a limit."""
    request = v2.build_list("MTA=&", limit=50)

    assert sent(v2.build_list()) == ("GET", "/list?limit=100", None)
    assert sent(request) == ("GET", "/list?from=MTA%3D%26&limit=50", None)
    assert (request.operation, request.label) == ("list", "list of audiences")
    assert request.path == "/2.11/audiences/list"
    assert request.idempotent


def test_update(v2: Dialect) -> None:
    """An update names the audience and takes attributes."""
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


def test_replace(v2: Dialect) -> None:
    """A replace is an update without actions."""
    request = v2.build_replace("vip", ["u1", Member("u2", attributes={"age": 7})])

    assert sent(request) == (
        "POST",
        "/replace",
        {"name": "vip", "ids": [{"id": "u1"}, {"id": "u2", "attributes": {"age": 7}}]},
    )
    assert (request.operation, request.label) == ("replace", "replace of audience 'vip'")
    assert request.idempotent


def test_delete(v2: Dialect) -> None:
    """What Batch calls remove deletes the audience, and so is our delete."""
    request = v2.build_delete("vip")

    assert sent(request) == ("POST", "/remove", {"name": "vip"})
    assert (request.operation, request.label) == ("delete", "delete of audience 'vip'")
    assert request.idempotent


def test_no_tags(v2: Dialect) -> None:
    """2.x takes no tags."""
    with pytest.raises(InvalidInputError, match=r"^add\[1\]: Audience API 2.11 takes no tags; 1.1 does"):
        v2.build_update("vip", ["u0", Member("u1", tags=["new"])], [])
    with pytest.raises(InvalidInputError, match=r"^members\[0\]: Audience API 2.11 takes no tags"):
        v2.build_replace("vip", [Member("u1", tags=["new"])])


def test_token(v2: Dialect) -> None:
    """Every write answers a token, as 202 or as another 2xx."""
    for request in writes(v2):
        for status in (200, 202):
            assert v2.read_token(request, Response(status=status, body=b'{"indexing_token": "t1"}')) == "t1"


@pytest.mark.parametrize(
    "answer", [{}, {"token": "t1"}, {"indexing_token": None}, {"indexing_token": "a b"}], ids=repr
)
def test_no_token(v2: Dialect, answer: object) -> None:
    """A write without a token cannot be waited for, and is no success."""
    for request in writes(v2):
        with pytest.raises(MalformedResponseError, match=r"@ \$\.indexing_token"):
            v2.read_token(request, Response(status=202, body=orjson.dumps(answer)))


def test_read_view(v2: Dialect) -> None:
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


def test_read_list(v2: Dialect) -> None:
    """A page tells states, the count on the first one, and the cursor of the next one while there is one."""
    row = {"name": "vip", "type": "CUSTOM_ID", "indexing_state": "REPLACED"}
    first = {"audiences": [row], "count": 2, "has_more": True, "next_from": "MTA="}
    last = {"audiences": [], "has_more": False, "next_from": "MTA="}
    vip = Audience(name="vip", id_type=IdType.CUSTOM_IDS, indexing_state=IndexingState.REPLACED)
    request = v2.build_list()

    assert v2.read_list(request, Response(status=200, body=orjson.dumps(first))) == Page(
        rows=(vip,), next_cursor="MTA=", count=2
    )
    assert v2.read_list(request, Response(status=200, body=orjson.dumps(last))) == Page(rows=())


def test_read_states(v2: Dialect) -> None:
    """The same page in short: names and states, odd ones and none too; nothing else of a row is read."""
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
        ({"audiences": [], "has_more": True}, "has_more is true, but there is none @ $.next_from"),
        ({"audiences": [[]], "has_more": False}, "must be an object, not a list @ $.audiences[0]"),
        ({"audiences": [{}], "has_more": False}, "required field missing @ $.audiences[0].name"),
        (
            {"audiences": [{"name": "vip", "indexing_state": 1}], "has_more": False},
            "must be a string, not a number @ $.audiences[0].indexing_state",
        ),
    ],
    ids=repr,
)
def test_bad_states(v2: Dialect, answer: object, problem: str) -> None:
    """A page whose names or states cannot be read is an error, as for the list."""
    with pytest.raises(MalformedResponseError) as caught:
        v2.read_states(v2.build_list(), Response(status=200, body=orjson.dumps(answer)))
    assert caught.value.problems == (problem,)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"has_more": False}, "required field missing @ $.audiences"),
        ({"audiences": []}, "required field missing @ $.has_more"),
        ({"audiences": [], "has_more": 1}, "must be a boolean, not a number @ $.has_more"),
        ({"audiences": [], "has_more": True}, "has_more is true, but there is none @ $.next_from"),
        (
            {"audiences": [], "has_more": True, "next_from": ""},
            "has_more is true, but there is none @ $.next_from",
        ),
        ({"audiences": [], "has_more": False, "count": "2"}, "must be an integer, not a string @ $.count"),
        (
            {"audiences": [{"name": "vip", "type": "x", "display_name": 3}], "has_more": False},
            "must be a string, not a number @ $.audiences[0].display_name",
        ),
    ],
    ids=repr,
)
def test_bad_list(v2: Dialect, answer: object, problem: str) -> None:
    """A page that cannot be read is an error, and never a list that ends early."""
    with pytest.raises(MalformedResponseError) as caught:
        v2.read_list(v2.build_list(), Response(status=200, body=orjson.dumps(answer)))
    assert caught.value.problems == (problem,)
