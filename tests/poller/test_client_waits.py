"""Waits of a whole client: what ends them, what they log, and in which context they run."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from aiobatch import AudienceClient, IndexingState, IndexingToken, Project
from aiobatch.testing import FakeClock, FakeTransport, json_response

PROJECT = Project(rest_api_key="rest", project_key="project")
TOKEN = IndexingToken("vip", "t1")
VIEW: dict[str, Any] = {
    "name": "vip",
    "type": "CUSTOM_ID",
    "display_name": "VIP",
    "nb_ids": 1,
    "created": "2024-01-01T00:00:00Z",
    "updated": "2024-01-01T00:00:00Z",
}
# Values of every JSON type, none of which is valid in all fields.
ODD_VALUES = (None, True, -1, 1.5, 1704067200, "", "01/02/2024 10:00", [1], {"en": "VIP"})


@pytest.mark.parametrize("field", VIEW)
@pytest.mark.parametrize("value", ODD_VALUES, ids=repr)
async def test_wait_needs_the_state_only(field: str, value: object, caplog: pytest.LogCaptureFixture) -> None:
    """A wait ends whatever another field is. Many polls log one warning for an unreadable field."""
    states = iter(["IN_PROGRESS"] * 3 + ["APPLIED"] * 9)
    transport = FakeTransport(
        lambda _: json_response(200, VIEW | {field: value, "indexing_state": next(states)})
    )
    async with AudienceClient(PROJECT, transport=transport, clock=FakeClock()) as client:
        with caplog.at_level(logging.WARNING, "aiobatch"):
            audience = await client.await_applied(TOKEN)
            await client.await_applied(TOKEN)

    assert (audience.name, audience.indexing_state) == (
        "vip" if field != "name" else audience.name,
        "APPLIED",
    )
    assert audience.indexing_state is IndexingState.APPLIED
    assert len(caplog.records) <= 1
    for record in caplog.records:
        assert f"unreadable field ignored: field={field} problem=" in record.getMessage()


async def test_wait_needs_no_other_field() -> None:
    """A response with the state alone ends a wait."""
    transport = FakeTransport(lambda _: json_response(200, {"indexing_state": "APPLIED"}))
    async with AudienceClient(PROJECT, transport=transport, clock=FakeClock()) as client:
        assert (await client.await_applied(TOKEN)).name == "vip"
