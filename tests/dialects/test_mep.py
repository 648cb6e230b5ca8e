from __future__ import annotations

from typing import Any

import orjson
import pytest

from aiobatch._http import Request, Response
from aiobatch.dialects import Dialect, ListedState, Page
from aiobatch.errors import InvalidInputError, MalformedResponseError
from aiobatch.models import Audience, IdType, IndexingState, Member

from .conftest import APP_KEY, REST_KEY


@pytest.fixture(params=["v10", "v11"])
def mep(request: pytest.FixtureRequest) -> Dialect:
    """Return the dialects of 1.0 and 1.1 in turn."""
    dialect: Dialect = request.getfixturevalue(request.param)
    return dialect


def sent(request: Request) -> tuple[str, str, Any]:
    """Return verb, path and body as Batch gets them, without the version's prefix."""
    path = request.target.split(f"/{APP_KEY}/custom-audience")[1]
    return request.method, path, orjson.loads(request.body) if request.body else None


def test_headers(mep: Dialect) -> None:
    """Every request carries the REST key in X-Authorization, and speaks JSON."""
    requests = [mep.build_view("vip"), mep.build_list(), mep.build_update("vip", ["u1"], [])]

    assert [dict(request.headers) for request in requests] == 3 * [
        {"X-Authorization": REST_KEY, "Content-Type": "application/json", "Accept": "application/json"}
    ]


def test_prefix(mep: Dialect) -> None:
    """Version and app key stand before the route; the path that is shown has a mask for the key."""
    view, page = mep.build_view("vip"), mep.build_list()

    assert view.target == f"/{mep.version}/{APP_KEY}/custom-audience/vip"
    assert view.path == f"/{mep.version}/***/custom-audience/vip"
    assert page.target == f"/{mep.version}/{APP_KEY}/custom-audience?from=0&limit=100"
    assert page.path == f"/{mep.version}/***/custom-audience"


def test_create(v10: Dialect, v11: Dialect) -> None:
    """A create names the type, and the description where one is given; it is not idempotent."""
    request = v10.build_create("vip", id_type=IdType.ADVERTISING_IDS, description="Very important")

    assert sent(request) == ("POST", "/vip", {"type": "advertising_ids", "description": "Very important"})
    assert sent(v10.build_create("vip")) == ("POST", "/vip", {"type": "custom_ids"})
    assert sent(v11.build_create("vip")) == ("POST", "/vip", {"type": "install_ids"})
    assert (request.operation, request.label) == ("create", "create of audience 'vip'")
    assert not request.idempotent


def test_view(mep: Dialect) -> None:
    """A view takes a token as it is, percent-encoded."""
    request = mep.build_view("vip")

    assert sent(request) == ("GET", "/vip", None)
    assert sent(mep.build_view("vip", "a/b&c=é")) == ("GET", "/vip?indexing_token=a%2Fb%26c%3D%C3%A9", None)
    assert (request.operation, request.label) == ("view", "view of audience 'vip'")
    assert request.idempotent


def test_list(mep: Dialect) -> None:
    """A list is asked for by offset and limit."""
    request = mep.build_list("200", limit=50)

    assert sent(request) == ("GET", "?from=200&limit=50", None)
    assert (request.operation, request.label) == ("list", "list of audiences")
    assert request.idempotent


def test_update(v10: Dialect, v11: Dialect) -> None:
    """An update names the type on 1.0, and takes attributes and tags on 1.1."""
    request = v10.build_update("vip", ["u1"], ["u2"], id_type="advertising_ids")
    actions = [{"action": "add", "id": "u1"}, {"action": "remove", "id": "u2"}]
    rich = v11.build_update("vip", [Member("i1", attributes={"age": 7}, tags=["new"])], [])

    assert sent(request) == ("PATCH", "/vip", {"type": "advertising_ids", "ids": actions})
    assert sent(v10.build_update("vip", ["u1"], ["u2"])) == (
        "PATCH",
        "/vip",
        {"type": "custom_ids", "ids": actions},
    )
    assert sent(rich) == (
        "PATCH",
        "/vip",
        {"ids": [{"action": "add", "id": "i1", "attributes": {"age": 7}, "tags": ["new"]}]},
    )
    assert (request.operation, request.label) == ("update", "update of audience 'vip'")
    assert request.idempotent


def test_replace(v10: Dialect, v11: Dialect) -> None:
    """A replace is an update without actions."""
    request = v10.build_replace("vip", ["u1", "u2"])

    assert sent(request) == ("PUT", "/vip", {"type": "custom_ids", "ids": [{"id": "u1"}, {"id": "u2"}]})
    assert sent(v11.build_replace("vip", [Member("i1", tags=["a"])])) == (
        "PUT",
        "/vip",
        {"ids": [{"id": "i1", "tags": ["a"]}]},
    )
    assert (request.operation, request.label) == ("replace", "replace of audience 'vip'")
    assert request.idempotent


def test_delete(mep: Dialect) -> None:
    """A delete has no body."""
    request = mep.build_delete("vip")

    assert sent(request) == ("DELETE", "/vip", None)
    assert (request.operation, request.label) == ("delete", "delete of audience 'vip'")
    assert request.idempotent


@pytest.mark.parametrize("member", [Member("u1", attributes={"age": 7}), Member("u1", tags=["new"])])
def test_bare_ids_on_10(v10: Dialect, member: Member) -> None:
    """1.0 takes neither attributes nor tags."""
    with pytest.raises(InvalidInputError, match=r"^add\[0\]: Custom Audience API 1.0 takes no"):
        v10.build_update("vip", [member], [])
    with pytest.raises(InvalidInputError, match=r"^members\[0\]: Custom Audience API 1.0 takes no"):
        v10.build_replace("vip", [member])


@pytest.mark.parametrize("field", ["indexing_token", "token"])
def test_token(mep: Dialect, field: str) -> None:
    """Update and replace answer a token, under either name."""
    response = Response(status=200, body=orjson.dumps({field: "t1", "other": 1}))

    assert mep.read_token(mep.build_update("vip", ["u1"], []), response) == "t1"
    assert mep.read_token(mep.build_replace("vip", ["u1"]), response) == "t1"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"{}", "required field missing @ $.indexing_token"),
        (b'{"indexing_token": null}', "must be a non-empty string of printable .* @ \\$.indexing_token"),
        (b'{"indexing_token": 5}', "must be a non-empty string of printable .* @ \\$.indexing_token"),
        (b'{"token": ""}', "must be a non-empty string of printable .* @ \\$.token"),
    ],
    ids=repr,
)
def test_no_token(mep: Dialect, body: bytes, problem: str) -> None:
    """An update without a token cannot be waited for, and is no success."""
    with pytest.raises(MalformedResponseError, match=problem.replace("@ $.", r"@ \$\.")):
        mep.read_token(mep.build_update("vip", ["u1"], []), Response(status=200, body=body))


@pytest.mark.parametrize("body", [b"{}", b'{"indexing_token": "t1"}', b'{"token": []}'], ids=repr)
def test_create_and_delete_answer_none(mep: Dialect, body: bytes) -> None:
    """Create and delete answer no token, whatever object comes."""
    response = Response(status=200, body=body)

    assert mep.read_token(mep.build_create("vip"), response) is None
    assert mep.read_token(mep.build_delete("vip"), response) is None


@pytest.mark.parametrize("body", [b"", b"[]", b"ok"], ids=repr)
def test_create_needs_an_object(mep: Dialect, body: bytes) -> None:
    """What is no object may be anybody's answer: the outcome is unknown."""
    with pytest.raises(MalformedResponseError):
        mep.read_token(mep.build_create("vip"), Response(status=200, body=body))


def test_read_view(mep: Dialect) -> None:
    """The documentation's sample is read."""
    body = b"""{"name": "audience1", "type": "custom_ids", "description": "The audience1 description",
        "created": "2018-06-29T13:12:09", "updated": "2018-06-29T13:42:59",
        "nb_ids": 16743, "indexing_state": "IN_PROGRESS"}"""
    audience = mep.read_view(mep.build_view("audience1"), Response(status=200, body=body))

    assert (audience.name, audience.id_type, audience.nb_ids) == ("audience1", IdType.CUSTOM_IDS, 16743)
    assert audience.description == "The audience1 description"
    assert audience.indexing_state is IndexingState.IN_PROGRESS


def rows(count: int) -> bytes:
    """Return a list's answer of *count* rows."""
    return orjson.dumps({"custom_audiences": count * [{"name": "vip", "type": "install_ids"}]})


@pytest.mark.parametrize(
    ("cursor", "count", "following"), [(None, 3, "3"), ("6", 3, "9"), ("6", 2, None), (None, 0, None)]
)
def test_read_list(mep: Dialect, cursor: str | None, count: int, following: str | None) -> None:
    """A full page has a next one, at the offset behind it."""
    request = mep.build_list(cursor, limit=3)
    vip = Audience(name="vip", id_type=IdType.INSTALL_IDS)

    page = mep.read_list(request, Response(status=200, body=rows(count)))

    assert page == Page(rows=(vip,) * count, next_cursor=following)


def test_read_states(mep: Dialect) -> None:
    """The same page in short has no states: 1.x lists none."""
    page = mep.read_states(mep.build_list(limit=2), Response(status=200, body=rows(2)))

    assert page == Page(rows=(ListedState("vip"),) * 2, next_cursor="2")


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({}, "required field missing @ $.custom_audiences"),
        ({"custom_audiences": None}, "must be a list, not null @ $.custom_audiences"),
        ({"custom_audiences": {}}, "must be a list, not an object @ $.custom_audiences"),
        ({"custom_audiences": ""}, "must be a list, not a string @ $.custom_audiences"),
        ({"custom_audiences": [[]]}, "must be an object, not a list @ $.custom_audiences[0]"),
        (
            {"custom_audiences": [{"name": "vip", "type": "x"}, {"name": "b", "type": 1}]},
            "must be a string, not a number @ $.custom_audiences[1].type",
        ),
    ],
    ids=repr,
)
def test_bad_list(mep: Dialect, answer: object, problem: str) -> None:
    """A page that cannot be read names the row and the field."""
    with pytest.raises(MalformedResponseError) as caught:
        mep.read_list(mep.build_list(), Response(status=200, body=orjson.dumps(answer)))
    assert caught.value.problems == (problem,)
