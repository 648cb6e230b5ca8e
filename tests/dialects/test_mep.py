from __future__ import annotations

from typing import Any

import orjson
import pytest

from aiobatch.dialects import Dialect, ListedState, Page
from aiobatch.errors import InvalidInputError, MalformedResponseError
from aiobatch.interfaces import Request, Response
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


def test_requests_have_the_rest_key_and_json(mep: Dialect) -> None:
    """Every request has the REST key in X-Authorization and asks for JSON."""
    requests = [mep.build_view("vip"), mep.build_list(), mep.build_update("vip", ["u1"], [])]

    assert [dict(request.headers) for request in requests] == 3 * [
        {
            "X-Authorization": REST_KEY,
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Cache-Control": "no-cache",
        }
    ]


def test_path_has_version_and_app_key(mep: Dialect) -> None:
    """Version and app key precede the route. The path for display masks the key."""
    view, page = mep.build_view("vip"), mep.build_list()

    assert view.target == f"/{mep.version}/{APP_KEY}/custom-audience/vip"
    assert view.path == f"/{mep.version}/***/custom-audience/vip"
    assert page.target == f"/{mep.version}/{APP_KEY}/custom-audience?from=0&limit=100"
    assert page.path == f"/{mep.version}/***/custom-audience"


def test_create_sends_type_and_description(v10: Dialect, v11: Dialect) -> None:
    """A create sends the type and the description if there is one. It is not idempotent."""
    request = v10.build_create("vip", id_type=IdType.ADVERTISING_IDS, description="Very important")

    assert sent(request) == ("POST", "/vip", {"type": "advertising_ids", "description": "Very important"})
    assert sent(v10.build_create("vip")) == ("POST", "/vip", {"type": "custom_ids"})
    assert sent(v11.build_create("vip")) == ("POST", "/vip", {"type": "install_ids"})
    assert (request.operation, request.label) == ("create", "create of audience 'vip'")
    assert not request.idempotent


def test_view_quotes_the_token(mep: Dialect) -> None:
    """A view sends the token percent-encoded."""
    request = mep.build_view("vip")

    assert sent(request) == ("GET", "/vip", None)
    assert sent(mep.build_view("vip", "a/b&c=é")) == ("GET", "/vip?indexing_token=a%2Fb%26c%3D%C3%A9", None)
    assert (request.operation, request.label) == ("view", "view of audience 'vip'")
    assert request.idempotent


def test_list_sends_offset_and_limit(mep: Dialect) -> None:
    """A list request has an offset and a limit."""
    request = mep.build_list("200", limit=50)

    assert sent(request) == ("GET", "?from=200&limit=50", None)
    assert (request.operation, request.label) == ("list", "list of audiences")
    assert request.idempotent


def test_update_sends_type_in_1_0_and_attributes_in_1_1(v10: Dialect, v11: Dialect) -> None:
    """An update sends the type in 1.0, and attributes and tags in 1.1."""
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


def test_replace_sends_no_actions(v10: Dialect, v11: Dialect) -> None:
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


def test_delete_has_no_body(mep: Dialect) -> None:
    """A delete has no body."""
    request = mep.build_delete("vip")

    assert sent(request) == ("DELETE", "/vip", None)
    assert (request.operation, request.label) == ("delete", "delete of audience 'vip'")
    assert request.idempotent


@pytest.mark.parametrize("member", [Member("u1", attributes={"age": 7}), Member("u1", tags=["new"])])
def test_1_0_accepts_no_attributes_or_tags(v10: Dialect, member: Member) -> None:
    """1.0 accepts neither attributes nor tags."""
    with pytest.raises(InvalidInputError, match=r"^add\[0\]: Custom Audience API 1.0 accepts no"):
        v10.build_update("vip", [member], [])
    with pytest.raises(InvalidInputError, match=r"^members\[0\]: Custom Audience API 1.0 accepts no"):
        v10.build_replace("vip", [member])


@pytest.mark.parametrize("field", ["indexing_token", "token"])
def test_token_is_read_under_either_name(mep: Dialect, field: str) -> None:
    """The token of an update or replace is read under either name."""
    response = Response(status=200, body=orjson.dumps({field: "t1", "other": 1}))

    assert mep.read_token(mep.build_update("vip", ["u1"], []), response) == "t1"
    assert mep.read_token(mep.build_replace("vip", ["u1"]), response) == "t1"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"{}", "required field missing @ $.indexing_token"),
        (b'{"indexing_token": null}', "must be a non-empty string of printable .* @ \\$.indexing_token"),
        (b'{"indexing_token": 5}', "must be a non-empty string of printable .* @ \\$.indexing_token"),
        (b'{"token": ""}', "required field missing @ $.indexing_token"),
    ],
    ids=repr,
)
def test_response_without_token_is_malformed(mep: Dialect, body: bytes, problem: str) -> None:
    """An update's response without a valid token is an error, because no wait would be possible."""
    with pytest.raises(MalformedResponseError, match=problem.replace("@ $.", r"@ \$\.")):
        mep.read_token(mep.build_update("vip", ["u1"], []), Response(status=200, body=body))


@pytest.mark.parametrize(
    "other", [{"token": 5}, {"token": ""}, {"token": None}, {"type": 3}, {"name": None}], ids=repr
)
def test_write_needs_the_token_only(mep: Dialect, other: dict[str, object]) -> None:
    """Whatever another field of the response to an update is, the token is read."""
    body = orjson.dumps({"indexing_token": "t1", **other})

    assert mep.read_token(mep.build_update("vip", ["u1"], []), Response(status=200, body=body)) == "t1"


@pytest.mark.parametrize("body", [b"{}", b'{"indexing_token": "t1"}', b'{"token": []}'], ids=repr)
def test_create_and_delete_have_no_token(mep: Dialect, body: bytes) -> None:
    """Create and delete have no token, whatever object the response contains."""
    response = Response(status=200, body=body)

    assert mep.read_token(mep.build_create("vip"), response) is None
    assert mep.read_token(mep.build_delete("vip"), response) is None


@pytest.mark.parametrize("body", [b"", b"[]", b"ok"], ids=repr)
def test_create_response_must_be_an_object(mep: Dialect, body: bytes) -> None:
    """A response that is no object is an error, because it may not be Batch's."""
    with pytest.raises(MalformedResponseError):
        mep.read_token(mep.build_create("vip"), Response(status=200, body=body))


def test_documented_sample_is_read(mep: Dialect) -> None:
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
def test_full_page_has_a_next_one(
    mep: Dialect, cursor: str | None, count: int, following: str | None
) -> None:
    """A full page has a next page at the offset after it."""
    request = mep.build_list(cursor, limit=3)
    vip = Audience(name="vip", id_type=IdType.INSTALL_IDS)

    page = mep.read_list(request, Response(status=200, body=rows(count)))

    assert page == Page(rows=(vip,) * count, next_cursor=following)


def test_listed_states_of_1_x_are_none(mep: Dialect) -> None:
    """1.x lists names without states."""
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
            {"custom_audiences": [{"name": "vip", "type": "x"}, {"name": 1, "type": "x"}]},
            "must be a string, not a number @ $.custom_audiences[1].name",
        ),
    ],
    ids=repr,
)
def test_malformed_list_names_row_and_field(mep: Dialect, answer: object, problem: str) -> None:
    """The error for a malformed page gives the row and the field."""
    with pytest.raises(MalformedResponseError) as caught:
        mep.read_list(mep.build_list(), Response(status=200, body=orjson.dumps(answer)))
    assert caught.value.problems == (problem,)
