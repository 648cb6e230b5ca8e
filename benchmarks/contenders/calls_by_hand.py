"""A hand-written loop over many small audiences: the calls alone, with `aiohttp` and `orjson`."""

from __future__ import annotations

import asyncio
import csv
from pathlib import Path

import aiohttp
import orjson

from ..measure.job import read_calls, read_process
from ..measure.processes import Measures
from ..measure.resources import Stopwatch
from ..workload.ids import HEADERS_2X

# What a sync asks for besides the write: the audience before it, its token, and the audience after it.
_VIEWS_AFTER = 2


async def update_each(url: str, sources: dict[str, str], jobs: int) -> Measures:
    """View each audience, add the IDs of a CSV file, and view the token and the audience.

    Args:
        url: The server's URL.
        sources: The file of each audience, by name.
        jobs: Audiences at the same time.
    """
    watch, turns = Stopwatch(), asyncio.Semaphore(jobs)
    async with aiohttp.ClientSession(headers=HEADERS_2X) as session:

        async def update(name: str, source: str) -> None:
            async with turns:
                await _view(session, url, name)
                body = orjson.dumps({"name": name, "ids": _read(source)})
                headers = {"Content-Type": "application/json"}
                async with session.post(
                    f"{url}/2.11/audiences/update", data=body, headers=headers
                ) as response:
                    response.raise_for_status()
                    orjson.loads(await response.read())
                for _ in range(_VIEWS_AFTER):
                    await _view(session, url, name)

        await asyncio.gather(*(update(name, source) for name, source in sources.items()))
    return {"inside": watch.read()["seconds"], **read_calls(url, "update"), **read_process()}


def _read(source: str) -> list[dict[str, str]]:
    with Path(source).open(newline="") as file:
        return [{"action": "add", "id": row["id"]} for row in csv.DictReader(file)]


async def _view(session: aiohttp.ClientSession, url: str, name: str) -> None:
    async with session.get(f"{url}/2.11/audiences/view", params={"name": name}) as response:
        response.raise_for_status()
        orjson.loads(await response.read())
