"""The private fixtures of tests that pytest-asyncio runs: one of each kind for each scope of event loops."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final, Literal

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from .._client import AudienceClient

_Scope = Literal["function", "class", "module", "package", "session"]
_SCOPES: Final[tuple[_Scope, ...]] = ("function", "class", "module", "package", "session")


def _fixtures(scope: _Scope) -> dict[str, Any]:
    """Return the fixtures that run in the event loop of *scope*, by name."""

    @pytest_asyncio.fixture(loop_scope=scope)
    async def client(request: pytest.FixtureRequest) -> AsyncIterator[AudienceClient]:
        from ._async_parts import open_client  # noqa: PLC0415 - see the module of the plugin

        async with open_client(request) as client:
            yield client

    @pytest_asyncio.fixture(loop_scope=scope)
    async def tasks(request: pytest.FixtureRequest) -> AsyncIterator[None]:
        from ._async_parts import watch_tasks  # noqa: PLC0415 - see the module of the plugin

        async with watch_tasks(request.node.nodeid):
            yield

    return {f"_batch_client_{scope}": client, f"_batch_tasks_{scope}": tasks}


for _scope in _SCOPES:
    globals().update(_fixtures(_scope))
