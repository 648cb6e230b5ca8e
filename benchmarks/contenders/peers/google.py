"""google-api-core: `AsyncOperation` over its own client of long-running operations, by REST."""

from __future__ import annotations

from typing import Any

from google.api_core.operation_async import AsyncOperation, from_gapic
from google.api_core.operations_v1 import AsyncOperationsRestClient
from google.api_core.operations_v1.transports.rest_asyncio import AsyncOperationsRestTransport
from google.auth.aio.credentials import AnonymousCredentials
from google.longrunning.operations_pb2 import Operation
from google.protobuf.empty_pb2 import Empty

from ...measure.processes import Measures
from ...measure.resources import measure_waits
from ...measure.server_control import Order

# Seconds. The default is no limit.
_TIMEOUT = 60


async def await_tokens(url: str, order: dict[str, Any], waiters: int = 1) -> Measures:
    """Wait for operations. Waiters of one operation share a future."""
    expected = Order(**order)
    transport = AsyncOperationsRestTransport(host=url, credentials=AnonymousCredentials())
    client = AsyncOperationsRestClient(transport=transport)
    futures: dict[str, AsyncOperation] = {
        f"t{number}": from_gapic(Operation(name=f"projects/p/operations/t{number}"), client, Empty)
        for number in range(expected.tokens)
    }

    async def wait(_audience: str, token: str) -> None:
        await futures[token].result(timeout=_TIMEOUT)

    try:
        return await measure_waits(wait, url, expected, waiters=waiters)
    finally:
        await transport._session.close()  # noqa: SLF001 - its own `close` does not work
