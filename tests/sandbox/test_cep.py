from __future__ import annotations

import base64
import re
from typing import Any

import pytest

from aiobatch.sandbox import PROJECT_KEY, REST_API_KEY, SandboxMember, SandboxOptions

from .conftest import Caller, Time, added, removed


async def write(caller: Caller, step: str, name: str, rows: list[Any]) -> str:
    """Update or replace, and return the token."""
    answered = await caller.cep("POST", step, {"name": name, "ids": rows})
    assert answered.status == 202
    return str(answered.body["indexing_token"])


async def test_audience_exists_once_its_creation_is_applied(caller: Caller, time: Time) -> None:
    """A view finds no audience before its creation is applied, with or without a token."""
    body = {"name": "vip", "type": "custom_ids", "display_name": "Our best"}
    created = await caller.cep("POST", "create", body)
    token = created.body["indexing_token"]
    assert created.status == 202
    assert await caller.state("vip", token) == 404
    time.now += 2
    seen = (await caller.cep("GET", f"view?name=vip&indexing_token={token}")).body
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", seen.pop("created"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", seen.pop("updated"))
    assert seen == {
        "name": "vip",
        "type": "CUSTOM_ID",
        "display_name": "Our best",
        "nb_ids": 0,
        "indexing_state": "APPLIED",
    }


async def test_writes_are_accepted_before_the_creation_is_applied(caller: Caller, time: Time) -> None:
    """An update or replace right after a create is applied after it."""
    await caller.create_cep("vip")
    first = await write(caller, "update", "vip", added("u1", "u2"))
    second = await write(caller, "replace", "vip", [{"id": "u3", "attributes": {"age": 30}}])
    assert await caller.state("vip", first) == 404
    time.now += 2
    assert await caller.state("vip", first) == "REPLACED"
    assert await caller.state("vip", second) == "APPLIED"
    assert caller.sandbox.members("vip") == {"u3": SandboxMember(attributes={"age": 30})}


async def test_name_is_taken_from_create_to_delete(caller: Caller, time: Time) -> None:
    """A second create is refused until the audience is deleted."""
    await caller.create_cep("vip")
    for seconds in (0, 2):
        time.now += seconds
        answered = await caller.cep("POST", "create", {"name": "vip", "type": "custom_ids"})
        assert (answered.status, answered.body["error_code"]) == (400, "MALFORMED_PARAMETER")
    await caller.cep("POST", "remove", {"name": "vip"})
    await caller.create_cep("vip")


async def test_deleted_audience_is_visible_until_applied(caller: Caller, time: Time) -> None:
    """A deleted audience stays visible until its deletion is applied, but accepts no writes."""
    await caller.create_cep("vip")
    time.now += 2
    deleted = await caller.cep("POST", "remove", {"name": "vip"})
    token = deleted.body["indexing_token"]
    assert deleted.status == 202
    assert await caller.state("vip", token) == "IN_PROGRESS"
    assert (await caller.cep("POST", "remove", {"name": "vip"})).status == 404
    assert (await caller.cep("POST", "update", {"name": "vip", "ids": added("u1")})).status == 404
    time.now += 2
    assert await caller.state("vip", token) == 404


async def test_recreated_audience_is_empty(caller: Caller, time: Time) -> None:
    """Tokens from before the deletion are REPLACED. The deletion's token is APPLIED."""
    await caller.create_cep("vip")
    before = await write(caller, "update", "vip", added("u1"))
    deleted = (await caller.cep("POST", "remove", {"name": "vip"})).body["indexing_token"]
    created = await caller.create_cep("vip")
    time.now += 2
    assert [await caller.state("vip", token) for token in (before, deleted, created)] == [
        "REPLACED",
        "APPLIED",
        "APPLIED",
    ]
    assert caller.sandbox.members("vip") == {}


async def test_token_is_replaced_once_a_later_replace_is_applied(caller: Caller, time: Time) -> None:
    """A replace changes earlier tokens to REPLACED when it is applied, and no later ones."""
    await caller.create_cep("vip")
    time.now += 2
    update = await write(caller, "update", "vip", added("u1"))
    time.now += 1
    replace = await write(caller, "replace", "vip", [{"id": "u2"}])
    time.now += 1.5
    assert [await caller.state("vip", token) for token in (update, replace)] == ["APPLIED", "IN_PROGRESS"]
    later = await write(caller, "update", "vip", [*removed("u2"), *added("u3")])
    time.now += 2
    states = [await caller.state("vip", token) for token in (update, replace, later)]
    assert states == ["REPLACED", "APPLIED", "APPLIED"]
    assert caller.sandbox.members("vip").keys() == {"u3"}


async def test_cursor_is_stable_when_audiences_are_created(caller: Caller, time: Time) -> None:
    """An audience created between two pages shifts no rows. Only the first page has a count."""
    for number in range(5):
        await caller.create_cep(f"a{number}")
    time.now += 2
    first = (await caller.cep("GET", "list?limit=2")).body
    await caller.create_cep("new")
    time.now += 2
    second = (await caller.cep("GET", f"list?limit=2&from={first['next_from']}")).body
    third = (await caller.cep("GET", f"list?limit=2&from={second['next_from']}")).body
    pages = [[row["name"] for row in page["audiences"]] for page in (first, second, third)]
    assert pages == [["a4", "a3"], ["a2", "a1"], ["a0"]]
    assert [page.get("count") for page in (first, second, third)] == [5, None, None]
    assert [page["has_more"] for page in (first, second, third)] == [True, True, False]
    assert "next_from" not in third


@pytest.mark.parametrize("options", [SandboxOptions(indexing_delay=(1, 9))])
async def test_list_follows_the_order_of_creation(caller: Caller, time: Time) -> None:
    """The cursor follows the order in which creates were applied, not the order of requests."""
    names = {f"a{number}" for number in range(30)}
    for name in sorted(names):
        await caller.create_cep(name)
    time.now += 9
    listed: list[str] = []
    query = "list?limit=7"
    while query:
        page = (await caller.cep("GET", query)).body
        listed += [row["name"] for row in page["audiences"]]
        query = f"list?limit=7&from={page['next_from']}" if page["has_more"] else ""
    assert sorted(listed) == sorted(names)


async def test_list_has_the_state_of_the_last_update(caller: Caller, time: Time) -> None:
    """A row of the list equals a view without a token."""
    await caller.create_cep("vip")
    time.now += 2
    await write(caller, "update", "vip", added("u1"))
    for state in ("IN_PROGRESS", "APPLIED"):
        (row,) = (await caller.cep("GET", "list")).body["audiences"]
        assert row == (await caller.cep("GET", "view?name=vip")).body
        assert row["indexing_state"] == state
        time.now += 2


@pytest.mark.parametrize(
    "query",
    [
        "from=",
        "from=5",
        "from=%C3%A9",
        f"from={base64.urlsafe_b64encode(b'after:x').decode()}",
        "limit=101",
        "x=1",
    ],
)
async def test_invalid_list_query_is_refused(caller: Caller, query: str) -> None:
    """A cursor that is not the list's own is refused, and so are unknown parameters."""
    answered = await caller.cep("GET", f"list?{query}")
    assert (answered.status, answered.body["error_code"]) == (400, "MALFORMED_PARAMETER")


@pytest.mark.parametrize(
    ("headers", "status", "name"),
    [
        ({"X-Batch-Project": PROJECT_KEY}, 401, "AUTHENTICATION_INVALID"),
        ({"Authorization": "Bearer wrong", "X-Batch-Project": PROJECT_KEY}, 401, "AUTHENTICATION_INVALID"),
        ({"Authorization": REST_API_KEY, "X-Batch-Project": PROJECT_KEY}, 401, "AUTHENTICATION_INVALID"),
        ({"Authorization": f"Bearer {REST_API_KEY}"}, 401, "AUTHENTICATION_INVALID"),
        ({"Authorization": f"Bearer {REST_API_KEY}", "X-Batch-Project": "x"}, 401, "AUTHENTICATION_INVALID"),
    ],
)
async def test_both_keys_are_checked(caller: Caller, headers: dict[str, str], status: int, name: str) -> None:
    """A missing or wrong key is 401. A project of another REST key is 403."""
    answered = await caller.raw("GET", "/2.11/audiences/list", headers=headers)
    assert (answered.status, answered.body["error_code"]) == (status, name)


@pytest.mark.parametrize(
    ("step", "body", "name"),
    [
        ("create", {"type": "custom_ids"}, "MISSING_PARAMETER"),
        ("create", {"name": "vip"}, "MISSING_PARAMETER"),
        ("create", {"name": "a b", "type": "custom_ids"}, "MALFORMED_PARAMETER"),
        ("create", {"name": 5, "type": "custom_ids"}, "MALFORMED_PARAMETER"),
        ("create", {"name": "vip", "type": "CUSTOM_ID"}, "MALFORMED_PARAMETER"),
        ("create", {"name": "vip", "type": "custom_ids", "description": "x"}, "MALFORMED_PARAMETER"),
        ("update", {"name": "vip"}, "MISSING_PARAMETER"),
        ("replace", {"name": "vip"}, "MISSING_PARAMETER"),
        ("update", {"ids": []}, "MISSING_PARAMETER"),
        ("update", {"name": "vip", "ids": added("u1"), "type": "custom_ids"}, "MALFORMED_PARAMETER"),
        ("remove", {}, "MISSING_PARAMETER"),
        ("remove", {"name": "vip", "ids": removed("u1")}, "MALFORMED_PARAMETER"),
        ("create", None, "MALFORMED_JSON_BODY"),
    ],
)
async def test_malformed_request_is_400(caller: Caller, step: str, body: Any, name: str) -> None:
    """The error's name gives the kind of problem."""
    answered = await caller.cep("POST", step, body)
    assert (answered.status, answered.body["error_code"]) == (400, name)
    assert answered.body.keys() == {"error_code", "error_message"}


async def test_2_x_has_no_tags(caller: Caller) -> None:
    """Only 1.1 accepts tags."""
    await caller.create_cep("vip")
    rows = [{"action": "add", "id": "u1", "tags": ["a"]}]
    answered = await caller.cep("POST", "update", {"name": "vip", "ids": rows})
    assert answered.body["error_message"] == "ids[0] may have only action, attributes, id here"


@pytest.mark.parametrize("step", ["update", "replace", "remove"])
async def test_missing_audience_is_404(caller: Caller, step: str) -> None:
    """No write creates an audience."""
    rows = {"update": {"ids": added("u1")}, "replace": {"ids": [{"id": "u1"}]}, "remove": {}}[step]
    answered = await caller.cep("POST", step, {"name": "vip", **rows})
    assert (answered.status, answered.body["error_code"]) == (404, "ROUTE_NOT_FOUND")


@pytest.mark.parametrize(
    ("query", "name"),
    [("", "MISSING_PARAMETER"), ("?name=a.b", "MALFORMED_PARAMETER"), ("?id=1", "MALFORMED_PARAMETER")],
)
async def test_view_needs_a_valid_name(caller: Caller, query: str, name: str) -> None:
    """A view without a valid name is refused."""
    answered = await caller.cep("GET", f"view{query}")
    assert (answered.status, answered.body["error_code"]) == (400, name)


async def test_unknown_token_is_400(caller: Caller, time: Time) -> None:
    """A token of another audience, or of none, is malformed."""
    token = await caller.create_cep("vip")
    await caller.create_cep("other")
    time.now += 2
    assert await caller.state("vip", "unknown") == 400
    assert await caller.state("other", token) == 400
