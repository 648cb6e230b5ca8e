"""The `demo` command: the main jobs on sample data, against a sandbox."""

from __future__ import annotations

import asyncio
import csv
import itertools
import random
from collections import defaultdict
from collections.abc import Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ..._client import AudienceClient
from ...errors import InvalidInputError
from ...models import IndexingToken
from ...options import Project
from ...sandbox import PROJECT_KEY, REST_API_KEY, Sandbox, SandboxOptions
from .._context import InjectedContext
from .._exit_codes import ExitCode
from .._signals import in_thread
from ..output._progress import Progress
from ..output._tables import AUDIENCE, audience_record
from ._demo_sync import show_sync
from ._wait import report_unapplied, settle_tokens

__all__ = ["demo"]

_SEED = 20_260
_COLUMNS = ("user_id", "segment")
# Seconds: long enough that bars and waits are visible.
_INDEXING = (0.5, 1.5)
_WAIT = 60.0
_GENERATED = {"newsletter": 1_800, "trial": 750, "vip": 450}

Segments = Mapping[str, list[str]]
_Sample = Annotated[str | None, Parameter(metavar="FILE")]


async def demo(
    file: Annotated[str | None, Parameter(metavar="FILE")] = None, /, *, context: InjectedContext
) -> ExitCode:
    """Try the main jobs in a local sandbox. Needs no keys.

    First it creates an audience for each segment, uploads the IDs, waits until they are applied and views
    the audiences. Then sync jobs run as separate processes: a first load, one that sends only the difference,
    one that the guard stops, one that is killed, and one that resumes it.

    Example: `aiobatch demo docs/samples/users.csv`

    Args:
        file: A CSV with the columns user_id and segment. Default: a small generated sample.
    """
    segments = _generate() if file is None else await in_thread(lambda: _read(file))
    options = SandboxOptions(indexing_delay=_INDEXING, seed=_SEED)
    project = Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY)
    async with Sandbox(options) as sandbox:
        context.info(f"A sandbox of Batch's audience APIs is listening on {sandbox.url}")
        with context.progress() as progress:
            async with AudienceClient(project, base_url=sandbox.url, on_event=progress.on_event) as client:
                code = await _fill(client, segments, progress)
                audiences = [audience async for audience in client.view_many(segments)]
                requests = client.stats.requests
        with context.output.rows(AUDIENCE, as_table=True) as add:
            for audience in sorted(audiences, key=lambda one: one.name):
                add(audience_record(audience))
        context.info(
            f"{sum(map(len, segments.values())):,} IDs in {len(segments)} audiences, {requests} requests"
        )
        await show_sync(sandbox, itertools.chain.from_iterable(segments.values()), context)
    return code


async def _fill(client: AudienceClient, segments: Segments, progress: Progress) -> ExitCode:
    """Create an audience for each segment, upload its IDs and wait, all segments at once."""
    total = sum(map(len, segments.values()))
    with progress.stage("create audiences", unit="audience", total=len(segments)) as stage:

        async def create(name: str) -> None:
            # 2.x returns a token unless the response to a successful create was lost.
            for token in filter(None, [await client.create(name, description="Demo")]):
                await client.await_applied(token, timeout=_WAIT)
            stage.advance()

        await _all(create(name) for name in segments)
    tokens: list[IndexingToken] = []
    with progress.stage("upload IDs", unit="ID", total=total) as stage:

        async def upload(name: str, ids: list[str]) -> None:
            tokens.extend(await client.upload(name, add=ids))
            stage.advance(len(ids))

        await _all(upload(name, ids) for name, ids in segments.items())
    return report_unapplied(await settle_tokens(client, tokens, _WAIT, progress, lambda _: None))


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run coroutines concurrently."""
    async with asyncio.TaskGroup() as group:
        for one in work:
            group.create_task(one)


def _generate() -> Segments:
    """Return a small generated sample."""
    rng = random.Random(_SEED)
    return {
        name: [f"u_{rng.getrandbits(50):010x}" for _ in range(count)] for name, count in _GENERATED.items()
    }


def _read(path: str) -> Segments:
    """Return the IDs of a file by segment."""
    segments: dict[str, list[str]] = defaultdict(list)
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        if not set(_COLUMNS) <= set(rows.fieldnames or ()):
            msg = f"{path}: the demo needs a CSV with the columns {' and '.join(_COLUMNS)}."
            raise InvalidInputError(msg)
        for row in rows:
            segments[row["segment"]].append(row["user_id"])
    return segments
