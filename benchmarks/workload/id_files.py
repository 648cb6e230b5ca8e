"""Source files of incompressible IDs, created once and cached in the user's cache directory."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import duckdb
import platformdirs

# Change it whenever a file of the same name would have other contents.
_SEED = "aiobatch-1"
_FORMATS = {"parquet": "FORMAT parquet", "csv": "FORMAT csv, HEADER"}


def ids_file(first: int, past: int, kind: Literal["parquet", "csv"] = "parquet") -> Path:
    """Return a file with a column `id` of 37 characters.

    Two ranges share the IDs of their common numbers, in another order, like two exports of one table.

    Args:
        first: The number of the first ID.
        past: The number after the last ID.
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
    """Return the number of IDs to remove and to add: 1 %."""
    return ids // 100


def _write(path: Path, first: int, past: int, file_format: str) -> None:
    """Write shuffled IDs."""
    spill = path.with_name(f"{path.name}.spill")
    with duckdb.connect(config={"memory_limit": "2GB", "temp_directory": str(spill)}) as connection:
        connection.execute(
            f"COPY (SELECT 'user-' || md5('{_SEED}' || i) AS id FROM range({first}, {past}) AS numbers(i) "  # noqa: S608 - numbers
            f"ORDER BY hash(i, {first})) TO '{path}' ({file_format})"
        )
