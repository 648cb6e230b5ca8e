"""meilisearch-python-sdk: `AsyncClient.wait_for_task`."""

from __future__ import annotations

from typing import Any

from meilisearch_python_sdk import AsyncClient

from ...measure.processes import Measures
from ...measure.resources import measure_waits
from ...measure.server_control import Order

# Milliseconds. With its default of 5,000, most waits would be lost.
_TIMEOUT = 60_000


async def await_tokens(url: str, order: dict[str, Any], waiters: int = 1) -> Measures:
    """Wait for tasks."""
    async with AsyncClient(url, "benchmark-api-key") as client:

        async def wait(_audience: str, token: str) -> None:
            await client.wait_for_task(int(token[1:]), timeout_in_ms=_TIMEOUT)

        return await measure_waits(wait, url, Order(**order), waiters=waiters)
