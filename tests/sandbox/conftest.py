"""Fixtures: a sandbox on a free port, a manual clock, and a caller with the sandbox's keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import attrs
import orjson
import pytest

from aiobatch.sandbox import API_KEY, PROJECT_KEY, REST_API_KEY, Sandbox, SandboxOptions

MEP_KEYS = {"X-Authorization": REST_API_KEY}
CEP_KEYS = {"Authorization": f"Bearer {REST_API_KEY}", "X-Batch-Project": PROJECT_KEY}


class Time:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@attrs.frozen
class Answered:
    """A response, read to its end."""

    status: int
    body: Any
    headers: Any


@attrs.frozen
class Caller:
    """Calls a sandbox with its keys."""

    session: aiohttp.ClientSession
    sandbox: Sandbox

    async def raw(self, method: str, path: str, **kwargs: Any) -> Answered:
        """Send a request unchanged."""
        async with self.session.request(method, self.sandbox.url + path, **kwargs) as response:
            body = await response.read()
            if body and response.content_type == "application/json":
                return Answered(response.status, orjson.loads(body), response.headers)
            return Answered(response.status, body, response.headers)

    async def mep(self, method: str, name: str, body: Any = None, *, version: str = "1.0") -> Answered:
        """Call 1.x. *name* can include a query."""
        path = f"/{version}/{API_KEY}/custom-audience{'/' if name[:1] not in ('', '?') else ''}{name}"
        return await self.raw(method, path, json=body, headers=MEP_KEYS)

    async def cep(self, method: str, step: str, body: Any = None, *, version: str = "2.11") -> Answered:
        """Call 2.x. *step* can include a query."""
        return await self.raw(method, f"/{version}/audiences/{step}", json=body, headers=CEP_KEYS)

    async def create(self, name: str) -> None:
        """Create an audience of custom IDs in 1.x, which exists at once."""
        assert (await self.mep("POST", name, {"type": "custom_ids"})).status == 200

    async def create_cep(self, name: str) -> str:
        """Create an audience in 2.x and return the token."""
        answered = await self.cep("POST", "create", {"name": name, "type": "custom_ids"})
        assert answered.status == 202
        return str(answered.body["indexing_token"])

    async def state(self, name: str, token: str | None = None) -> Any:
        """Return the indexing state in 2.x, or the status if there is no audience."""
        query = f"view?name={name}" + (f"&indexing_token={token}" if token else "")
        answered = await self.cep("GET", query)
        return answered.body["indexing_state"] if answered.status == 200 else answered.status


def added(*ids: str) -> list[dict[str, str]]:
    """Return rows of an update that add."""
    return [{"action": "add", "id": member_id} for member_id in ids]


def removed(*ids: str) -> list[dict[str, str]]:
    """Return rows of an update that remove."""
    return [{"action": "remove", "id": member_id} for member_id in ids]


@pytest.fixture
def time() -> Time:
    """A clock that stops until a test sets it."""
    return Time()


@pytest.fixture
def options() -> SandboxOptions:
    """Options with an indexing delay of 2 seconds. A test can override this fixture."""
    return SandboxOptions(indexing_delay=2, slow_answer=0.01)


@pytest.fixture
async def sandbox(options: SandboxOptions, time: Time) -> AsyncIterator[Sandbox]:
    """A running sandbox."""
    async with Sandbox(options, monotonic=time) as sandbox:
        yield sandbox


@pytest.fixture
async def caller(sandbox: Sandbox) -> AsyncIterator[Caller]:
    """A caller of the sandbox."""
    async with aiohttp.ClientSession() as session:
        yield Caller(session, sandbox)
