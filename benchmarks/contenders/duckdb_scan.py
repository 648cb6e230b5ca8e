"""DuckDB reads a file of IDs and does nothing else with them, as a job."""

from __future__ import annotations

import duckdb

from ..measure.job import read_process
from ..measure.processes import Measures
from ..measure.resources import Stopwatch


async def count_ids(source: str) -> Measures:
    """Count the distinct IDs of a Parquet file, which is the least that a sync has to know of it."""
    watch = Stopwatch()
    with duckdb.connect(config={"memory_limit": "512MB"}) as connection:
        rows = connection.execute("SELECT count(DISTINCT id) FROM read_parquet(?)", [source]).fetchall()
    return {"inside": watch.read()["seconds"], "ids": rows[0][0], **read_process()}
