from __future__ import annotations

import re
from typing import Any

import pytest

from aiobatch.sandbox import API_KEY, API_KEY_ANDROID, REST_API_KEY, SandboxMember

from .conftest import MEP_KEYS, Caller, Time, added, removed


async def update(caller: Caller, name: str, rows: list[dict[str, str]]) -> str:
    """Update an audience of custom ids and return the token."""
    answered = await caller.mep("PATCH", name, {"type": "custom_ids", "ids": rows})
    assert answered.status == 200
    return str(answered.body["indexing_token"])


async def test_audience_exists_once_created(caller: Caller) -> None:
    """1.x creates at once and responds with an empty object. A view shows the given values."""
    body = {"type": "custom_ids", "description": "Our best"}
    created = await caller.mep("POST", "vip", body)
    assert (created.status, created.body) == (200, {})
    seen = (await caller.mep("GET", "vip")).body
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", seen.pop("created"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", seen.pop("updated"))
    assert seen == {
        "name": "vip",
        "type": "custom_ids",
        "description": "Our best",
        "nb_ids": 0,
        "indexing_state": "APPLIED",
    }


async def test_taken_name_is_refused(caller: Caller) -> None:
    """A second create of a name is refused."""
    await caller.create("vip")
    answered = await caller.mep("POST", "vip", {"type": "custom_ids"})
    assert (answered.status, answered.body["code"]) == (400, 31)


async def test_update_is_applied_after_its_delay(caller: Caller, time: Time) -> None:
    """The count changes with the state, and `updated` is the time of applying."""
    await caller.create("vip")
    before = (await caller.mep("GET", "vip")).body["updated"]
    token = await update(caller, "vip", added("u1", "u2", "u3"))
    time.now += 1.9
    seen = (await caller.mep("GET", f"vip?indexing_token={token}")).body
    assert (seen["indexing_state"], seen["nb_ids"], seen["updated"]) == ("IN_PROGRESS", 0, before)
    time.now += 0.2
    seen = (await caller.mep("GET", f"vip?indexing_token={token}")).body
    assert (seen["indexing_state"], seen["nb_ids"]) == ("APPLIED", 3)
    assert seen["updated"] > before


async def test_view_without_token_has_the_last_state(caller: Caller, time: Time) -> None:
    """An older update can be APPLIED while the last one is in progress."""
    await caller.create("vip")
    first = await update(caller, "vip", added("u1"))
    time.now += 1.5
    await update(caller, "vip", added("u2"))
    time.now += 1
    assert (await caller.mep("GET", f"vip?indexing_token={first}")).body["indexing_state"] == "APPLIED"
    assert (await caller.mep("GET", "vip")).body["indexing_state"] == "IN_PROGRESS"


async def test_last_action_on_an_id_counts(caller: Caller, time: Time) -> None:
    """Several actions on one ID in a request are no error."""
    await caller.create("vip")
    await update(caller, "vip", [*added("u1"), *removed("u1"), *removed("u2"), *added("u2")])
    time.now += 2
    assert caller.sandbox.members("vip") == {"u2": SandboxMember()}


async def test_replace_removes_all_other_members(caller: Caller, time: Time) -> None:
    """A replace removes all other members, and 1.x keeps earlier tokens APPLIED."""
    await caller.create("vip")
    token = await update(caller, "vip", added("u1", "u2"))
    body = {"type": "custom_ids", "ids": [{"id": "u2"}, {"id": "u3"}]}
    assert (await caller.mep("PUT", "vip", body)).status == 200
    time.now += 2
    assert caller.sandbox.members("vip").keys() == {"u2", "u3"}
    assert (await caller.mep("GET", f"vip?indexing_token={token}")).body["indexing_state"] == "APPLIED"


async def test_deleted_audience_is_gone_at_once(caller: Caller, time: Time) -> None:
    """No view finds a deleted audience, its updates have no effect, and its name is free."""
    await caller.create("vip")
    token = await update(caller, "vip", added("u1"))
    deleted = await caller.mep("DELETE", "vip")
    assert (deleted.status, deleted.body) == (200, {})
    for method, body in (
        ("GET", None),
        ("DELETE", None),
        ("PATCH", {"type": "custom_ids", "ids": added("u")}),
    ):
        assert (await caller.mep(method, "vip", body)).status == 404
    await caller.create("vip")
    time.now += 2
    assert (await caller.mep("GET", "vip")).body["nb_ids"] == 0
    assert (await caller.mep("GET", f"vip?indexing_token={token}")).status == 200


async def test_apps_have_separate_audiences(caller: Caller) -> None:
    """An audience of one API key is unknown to the other. 1.0 and 1.1 share audiences."""
    await caller.create("vip")
    path = f"/1.0/{API_KEY_ANDROID}/custom-audience/vip"
    assert (await caller.raw("GET", path, headers=MEP_KEYS)).status == 404
    assert (await caller.mep("GET", "vip", version="1.1")).status == 200


async def test_list_is_paged_by_offset_newest_first(caller: Caller) -> None:
    """Rows have no indexing_state, a page has 10 by default, and pages after the end are empty."""
    for number in range(12):
        await caller.create(f"a{number}")
    first = (await caller.mep("GET", "")).body["custom_audiences"]
    assert [row["name"] for row in first] == [f"a{number}" for number in range(11, 1, -1)]
    assert first[0].keys() == {"name", "type", "description", "nb_ids", "created", "updated"}
    second = (await caller.mep("GET", "?from=10&limit=100")).body["custom_audiences"]
    assert [row["name"] for row in second] == ["a1", "a0"]
    assert (await caller.mep("GET", "?from=12")).body == {"custom_audiences": []}


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "limit=", "from=-1", "from=1.5", "page=2", "limit=%D9%A1"]
)
async def test_invalid_list_query_is_refused(caller: Caller, query: str) -> None:
    """A limit is 1 to 100 and an offset is 0 or more. Other parameters are refused."""
    answered = await caller.mep("GET", f"?{query}")
    assert (answered.status, answered.body["code"]) == (400, 31)


@pytest.mark.parametrize(
    "headers", [{}, {"X-Authorization": "wrong"}, {"Authorization": f"Bearer {REST_API_KEY}"}]
)
async def test_wrong_rest_key_is_401(caller: Caller, headers: dict[str, str]) -> None:
    """A request without the REST API key in its header is refused."""
    answered = await caller.raw("GET", f"/1.0/{API_KEY}/custom-audience", headers=headers)
    assert answered.status == 401
    assert answered.body == {"code": 10, "message": "The REST API key is missing or invalid"}


async def test_wrong_api_key_is_401(caller: Caller) -> None:
    """The API key in the path is checked too."""
    answered = await caller.raw("GET", "/1.1/wrong/custom-audience/vip", headers=MEP_KEYS)
    assert (answered.status, answered.body) == (401, {"code": 10, "message": "The API key is invalid"})


@pytest.mark.parametrize("name", ["a%20b", "a%2Fb", "a%25", "caf%C3%A9", "a" * 256, "a%0A", "a.b"])
async def test_malformed_name_is_400(caller: Caller, name: str) -> None:
    """A name has at most 255 letters, digits, _ and -."""
    path = f"/1.0/{API_KEY}/custom-audience/{name}"
    answered = await caller.raw("POST", path, json={"type": "custom_ids"}, headers=MEP_KEYS)
    assert (answered.status, answered.body["code"]) == (400, 31)


@pytest.mark.parametrize(
    ("version", "body", "code"),
    [
        ("1.0", {}, 30),
        ("1.0", {"type": "install_ids"}, 31),
        ("1.0", {"type": ["custom_ids"]}, 31),
        ("1.0", {"type": "custom_ids", "description": 5}, 31),
        ("1.0", {"type": "custom_ids", "display_name": "x"}, 31),
        ("1.0", [], 32),
        ("1.1", {"type": "custom_ids"}, 31),
        ("1.1", {"type": "advertising_ids"}, 31),
    ],
)
async def test_malformed_create_is_400(caller: Caller, version: str, body: Any, code: int) -> None:
    """The code gives the problem: a missing or malformed parameter, or no JSON object."""
    answered = await caller.mep("POST", "vip", body, version=version)
    assert (answered.status, answered.body["code"]) == (400, code)


@pytest.mark.parametrize(
    ("version", "id_type"), [("1.0", "custom_ids"), ("1.0", "advertising_ids"), ("1.1", "install_ids")]
)
async def test_versions_have_their_own_types(caller: Caller, version: str, id_type: str) -> None:
    """1.0 accepts custom and advertising IDs, 1.1 accepts install IDs."""
    assert (await caller.mep("POST", "vip", {"type": id_type}, version=version)).status == 200
    assert (await caller.mep("GET", "vip", version=version)).body["type"] == id_type


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"ids": added("u1")}, 30),
        ({"type": "custom_ids"}, 30),
        ({"type": "advertising_ids", "ids": added("u1")}, 31),
        ({"type": "install_ids", "ids": added("u1")}, 31),
        ({"type": "custom_ids", "ids": added("u1"), "name": "vip"}, 31),
    ],
)
async def test_update_of_1_0_needs_the_type(caller: Caller, body: Any, code: int) -> None:
    """1.0 requires the audience's type in every update."""
    await caller.create("vip")
    answered = await caller.mep("PATCH", "vip", body)
    assert (answered.status, answered.body["code"]) == (400, code)


async def test_1_1_refuses_audiences_of_other_types(caller: Caller) -> None:
    """1.1 refuses to update an audience of 1.0 with another type of IDs."""
    await caller.create("vip")
    answered = await caller.mep("PATCH", "vip", {"ids": added("u1")}, version="1.1")
    assert (answered.status, answered.body["code"]) == (400, 31)
    answered = await caller.mep("PATCH", "vip", {"type": "install_ids", "ids": added("u1")}, version="1.1")
    assert "unknown parameter 'type'" in answered.body["message"]


async def test_1_1_keeps_attributes_and_tags(caller: Caller, time: Time) -> None:
    """Attributes and tags of a member can be inspected."""
    await caller.mep("POST", "vip", {"type": "install_ids"}, version="1.1")
    attributes = {"age": 30, "date(signed_up)": "2023-08-12T22:30:05Z"}
    rows = [{"action": "add", "id": "i1", "attributes": attributes, "tags": ["a", "b"]}, *added("i2")]
    assert (await caller.mep("PATCH", "vip", {"ids": rows}, version="1.1")).status == 200
    time.now += 2
    assert caller.sandbox.members("vip") == {
        "i1": SandboxMember(attributes=attributes, tags=("a", "b")),
        "i2": SandboxMember(),
    }


@pytest.mark.parametrize("query", ["indexing_token=", "indexing_token=unknown", "token=x"])
async def test_unknown_token_is_400(caller: Caller, query: str) -> None:
    """A token that was never issued is malformed, and so is an unknown parameter."""
    await caller.create("vip")
    answered = await caller.mep("GET", f"vip?{query}")
    assert (answered.status, answered.body["code"]) == (400, 31)


async def test_token_of_another_audience_is_refused(caller: Caller) -> None:
    """A view refuses the token of another audience."""
    await caller.create("vip")
    await caller.create("other")
    token = await update(caller, "vip", added("u1"))
    assert (await caller.mep("GET", f"other?indexing_token={token}")).status == 400


@pytest.mark.parametrize(
    ("content_type", "data"),
    [
        ("application/json", b'{"type": "custom_ids"'),
        ("application/json", b""),
        ("application/json", b'{"type": NaN}'),
        ("application/json", b'"custom_ids"'),
        ("text/plain", b'{"type": "custom_ids"}'),
    ],
)
async def test_body_must_be_json(caller: Caller, content_type: str, data: bytes) -> None:
    """A body that is not JSON, or has another content type, is MALFORMED_JSON_BODY."""
    headers = {**MEP_KEYS, "Content-Type": content_type}
    answered = await caller.raw("POST", f"/1.0/{API_KEY}/custom-audience/vip", data=data, headers=headers)
    assert (answered.status, answered.body["code"]) == (400, 32)


async def test_undecodable_body_is_400(caller: Caller) -> None:
    """A body with Content-Encoding gzip must be gzip."""
    headers = {**MEP_KEYS, "Content-Type": "application/json", "Content-Encoding": "gzip"}
    answered = await caller.raw(
        "POST", f"/1.0/{API_KEY}/custom-audience/vip", data=b"garbage", headers=headers
    )
    assert (answered.status, answered.body) == (400, {"code": 32, "message": "the body cannot be decoded"})
