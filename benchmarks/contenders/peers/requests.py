"""requests by hand: a thread for each wait that polls every second, beside the application's event loop."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from ...measure.processes import Measures
from ...measure.resources import measure_waits
from ...measure.server_control import Order
from ...workload.ids import HEADERS_2X

_INTERVAL = 1.0
# As many as the others. With its default of 10, most requests would open a new connection.
_CONNECTIONS = 100


async def await_tokens(url: str, order: dict[str, Any], waiters: int = 1) -> Measures:
    """Wait for tokens of 2.x."""
    expected = Order(**order)
    loop = asyncio.get_running_loop()
    with requests.Session() as session, ThreadPoolExecutor(expected.tokens * waiters) as threads:
        session.headers.update(HEADERS_2X)
        session.mount(url, HTTPAdapter(pool_maxsize=_CONNECTIONS, pool_block=True))

        async def wait(audience: str, token: str) -> None:
            address = f"{url}/2.11/audiences/view?name={audience}&indexing_token={token}"
            await loop.run_in_executor(threads, _wait, session, address)

        return await measure_waits(wait, url, expected, waiters=waiters)


def _wait(session: requests.Session, address: str) -> None:
    """Poll until the token is applied."""
    while True:
        response = session.get(address, timeout=60)
        response.raise_for_status()
        if response.json()["indexing_state"] == "APPLIED":
            return
        time.sleep(_INTERVAL)
