"""Opens a state, and begins a run in it, for as long as something is done with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ..._client import AudienceClient
from ...errors import InvalidInputError
from ...options import check_instance
from .._options import SyncOptions
from .._report import OnProgress
from ..state._state import default_state_path
from ..state._thread import StateThread
from ._audience_run import AudienceRun


@asynccontextmanager
async def opened(state: Path | str | None, options: SyncOptions, what: str) -> AsyncIterator[StateThread]:
    """Open a state, and close it whatever happens.

    Args:
        state: The file; None for the user's own.
        options: What DuckDB may take.
        what: What is done with it, for whoever is refused meanwhile.
    """
    check_instance(options, SyncOptions, "options")
    if not isinstance(state, Path | str | None):
        msg = f"state must be the path of a file, not {type(state).__name__}; None is the user's own"
        raise InvalidInputError(msg)
    path = default_state_path() if state is None else Path(state)
    thread = await StateThread.open(path, what=what, memory_limit=options.memory_limit)
    try:
        yield thread
    finally:
        await thread.aclose()


@asynccontextmanager
async def running(  # noqa: PLR0913 - what the engine's doors are given, as they were given it
    client: AudienceClient,
    name: str,
    verb: str,
    *,
    state: Path | str | None,
    options: SyncOptions,
    on_progress: OnProgress | None,
    stop: asyncio.Event | None,
) -> AsyncIterator[AudienceRun]:
    """Open a state and take an audience's lock, and give both back whatever happens.

    Args:
        client: An open client of the audience's target.
        name: The audience's name.
        verb: What is done with it, for whoever is refused meanwhile.
        state: The state file; None for the user's own.
        options: How.
        on_progress: Called whenever something moved.
        stop: Set from outside to end early; None where nobody does.
    """
    async with (
        opened(state, options, f"{verb} {name}") as thread,
        AudienceRun(
            client=client,
            name=name,
            thread=thread,
            options=options,
            on_progress=on_progress,
            stop=stop or asyncio.Event(),
        ) as run,
    ):
        with run.counting():
            yield run
