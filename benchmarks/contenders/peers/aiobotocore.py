"""aiobotocore: a waiter of Lambda, one of those that poll every second by default."""

from __future__ import annotations

from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from ...measure.processes import Measures
from ...measure.resources import measure_waits
from ...measure.server_control import Order

# Its default is 10, too few for 2,000 waits that poll every second. The other pools have 100 or more.
_CONNECTIONS = 100


async def await_tokens(url: str, order: dict[str, Any], waiters: int = 1) -> Measures:
    """Wait for functions to become active; the waiter's model polls up to 300 times, every 1 s."""
    opened = get_session().create_client(
        "lambda",
        region_name="eu-west-1",
        endpoint_url=url,
        aws_access_key_id="benchmark-key-id",
        aws_secret_access_key="benchmark-secret-key",  # noqa: S106 - of no account
        config=AioConfig(max_pool_connections=_CONNECTIONS),
    )
    async with opened as client:
        waiter = client.get_waiter("function_active_v2")

        async def wait(audience: str, _token: str) -> None:
            await waiter.wait(FunctionName=audience)

        return await measure_waits(wait, url, Order(**order), waiters=waiters)
