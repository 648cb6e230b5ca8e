"""The reading of a source into the staged table, as an action of a fresh process."""

from __future__ import annotations

import asyncio
import time

import duckdb

from aiobatch.sync.sources import IdRules
from aiobatch.sync.sources._source import Source
from aiobatch.sync.sources._stage import stage

from .processes import Measures


async def read_source(source: str, ids: int) -> Measures:
    """Return the seconds and the CPU seconds of reading.

    Args:
        source: The source.
        ids: The number of IDs that it must have.
    """
    return await asyncio.to_thread(_read, source, ids)


def _read(source: str, ids: int) -> Measures:
    with duckdb.connect(config={"memory_limit": "1GB"}) as connection:
        started, cpu = time.perf_counter(), time.process_time()
        counts = stage(connection, Source.parse(source), IdRules())
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    if counts.kept != ids:
        msg = f"{counts.kept} IDs were read, not {ids}."
        raise AssertionError(msg)
    return {"seconds": seconds, "cpu": cpu}
