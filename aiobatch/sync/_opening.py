"""Opens a state for as long as something is done with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ._options import SyncOptions
from ._state import default_state_path
from ._thread import StateThread


@asynccontextmanager
async def opened(state: Path | str | None, options: SyncOptions, what: str) -> AsyncIterator[StateThread]:
    """Open a state, and close it whatever happens.

    Args:
        state: The file; None for the user's own.
        options: What DuckDB may take.
        what: What is done with it, for whoever is refused meanwhile.
    """
    path = default_state_path() if state is None else Path(state)
    thread = await StateThread.open(path, what=what, memory_limit=options.memory_limit)
    try:
        yield thread
    finally:
        await thread.aclose()
