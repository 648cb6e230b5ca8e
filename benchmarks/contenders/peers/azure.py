"""azure-core: `AsyncLROPoller` over `AsyncLROBasePolling`, in the pipeline of its generated clients."""

from __future__ import annotations

import asyncio
from typing import Any

from azure.core import AsyncPipelineClient
from azure.core.pipeline import policies
from azure.core.polling import AsyncLROPoller
from azure.core.polling.async_base_polling import AsyncLROBasePolling
from azure.core.rest import AsyncHttpResponse, HttpRequest

from ...measure.processes import Measures
from ...measure.resources import measure_waits
from ...measure.server_control import Order, begin

# `polling_interval` of a generated client's methods; 30 s by default.
_INTERVAL = 1.0

_Client = AsyncPipelineClient[HttpRequest, AsyncHttpResponse]


async def await_tokens(url: str, order: dict[str, Any], waiters: int = 1) -> Measures:
    """Wait for started operations. Waiters of one operation share a poller."""
    expected = Order(**order)
    begin(url, Order())
    async with _client(url) as client:
        tokens = [f"t{number}" for number in range(expected.tokens)]
        pollers = await asyncio.gather(*(_start(client, url, token) for token in tokens))
        by_token = dict(zip(tokens, pollers, strict=True))

        async def wait(_audience: str, token: str) -> None:
            await by_token[token].result()

        return await measure_waits(wait, url, expected, waiters=waiters)


def _client(url: str) -> _Client:
    """Return a client with the policies of a generated one."""
    pipeline: list[Any] = [
        policies.RequestIdPolicy(),
        policies.HeadersPolicy(),
        policies.UserAgentPolicy(sdk_moniker="benchmark/1.0"),
        policies.ProxyPolicy(),
        policies.ContentDecodePolicy(),
        policies.AsyncRedirectPolicy(),
        policies.AsyncRetryPolicy(),
        policies.CustomHookPolicy(),
        policies.NetworkTraceLoggingPolicy(),
        policies.DistributedTracingPolicy(),
        policies.SensitiveHeaderCleanupPolicy(),
        policies.HttpLoggingPolicy(),
    ]
    return AsyncPipelineClient(url, policies=pipeline)


async def _start(client: _Client, url: str, token: str) -> AsyncLROPoller[Any]:
    """Start an operation."""
    request = HttpRequest("POST", f"{url}/azure/start/{token}")
    started = await client.send_request(request, _return_pipeline_response=True)
    polling: AsyncLROBasePolling[Any, HttpRequest, AsyncHttpResponse] = AsyncLROBasePolling(
        timeout=_INTERVAL, path_format_arguments={"endpoint": url}
    )
    return AsyncLROPoller(client, started, lambda response: response, polling)
