from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from aiobatch import (
    AiobatchError,
    AudienceNotFoundError,
    InvalidInputError,
    ResponseError,
    TransportError,
)
from aiobatch.interfaces import Request, Response
from aiobatch.sandbox import Sandbox
from aiobatch.sync import AudienceGoneError, RunOutcome, SendError
from aiobatch.sync.run._chunk_sender import _is_without_effect
from aiobatch.testing import json_response

from ..sync_env import ONCE, SyncEnv, ids, sync_env

# Batch documents none of these answers, so a sync must hold under each.
WAYS: list[dict[str, Any]] = [
    {"missing_audience": missing, "taken_name": taken} for missing in (404, 400) for taken in (400, 409)
]


class Tapped:
    """A transport without a socket, with a function before each request that may replace its response."""

    def __init__(self, sandbox: Sandbox, tap: Callable[[Request], Response | None]) -> None:
        self._sandbox = sandbox
        self._tap = tap

    async def send(self, request: Request) -> Response:
        """Send a request to the sandbox."""
        replaced = self._tap(request)
        status, headers, body = self._sandbox.answer(
            request.method, request.target, request.headers, request.body
        )
        return replaced or Response(status=status, headers=headers, body=body)

    async def aclose(self) -> None:
        """Do nothing."""


@pytest.fixture(params=WAYS, ids=lambda way: "-".join(map(str, way.values())))
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    """One way to answer."""
    chosen: dict[str, Any] = request.param
    return chosen


@pytest.mark.sample(4)
@pytest.mark.parametrize("fault", [None, "lost", "truncated", "500"])
async def test_audience_is_created_on_request(tmp_path: Path, way: dict[str, Any], fault: str | None) -> None:
    """With create, a sync creates a missing audience, also after a lost response. Without, it is an error."""
    async with sync_env(tmp_path, **way) as env:
        with pytest.raises(AudienceNotFoundError):
            await env.sync(["a"], create=False)
        if fault is not None:
            env.sandbox.fail_next(fault, operation="create")
        assert (await env.sync(["a", "b"])).outcome is RunOutcome.DONE
        assert await env.has_exactly(["a", "b"])


@pytest.mark.sample(1)
async def test_audience_that_a_killed_run_created_is_used(tmp_path: Path, way: dict[str, Any]) -> None:
    """A creation that is not indexed yet takes the name, and the sync waits for it."""
    async with sync_env(tmp_path, **(way | {"indexing_delay": 0.5})) as env:
        async with env.client() as client:
            await client.create("vip")
        assert (await env.sync(["a"], timeout=None)).outcome is RunOutcome.DONE
        assert await env.has_exactly(["a"])


@pytest.mark.sample(1)
async def test_deleted_audience_is_noticed(tmp_path: Path, way: dict[str, Any]) -> None:
    """An audience that was deleted between two runs is gone, however Batch answers."""
    async with sync_env(tmp_path, **way) as env:
        await env.sync(["a"])
        await _delete(env)
        with pytest.raises(AudienceGoneError):
            await env.sync(["a", "b"])


@pytest.mark.sample(1)
async def test_audience_that_is_deleted_before_sending_blames_no_id(
    tmp_path: Path, way: dict[str, Any]
) -> None:
    """If the audience is gone when the chunks are sent, the run fails with that, and refuses no ID."""
    async with sync_env(tmp_path, indexing_delay=0, **way) as env:
        await env.sync(["a"])

        def delete_first(request: Request) -> None:
            if request.operation == "update":
                body = orjson.dumps({"name": "vip"})
                env.sandbox.answer("POST", "/2.11/audiences/remove", request.headers, body)

        with pytest.raises(SendError, match="does not exist") as caught:
            await env.sync(ids(range(30)), client={"transport": Tapped(env.sandbox, delete_first)})
        assert caught.value.report.refused == 0


async def test_view_that_fails_does_not_hide_a_refusal(tmp_path: Path) -> None:
    """If a chunk is refused and Batch then does not show the audience, the refusal decides."""
    async with sync_env(tmp_path, indexing_delay=0) as env:
        await env.sync(["a"])
        refused, forbidden = False, json_response(403, {"error_code": "API_MISUSE", "error_message": "no"})

        def answer(request: Request) -> Response | None:
            nonlocal refused
            if request.operation == "update":
                refused = True
                return json_response(400, {"error_code": "MALFORMED_PARAMETER", "error_message": "no"})
            return forbidden if refused else None

        report = await env.sync(["a", "b"], client=ONCE | {"transport": Tapped(env.sandbox, answer)})
        assert (report.refused, report.applied) == (1, 0)


async def _delete(env: SyncEnv) -> None:
    """Delete the audience, and wait for it."""
    async with env.client() as client:
        token = await client.delete("vip")
        assert token is not None
        await client.await_applied(token)


HTML = Response(status=404, body=b"<html>default backend - 404</html>")


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "odd",
    [json_response(408, {"code": 1}), json_response(409, {"code": 1}), Response(status=425), HTML],
    ids=lambda odd: str(odd.status),
)
async def test_chunk_of_unknown_outcome_stays_open(tmp_path: Path, odd: Response) -> None:
    """A status that does not prove a refusal leaves the chunk open, so that no ID becomes a stray."""
    async with sync_env(tmp_path) as env:
        await env.sync(["a"])

        def answer(request: Request) -> Response | None:
            return odd if request.operation == "update" else None

        with pytest.raises(SendError):
            await env.sync(["a", "b"], client=ONCE | {"transport": Tapped(env.sandbox, answer)})
        assert (await env.sync(["a"])).outcome is RunOutcome.DONE
        assert await env.has_exactly(["a"])


_FIELDS: dict[str, Any] = {"method": "PATCH", "path": "/"}
CERTAIN = {400, 401, 403, 404, 413, 429}


@pytest.mark.parametrize("status", [*range(300, 600)])
def test_few_statuses_are_certain_to_have_had_no_effect(status: int) -> None:
    """Six statuses prove it, at the first try and in Batch's form. 413 and 429 prove it in any form."""
    error = ResponseError("no", status=status, **_FIELDS)
    assert _is_without_effect(error) == (status in CERTAIN)
    assert not _is_without_effect(ResponseError("no", status=status, attempts=2, **_FIELDS))
    page = ResponseError("no", status=status, is_foreign=True, **_FIELDS)
    assert _is_without_effect(page) == (status in {413, 429})


@pytest.mark.parametrize("error", [TransportError("lost"), AiobatchError("closed")])
def test_other_failures_are_open(error: AiobatchError) -> None:
    """Only an argument that was refused before sending is certain besides."""
    assert not _is_without_effect(error)
    assert _is_without_effect(InvalidInputError("no"))
