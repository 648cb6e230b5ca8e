"""The answers that Batch does not document, each in both ways."""

from __future__ import annotations

from typing import Any

import pytest

from aiobatch.sandbox import REST_API_KEY, SandboxOptions

from .conftest import Caller, added


@pytest.fixture(params=[404, 400])
def missing(request: pytest.FixtureRequest) -> int:
    """The status for a missing audience."""
    return int(request.param)


@pytest.fixture
def options(missing: int) -> SandboxOptions:
    """A sandbox that answers one way."""
    if missing == 404:
        return SandboxOptions(indexing_delay=2)
    return SandboxOptions(
        indexing_delay=2, missing_audience=400, taken_name=409, unknown_project=403, delete_answer="nothing"
    )


async def test_missing_audience_has_the_chosen_status(caller: Caller, missing: int) -> None:
    """Every operation but create and list answers it, in the form of each generation."""
    rows = added("u1")
    answers = [
        await caller.mep("GET", "vip"),
        await caller.mep("PATCH", "vip", {"type": "custom_ids", "ids": rows}),
        await caller.mep("DELETE", "vip"),
        await caller.cep("GET", "view?name=vip"),
        await caller.cep("POST", "update", {"name": "vip", "ids": rows}),
        await caller.cep("POST", "replace", {"name": "vip", "ids": [{"id": "u1"}]}),
        await caller.cep("POST", "remove", {"name": "vip"}),
    ]
    assert [answer.status for answer in answers] == [missing] * 7
    assert all(("code" in answer.body) != ("error_code" in answer.body) for answer in answers)


async def test_taken_name_has_the_chosen_status(caller: Caller, missing: int) -> None:
    """A second create is refused with 400 or 409."""
    await caller.create("vip")
    await caller.create_cep("vip")
    body = {"name": "vip", "type": "custom_ids"}
    answers = [
        await caller.mep("POST", "vip", {"type": "custom_ids"}),
        await caller.cep("POST", "create", body),
    ]
    assert [answer.status for answer in answers] == [400 if missing == 404 else 409] * 2


async def test_unknown_project_has_the_chosen_status(caller: Caller, missing: int) -> None:
    """The REST key is valid, but not for the project: 401 or 403."""
    headers = {"Authorization": f"Bearer {REST_API_KEY}", "X-Batch-Project": "another"}
    answer = await caller.raw("GET", "/2.11/audiences/list", headers=headers)
    name = "AUTHENTICATION_INVALID" if missing == 404 else "API_MISUSE"
    assert (answer.status, answer.body["error_code"]) == (401 if missing == 404 else 403, name)


async def test_delete_has_the_chosen_body(caller: Caller, missing: int) -> None:
    """A delete in 1.x answers an empty object or nothing."""
    await caller.create("vip")
    answer = await caller.mep("DELETE", "vip")
    assert answer.status == 200
    assert answer.body == {} if missing == 404 else not answer.body


@pytest.mark.parametrize(
    ("id_type", "answered"),
    [("custom_ids", "CUSTOM_ID"), ("emails", "EMAIL"), ("install_ids", "INSTALL_ID")],
)
async def test_project_has_three_types_of_ids(caller: Caller, time: Any, id_type: str, answered: str) -> None:
    """A view of 2.x has the type in the form of 2.x."""
    await caller.cep("POST", "create", {"name": "vip", "type": id_type})
    time.now += 2
    assert (await caller.cep("GET", "view?name=vip")).body["type"] == answered
    refused = await caller.cep("POST", "create", {"name": "new", "type": "advertising_ids"})
    assert refused.status == 400
