from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from aiobatch import Limits
from aiobatch.interfaces import Request, Response, Transport
from aiobatch.sync import (
    SendError,
)
from aiobatch.transport import AiohttpTransport

from ..sync_env import sync_env


@attrs.define
class _Forgetful:
    """A transport to a service that does not know the tokens of the first so many questions."""

    inner: Transport
    times: int

    async def send(self, request: Request) -> Response:
        """Ask about another token as long as the service forgets."""
        if "indexing_token=" in request.target and self.times:
            self.times -= 1
            return await self.inner.send(attrs.evolve(request, target=request.target + "0"))
        return await self.inner.send(request)

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self.inner.aclose()


@pytest.mark.parametrize(("times", "calls"), [(2, 3), (1000, None)])
async def test_chunk_with_unknown_token_is_resent_a_few_times(
    tmp_path: Path, times: int, calls: int | None
) -> None:
    """Resending changes nothing. A service that never knows its tokens fails the run."""
    async with sync_env(tmp_path) as env:
        await env.sync(["a"])
        edge = AiohttpTransport(env.sandbox.url, limits=Limits(), request_timeout=5)
        syncing = env.sync(["a", "b"], client={"transport": _Forgetful(edge, times)})
        if calls is None:
            with pytest.raises(SendError, match="does not know a token"):
                await syncing
            await env.sync(["a", "b"])
        else:
            assert (await syncing).calls == calls
        assert await env.has_exactly(["a", "b"])


async def test_unknown_token_of_an_earlier_run_leaves_its_ids_to_the_new_source(tmp_path: Path) -> None:
    """A chunk whose token Batch does not know is not sent again as it is: the new source decides."""
    async with sync_env(tmp_path) as env:
        await env.sync(["a"])
        await env.sync(["a", "b", "c"], wait=False)
        edge = AiohttpTransport(env.sandbox.url, limits=Limits(), request_timeout=5)
        await env.sync(["a", "c", "d"], client={"transport": _Forgetful(edge, 1)})
        assert await env.has_exactly(["a", "c", "d"])


class _Locked(AiohttpTransport):
    """A transport whose key is taken back with the first update."""

    def __init__(self, url: str) -> None:
        super().__init__(url, limits=Limits(), request_timeout=5)
        self._updated = False

    async def send(self, request: Request) -> Response:
        """Spoil the key of what comes after an update."""
        if self._updated:
            request = attrs.evolve(request, headers={**request.headers, "Authorization": "Bearer no"})
        self._updated = self._updated or request.operation == "update"
        return await super().send(request)


async def test_unreadable_token_fails_the_run(tmp_path: Path) -> None:
    """A key that is revoked during the wait ends it, and the next run continues."""
    async with sync_env(tmp_path, indexing_delay=0.2) as env:
        with pytest.raises(SendError, match="could not check"):
            await env.sync(["a"], client={"transport": _Locked(env.sandbox.url)})
        assert (await env.sync(["a"])).settled_run == 1
        assert await env.has_exactly(["a"])
