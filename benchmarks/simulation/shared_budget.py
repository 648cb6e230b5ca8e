"""A sync whose calls and polls share a low rate limit, with the real engine and client in virtual time."""

from __future__ import annotations

import asyncio
import math
import os
import random
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs
import orjson

from aiobatch import AudienceClient, Limits, Project
from aiobatch.interfaces import Request, Response
from aiobatch.sync import BULK_RETRY, SyncEngine, SyncOptions
from aiobatch.sync.state import _thread

from ..measure.processes import Measures
from ..measure.resources import check
from ..servers.rate_limiters import Bucket
from ..servers.sync_stub import NAME
from ..workload.ids import PROJECT_KEY, REST_API_KEY
from .virtual_loop import HaltingExecutor, VirtualClock, run_virtually

_LATENCY = 0.05


@attrs.frozen(kw_only=True)
class Budget:
    """The limits of a sync.

    Attributes:
        rate: The limit in requests per second. The server allows bursts of a second.
        median: The median of the seconds until an update is applied. The times are log-normal.
        p99: Seconds within which 99 of 100 are.
        chunk: The number of IDs of a call.
    """

    rate: float = 1.0
    median: float = 4.0
    p99: float = 15.0
    chunk: int = 10_000


class BudgetServer:
    """A server with one audience of 2.x and a rate limit.

    Args:
        budget: Its limits.
    """

    def __init__(self, budget: Budget) -> None:
        self._loop = asyncio.get_running_loop()
        self._draw = random.Random(1)
        self._mu = math.log(budget.median)
        self._sigma = math.log(budget.p99 / budget.median) / statistics.NormalDist().inv_cdf(0.99)
        self._limiter = Bucket(budget.rate, max(1.0, budget.rate))
        self._applied: list[tuple[float, int]] = []
        self.answered: Counter[str] = Counter()
        self.times: list[float] = []

    async def send(self, request: Request) -> Response:
        """Answer one request after the latency."""
        await asyncio.sleep(_LATENCY / 2)
        status, answer = self._answer(request)
        await asyncio.sleep(_LATENCY / 2)
        return Response(status=status, body=orjson.dumps(answer))

    async def aclose(self) -> None:
        """Do nothing."""

    def _answer(self, request: Request) -> tuple[int, dict[str, Any]]:
        now = self._loop.time()
        if self._limiter.delay(now):
            self.answered["too many"] += 1
            return 429, {}
        self.times.append(now)
        if request.operation == "update":
            return 202, {"indexing_token": self._update(request.body, now)}
        if request.operation == "list":
            self.answered["list"] += 1
            return 200, {"audiences": [self._view(None, now)], "count": 1, "has_more": False}
        token = parse_qs(urlsplit(request.target).query).get("indexing_token", [None])[0]
        return 200, self._view(token, now)

    def _update(self, body: bytes, now: float) -> str:
        """Accept IDs, which are applied some time later."""
        self.answered["write"] += 1
        self._applied.append((now + self._draw.lognormvariate(self._mu, self._sigma), body.count(b'"add"')))
        return f"t{len(self._applied) - 1}"

    def _view(self, token: str | None, now: float) -> dict[str, Any]:
        """Return the audience with the state of *token*'s update, or of the last one."""
        applied = [when <= now for when, _ in self._applied] or [True]
        state = applied[-1 if token is None else int(token[1:])]
        self.answered["look" if token is None else "confirmed" if state else "too early"] += 1
        members = sum(ids for when, ids in self._applied if when <= now)
        return {
            "name": NAME,
            "display_name": NAME,
            "type": "CUSTOM_ID",
            "nb_ids": members,
            "indexing_state": "APPLIED" if state else "IN_PROGRESS",
            "created": "2018-06-29T13:12:09Z",
            "updated": "2018-06-29T13:42:59Z",
        }


async def sync_in_budget(source: str, state: str, budget: dict[str, Any]) -> Measures:
    """Sync an empty audience with a file.

    Args:
        source: The file.
        state: The state file.
        budget: The fields of a `Budget`.
    """
    os.environ["XDG_DATA_HOME"] = str(Path(state).parent)
    return await asyncio.to_thread(run_virtually, lambda: _sync(source, state, Budget(**budget)))


async def _sync(source: str, state: str, budget: Budget) -> Measures:
    # Virtual time stops while the engine's thread works.
    _thread.ThreadPoolExecutor = HaltingExecutor  # type: ignore[attr-defined, assignment]  # replaced in this process only
    loop, server, started = asyncio.get_running_loop(), BudgetServer(budget), time.perf_counter()
    client = AudienceClient(
        Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY),
        retry=BULK_RETRY,
        limits=Limits(rate=budget.rate),
        transport=server,
        clock=VirtualClock(loop),
        rng=random.Random(1),
    )
    options = SyncOptions(chunk_size=budget.chunk, timeout=None)
    # Attempts are recorded in a thread, during which virtual time would go on.
    async with client, SyncEngine(state=state, options=options, records_attempts=False) as engine:
        report = await engine.sync(client, NAME, source)
    check("members", report.members_after or 0, report.kept)
    answered = server.answered
    calls = len(server.times)
    span = server.times[-1] - server.times[0]
    return {
        "span": span,
        "calls": calls,
        "seconds": time.perf_counter() - started,
        "share": span * budget.rate / (calls - 1),
        **{
            key.replace(" ", "_"): answered[key]
            for key in ("write", "confirmed", "too early", "look", "list", "too many")
        },
    }
