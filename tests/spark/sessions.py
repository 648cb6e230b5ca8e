"""Sessions of Spark, and frames for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..sync.cluster.parts import Row

SCHEMA = "uid string, age int, tags array<string>"
COLUMNS: dict[str, Any] = {"id_column": "uid", "attributes": ["age"], "tags_column": "tags"}


def start(master: str) -> Any:
    """Start a session."""
    from pyspark.sql import SparkSession

    settings = {"spark.ui.enabled": "false", "spark.sql.shuffle.partitions": "4", "spark.log.level": "OFF"}
    settings |= {"spark.ui.showConsoleProgress": "false"}
    builder = SparkSession.builder.master(master)
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def frame_of(spark: Any, rows: Sequence[Row], *, partitions: int = 3) -> Any:
    """Return a frame whose partitions have the rows in their order."""
    return spark.createDataFrame(spark.sparkContext.parallelize(rows, partitions), SCHEMA)


def through(frame: Any, task: Callable[[], None]) -> Any:
    """Return the frame, for each partition of which a task is called when it was read."""

    def run(batches: Iterator[Any]) -> Iterator[Any]:
        yield from batches
        task()

    return frame.mapInArrow(run, SCHEMA)
