"""Hand-written baselines: one session, a few workers, orjson."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import aiohttp
import httpx
import orjson

from ..measure.processes import Measures
from ..measure.resources import Memory, Stopwatch, check, confirm, measure_waits
from ..measure.server_control import Order, begin
from ..workload.ids import API_KEY, HEADERS_1X, HEADERS_2X, ids, names

_CHUNK = 10_000
_INTERVAL = 1.0


async def view_many(url: str, views: int, concurrency: int) -> Measures:
    """View many audiences with aiohttp."""
    async with aiohttp.ClientSession(headers=HEADERS_2X) as session:

        async def view(name: str) -> object:
            async with session.get(f"{url}/2.11/audiences/view?name={name}") as response:
                response.raise_for_status()
                return orjson.loads(await response.read())["name"]

        return await _measure_views(view, url, views, concurrency)


async def view_many_httpx(url: str, views: int, concurrency: int) -> Measures:
    """View many audiences with httpx."""
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    async with httpx.AsyncClient(headers=HEADERS_2X, limits=limits) as client:

        async def view(name: str) -> object:
            response = await client.get(f"{url}/2.11/audiences/view?name={name}")
            response.raise_for_status()
            return orjson.loads(response.content)["name"]

        return await _measure_views(view, url, views, concurrency)


async def _measure_views(
    view: Callable[[str], Awaitable[object]], url: str, views: int, concurrency: int
) -> Measures:
    """View all names with several workers."""
    begin(url, Order())
    seen = set()
    left = iter(names(views))

    async def work() -> None:
        for name in left:
            seen.add(await view(name))

    watch = Stopwatch()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    spent = watch.read(views)
    check("audiences seen", len(seen), views)
    return {**spent, **confirm(url, "view", requests=views)}


async def upload(url: str, count: int, in_flight: int, *, in_order: bool = False) -> Measures:
    """Upload IDs from a generator."""
    begin(url, Order())
    chunks = _bodies(ids(count, in_order=in_order))
    tokens = []
    async with aiohttp.ClientSession(headers=HEADERS_2X) as session:

        async def work() -> None:
            for body in chunks:
                async with session.post(f"{url}/2.11/audiences/update", data=body) as response:
                    response.raise_for_status()
                    tokens.append(orjson.loads(await response.read())["indexing_token"])

        memory = Memory()
        watch = Stopwatch()
        await asyncio.gather(*(work() for _ in range(in_flight)))
        spent = {**watch.read(count), **memory.read()}
    return {**spent, **confirm(url, "update", requests=len(tokens), ids=count)}


def _bodies(left: Iterator[str]) -> Iterator[bytes]:
    """Yield the bodies of chunks of IDs."""
    while chunk := list(itertools.islice(left, _CHUNK)):
        yield orjson.dumps({"name": "vip", "ids": [{"action": "add", "id": id_} for id_ in chunk]})


async def await_tokens(url: str, order: dict[str, object], version: str, waiters: int = 1) -> Measures:
    """Wait for tokens with a loop for each that polls every second."""
    async with _session_for(url, version) as (session, template):

        async def wait(audience: str, token: str) -> None:
            address = template.format(audience=audience, token=token)
            while True:
                async with session.get(address) as response:
                    response.raise_for_status()
                    if orjson.loads(await response.read())["indexing_state"] == "APPLIED":
                        return
                await asyncio.sleep(_INTERVAL)

        return await measure_waits(wait, url, Order(**order), waiters=waiters)  # type: ignore[arg-type]  # came as JSON


@asynccontextmanager
async def _session_for(url: str, version: str) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """Open a session, and yield it with the URL template of a view."""
    if version.startswith("1"):
        headers, path = HEADERS_1X, f"{API_KEY}/custom-audience/{{audience}}?"
    else:
        headers, path = HEADERS_2X, "audiences/view?name={audience}&"
    async with aiohttp.ClientSession(headers=headers) as session:
        yield session, f"{url}/{version}/{path}indexing_token={{token}}"
