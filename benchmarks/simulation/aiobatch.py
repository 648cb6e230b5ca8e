"""aiobatch in virtual time: the real client with a virtual clock and transport."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from urllib.parse import parse_qs, urlsplit

import orjson

from aiobatch import App, AudienceClient, IndexingToken, Limits, Operation, Project
from aiobatch.errors import AiobatchError
from aiobatch.interfaces import Request, Response

from ..measure.processes import Measures
from ..workload.ids import API_KEY, PROJECT_KEY, REST_API_KEY
from .model import Load, Token, measure
from .virtual_loop import VirtualClock, run_virtually

_PAGE = 100


class Target:
    """A transport that answers views and pages of the list.

    Args:
        load: The latency.
        tokens: The tokens. Token `t7` belongs to audience `a7`.
    """

    def __init__(self, load: Load, tokens: Sequence[Token]) -> None:
        self._latency = load.latency
        self._tokens = tokens
        self._loop = asyncio.get_running_loop()
        self.sent: list[float] = []

    async def send(self, request: Request) -> Response:
        """Answer one request after the latency."""
        self.sent.append(self._loop.time())
        await asyncio.sleep(self._latency)
        url = urlsplit(request.target)
        query = parse_qs(url.query)
        if request.operation == "list":
            answer = self._list(int(query.get("from", ["0"])[0]))
        else:
            answer = self._view(int(query["indexing_token"][0][1:]))
        return Response(status=200, body=orjson.dumps(answer))

    async def aclose(self) -> None:
        """Do nothing."""

    def _view(self, number: int) -> dict[str, object]:
        state = "APPLIED" if self._tokens[number].applied <= self._loop.time() else "IN_PROGRESS"
        return {"name": f"a{number}", "type": "custom_ids", "nb_ids": 1, "indexing_state": state}

    def _list(self, start: int) -> dict[str, object]:
        """Return a page of the existing audiences."""
        stop = start + _PAGE
        rows = [self._view(number) for number in range(start, min(stop, len(self._tokens)))]
        more = {"next_from": str(stop)} if stop < len(self._tokens) else {}
        return {"audiences": rows, "count": len(self._tokens), "has_more": bool(more), **more}


def run_aiobatch(load: Load, tokens: Sequence[Token], version: str, seed: int) -> Measures:
    """Wait for all tokens with one client.

    Args:
        load: The budget.
        tokens: The tokens.
        version: The API's version.
        seed: The seed of the client's jitter.
    """
    started = time.process_time()
    measures = run_virtually(lambda: _wait_for_all(load, tokens, version, seed))
    return {**measures, "cpu": time.process_time() - started}


async def _wait_for_all(load: Load, tokens: Sequence[Token], version: str, seed: int) -> Measures:
    loop = asyncio.get_running_loop()
    target = Target(load, tokens)
    client = AudienceClient(
        _target(version),
        limits=Limits(rate=load.rate),
        transport=target,
        clock=VirtualClock(loop),
        rng=random.Random(f"client {seed}"),  # the times of the tokens were drawn with the seed itself
    )

    async def wait(number: int, token: Token) -> float | None:
        await asyncio.sleep(token.born)
        try:
            await client.await_applied(
                IndexingToken(f"a{number}", f"t{number}", Operation.UPDATE), timeout=load.timeout
            )
        except AiobatchError:
            return None
        return loop.time()

    async with client:
        told = await asyncio.gather(*(wait(number, token) for number, token in enumerate(tokens)))
    return measure(tokens, told, target.sent)


def _target(version: str) -> App | Project:
    if version.startswith("1"):
        return App(rest_api_key=REST_API_KEY, api_key=API_KEY, version=version)
    return Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY, version=version)
