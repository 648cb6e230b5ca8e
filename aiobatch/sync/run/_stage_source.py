"""Reads sources into an open state, each into a table of its own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path

import attrs

from ..._client import AudienceClient
from ...dialects import dialect_for
from ...errors import InvalidInputError
from ...options import check_instance
from .._errors import StateError
from ..sources._id_rules import IdRules
from ..sources._rejects import refuse_overlap
from ..sources._source import Source
from ..sources._stage import StageCounts, stage
from ..state._state import State
from ..state._thread import StateThread

_numbers = itertools.count(1)


@attrs.frozen(kw_only=True)
class Staged:
    """A source that was read.

    Attributes:
        table: Where its ids are.
        label: What it is, without secrets.
        counts: What became of its rows.
    """

    table: str
    label: str
    counts: StageCounts


def check_source(source: Source, client: AudienceClient) -> None:
    """Refuse columns that the API's version takes nowhere, before the source is read.

    Args:
        source: The source.
        client: A client of the audience's target.

    Raises:
        InvalidInputError: It has attributes or tags that cannot be sent.
    """
    check_instance(client, AudienceClient, "client")
    rules, version = dialect_for(client.target).rules, client.target.version
    if source.tags_column is not None and not rules.tags:
        msg = f"source: API {version} takes no tags, 1.1 does; leave the tags column out"
        raise InvalidInputError(msg)
    if source.attributes and not rules.attributes:
        msg = f"source: API {version} takes no attributes, 1.1 and 2.x do; leave the attribute columns out"
        raise InvalidInputError(msg)


async def stage_source(
    thread: StateThread,
    source: Source,
    rules: IdRules,
    *,
    rejects: Path | None,
    on_progress: Callable[[int], None],
) -> Staged:
    """Read a source to its end.

    Args:
        thread: The open state.
        source: The source.
        rules: The contract of its ids.
        rejects: File for the rejected rows; None to only count them.
        on_progress: Called on the event loop with the rows read so far.

    Returns:
        Its table, which `unstage` drops.

    Raises:
        InvalidInputError: The file for the rejected rows is a part of the source, or the state.
        SourceError: It cannot be read, or not to its end.
        StagingError: This machine cannot take it in.
    """
    loop, table = asyncio.get_running_loop(), f"staged_{next(_numbers)}"

    def tell(rows: int) -> None:
        loop.call_soon_threadsafe(on_progress, rows)

    def read(state: State) -> StageCounts:
        if rejects is not None:
            refuse_overlap(rejects, source.location, state.path)
        counts = stage(state.connection, source, rules, rejects=rejects, on_progress=tell)
        # A name of its own, so that several sources can stand side by side.
        state.rows("ALTER TABLE temp.staged RENAME TO {table}", table=table)
        return counts

    counts = await thread.run_interruptible(read, thread.state)
    return Staged(table=f"temp.{table}", label=source.label, counts=counts)


async def unstage(thread: StateThread, staged: Staged) -> None:
    """Drop what `stage_source` read.

    Args:
        thread: The open state.
        staged: What it answered.
    """
    with contextlib.suppress(StateError):  # a state that broke has said so to the run
        await thread.run(thread.state.rows, "DROP TABLE IF EXISTS {table}", table=staged.table)
