"""Sources to sync: files of ids that no compression shortens, made once and kept in the user's cache."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import duckdb
import platformdirs

# Changes whenever a file of the same name would hold something else.
_SEED = "aiobatch-1"
_FORMATS = {"parquet": "FORMAT parquet", "csv": "FORMAT csv, HEADER"}


def ids_file(first: int, past: int, kind: Literal["parquet", "csv"] = "parquet") -> Path:
    """Return a file with a column `id` of 37 characters.

    Two ranges share the ids of the numbers that they share, in another order: so does a table that somebody
    exports twice.

    Args:
        first: The first id's number.
        past: The number behind the last one.
        kind: The file's format.
    """
    directory = platformdirs.user_cache_path("aiobatch") / "benchmarks"
    path = directory / f"{_SEED}-{first}-{past}.{kind}"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.unfinished")
        _write(unfinished, first, past, _FORMATS[kind])
        unfinished.replace(path)
    return path


def changed(ids: int) -> int:
    """Return how many ids go, and how many come: 1 %."""
    return ids // 100


def _write(path: Path, first: int, past: int, file_format: str) -> None:
    """Write ids, shuffled."""
    spill = path.with_name(f"{path.name}.spill")
    with duckdb.connect(config={"memory_limit": "2GB", "temp_directory": str(spill)}) as connection:
        connection.execute(
            f"COPY (SELECT 'user-' || md5('{_SEED}' || i) AS id FROM range({first}, {past}) AS numbers(i) "  # noqa: S608 - numbers
            f"ORDER BY hash(i, {first})) TO '{path}' ({file_format})"
        )
