"""The CPU time of one view by layer, each over a stub of the layers below it.

The cost of a layer is too small for the difference of two runs over sockets, so it is measured alone. The
shares of the event loop, aiohttp and the kernel are measured over sockets.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterator

import attrs
from aiohttp import ClientSession, DummyCookieJar, TCPConnector

from aiobatch import AudienceClient, IndexingState, IndexingToken, Limits, PollingPolicy, Project, RetryPolicy
from aiobatch._clock import SystemClock
from aiobatch._poller import Poller, settle
from aiobatch._tasks import run_many
from aiobatch.dialects import Dialect, dialect_for
from aiobatch.interfaces import Request, Response
from aiobatch.models import Audience
from aiobatch.transport import AiohttpTransport, PacingTransport, RetryingTransport

from ..workload.ids import PROJECT_KEY, REST_API_KEY, names
from .processes import Measures
from .server_control import Order, begin

_ROW = (
    b'{"name":"vip","display_name":"An audience","type":"CUSTOM_ID","nb_ids":16743,'
    b'"indexing_state":"APPLIED","created":"2018-06-29T13:12:09Z","updated":"2018-06-29T13:42:59Z"}'
)
_ROWS = 100
# The least of so many counts: what disturbs only adds.
_TIMES = 5
_MICRO = 1e6


@attrs.define
class _Answering:
    """A transport that responds at once."""

    answer: Response = attrs.field(factory=lambda: Response(status=200, body=_ROW))

    async def send(self, _: Request) -> Response:
        """Return the response."""
        return self.answer

    async def aclose(self) -> None:
        """Do nothing."""


async def view(url: str, views: int, concurrency: int) -> Measures:
    """Measure the microseconds of CPU of a view, in total and by layer.

    Args:
        url: The server's URL.
        views: The number of views.
        concurrency: The number of views at once over sockets.
    """
    begin(url, Order())
    project = Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY)
    dialect = dialect_for(project)
    return {
        **_messages(dialect, views),
        **await _layers(dialect, views),
        **await _over_sockets(project, dialect, url, views, concurrency),
    }


def _messages(dialect: Dialect, views: int) -> Measures:
    """Measure building requests and reading responses."""
    request, listing = dialect.build_view("vip"), dialect.build_list()
    answer = Response(status=200, body=_ROW)
    rows = b",".join(_ROWS * [_ROW])
    page = Response(status=200, body=b'{"audiences":[%b],"has_more":false}' % rows)
    pages = max(views // _ROWS, 1)
    return {
        "build": _least(lambda: dialect.build_view("vip"), views),
        "read": _least(lambda: dialect.read_view(request, answer), views),
        "row": _least(lambda: dialect.read_states(listing, page), pages) / _ROWS,
    }


async def _layers(dialect: Dialect, views: int) -> Measures:
    """Measure the layers between the client and the aiohttp adapter."""
    clock, rng, below = SystemClock(), random.Random(0), _Answering()
    request = dialect.build_view("vip")
    pacing = PacingTransport(below, limits=Limits(), clock=clock, rng=rng)
    retrying = RetryingTransport(below, policy=RetryPolicy(), clock=clock, rng=rng)
    nothing = await _least_async(lambda _: below.send(request), views)
    return {
        "pacing": await _least_async(lambda _: pacing.send(request), views) - nothing,
        "retrying": await _least_async(lambda _: retrying.send(request), views) - nothing,
        "handing": await _cpu(lambda: _hand_out(views)) / views,
        "poller": await _cpu(lambda: _settle(dialect, views)) / views,
    }


async def _hand_out(views: int) -> None:
    """Run `view_many`'s workers without work."""

    async def work(item: str) -> str:
        return item

    async for _ in run_many(names(views), work, limit=50):
        pass


async def _settle(dialect: Dialect, views: int) -> None:
    """Wait for tokens that are applied at their first poll."""
    applied = dialect.read_view(dialect.build_view("vip"), Response(status=200, body=_ROW))
    assert applied.indexing_state is IndexingState.APPLIED  # noqa: S101 - the state in the row

    async def answer(_: IndexingToken) -> Audience:
        return applied

    policy = PollingPolicy(rate=1e6)
    poller = Poller(view=answer, sweep=None, policy=policy, clock=SystemClock(), rng=random.Random(0))
    async for _ in settle(poller, [IndexingToken(name, "t") for name in names(views)], None):
        pass
    await poller.aclose()


async def _over_sockets(
    project: Project, dialect: Dialect, url: str, views: int, concurrency: int
) -> Measures:
    """Measure whole views, their kernel time, and the same requests with and without the adapter."""
    async with AudienceClient(project, base_url=url) as client:

        async def view_all() -> None:
            async for _ in client.view_many(names(views), concurrency=concurrency):
                pass

        whole = await _cpu(view_all) / views
        before = os.times().system
        await view_all()
        system = (os.times().system - before) * _MICRO / views

    edge = AiohttpTransport(url, limits=Limits(), request_timeout=60.0)
    connector = TCPConnector(limit=0)
    async with ClientSession(connector=connector, cookie_jar=DummyCookieJar()) as session:

        async def plain(request: Request) -> None:
            async with session.request(
                request.method, url + request.target, headers=request.headers, allow_redirects=False
            ) as answer:
                await answer.read()

        requests = [dialect.build_view(name) for name in names(views)]
        aiohttp = await _cpu(lambda: _share(plain, requests, concurrency)) / views
        sent = await _cpu(lambda: _share(edge.send, requests, concurrency)) / views
    await edge.aclose()
    return {"whole": whole, "kernel": system, "edge": sent - system, "plain": aiohttp - system}


async def _share(
    send: Callable[[Request], Awaitable[object]], requests: list[Request], concurrency: int
) -> None:
    """Send the requests with several workers."""

    async def work(left: Iterator[Request]) -> None:
        for request in left:
            await send(request)

    left = iter(requests)
    await asyncio.gather(*(work(left) for _ in range(concurrency)))


def _least(call: Callable[[], object], count: int) -> float:
    """Return the microseconds of CPU of one *call*."""
    spent: list[float] = []
    for _ in range(_TIMES):
        before = time.process_time()
        for _ in range(count):
            call()
        spent.append(time.process_time() - before)
    return min(spent) * _MICRO / count


async def _least_async(call: Callable[[int], Awaitable[object]], count: int) -> float:
    """Return the microseconds of CPU to await one *call*."""

    async def repeat() -> None:
        for number in range(count):
            await call(number)

    return await _cpu(repeat) / count


async def _cpu(call: Callable[[], Awaitable[object]]) -> float:
    """Return the microseconds of CPU of *call*."""
    spent: list[float] = []
    for _ in range(_TIMES):
        before = time.process_time()
        await call()
        spent.append(time.process_time() - before)
    return min(spent) * _MICRO
