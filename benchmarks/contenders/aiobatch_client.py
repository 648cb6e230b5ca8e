"""aiobatch's client with its defaults."""

from __future__ import annotations

from aiobatch import App, AudienceClient, IndexingToken, Operation, Project

from ..measure.processes import Measures
from ..measure.resources import Memory, Stopwatch, check, confirm, measure_waits
from ..measure.server_control import Order, begin
from ..workload.ids import API_KEY, PROJECT_KEY, REST_API_KEY, ids, names


def _client(url: str, version: str = "2.11") -> AudienceClient:
    if version.startswith("1"):
        app = App(rest_api_key=REST_API_KEY, api_key=API_KEY, version=version)
        return AudienceClient(app, base_url=url)
    project = Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY, version=version)
    return AudienceClient(project, base_url=url)


async def view_many(url: str, views: int, concurrency: int) -> Measures:
    """View many audiences."""
    begin(url, Order())
    seen = set()
    async with _client(url) as client:
        watch = Stopwatch()
        async for audience in client.view_many(names(views), concurrency=concurrency):
            seen.add(audience.name)
        spent = watch.read(views)
    check("audiences seen", len(seen), views)
    return {**spent, **confirm(url, "view", requests=views)}


async def upload(url: str, count: int, *, in_order: bool = False) -> Measures:
    """Upload IDs from a generator."""
    begin(url, Order())
    async with _client(url) as client:
        memory = Memory()
        watch = Stopwatch()
        tokens = await client.upload("vip", add=ids(count, in_order=in_order))
        spent = {**watch.read(count), **memory.read()}
    return {**spent, **confirm(url, "update", requests=len(tokens), ids=count)}


async def await_tokens(url: str, order: dict[str, object], version: str, waiters: int = 1) -> Measures:
    """Wait for tokens of unknown age, as after a restart."""
    async with _client(url, version) as client:

        async def wait(audience: str, token: str) -> None:
            await client.await_applied(IndexingToken(audience, token, Operation.UPDATE))

        return await measure_waits(wait, url, Order(**order), waiters=waiters)  # type: ignore[arg-type]  # came as JSON
