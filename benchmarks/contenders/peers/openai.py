"""openai: `vector_stores.files.poll`, the helper with a waiter."""

from __future__ import annotations

from typing import Any

from openai import AsyncOpenAI

from ...measure.processes import Measures
from ...measure.resources import measure_waits
from ...measure.server_control import Order


async def await_tokens(url: str, order: dict[str, Any], waiters: int = 1) -> Measures:
    """Wait for files of vector stores with the defaults."""
    async with AsyncOpenAI(base_url=f"{url}/openai", api_key="benchmark-api-key") as client:

        async def wait(audience: str, token: str) -> None:
            await client.vector_stores.files.poll(token, vector_store_id=audience)

        return await measure_waits(wait, url, Order(**order), waiters=waiters)
