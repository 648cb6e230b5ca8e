"""algoliasearch: `SearchClient.wait_for_task`."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from algoliasearch.http.hosts import Host, HostsCollection
from algoliasearch.search.client import SearchClient
from algoliasearch.search.config import SearchConfig

from ...measure.processes import Measures
from ...measure.resources import measure_waits
from ...measure.server_control import Order

# An application has four hosts to read from.
_HOSTS = 4


async def await_tokens(url: str, order: dict[str, Any], waiters: int = 1) -> Measures:
    """Wait for tasks with the defaults. All hosts are one server."""
    address = urlsplit(url)
    config = SearchConfig("benchmark", "benchmark-api-key")
    config.hosts = HostsCollection(
        [Host(str(address.hostname), scheme="http", port=address.port) for _ in range(_HOSTS)]
    )
    async with SearchClient.create_with_config(config) as client:

        async def wait(audience: str, token: str) -> None:
            await client.wait_for_task(audience, int(token[1:]))

        return await measure_waits(wait, url, Order(**order), waiters=waiters)
