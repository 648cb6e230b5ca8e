"""httpx by hand: a loop for each wait that polls every second."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from ...measure.processes import Measures
from ...measure.resources import measure_waits
from ...measure.server_control import Order
from ...workload.ids import HEADERS_2X

_INTERVAL = 1.0
# The size of the pool. With 2,000 queued requests, its queue takes a minute of CPU and all time out.
_AT_ONCE = 100


async def await_tokens(url: str, order: dict[str, Any], waiters: int = 1) -> Measures:
    """Wait for tokens of 2.x."""
    turns = asyncio.Semaphore(_AT_ONCE)
    async with httpx.AsyncClient(headers=HEADERS_2X, base_url=url) as client:

        async def is_applied(address: str) -> bool:
            async with turns:
                response = await client.get(address)
            response.raise_for_status()
            return bool(response.json()["indexing_state"] == "APPLIED")

        async def wait(audience: str, token: str) -> None:
            address = f"/2.11/audiences/view?name={audience}&indexing_token={token}"
            while not await is_applied(address):  # noqa: ASYNC110 - polling is measured
                await asyncio.sleep(_INTERVAL)

        return await measure_waits(wait, url, Order(**order), waiters=waiters)
