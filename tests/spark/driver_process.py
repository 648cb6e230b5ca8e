"""A driver in a process of its own, which prints each phase of its sync and can be killed."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import attrs

from aiobatch import AudienceClient
from aiobatch.spark import sync_audience
from aiobatch.sync import SyncOptions, SyncProgress
from aiobatch.sync.state.objects import _lease

from ..sync.sync_env import INSTALLS, QUICK
from .sessions import start


def report(progress: SyncProgress) -> None:
    """Print the phase, and whether anything is APPLIED."""
    sys.stdout.write(f"{progress.phase} {progress.applied > 0}\n")
    sys.stdout.flush()


async def sync(job: dict[str, Any]) -> None:
    """Sync the numbers of a job."""
    _lease.TIME_TO_LIVE = job["lease"]  # type: ignore[misc]
    retry = attrs.evolve(QUICK["retry"], request_timeout=job["lease"] / 3)
    frame = start("local[2]").range(*job["numbers"]).selectExpr("concat('u', id) AS id")
    async with AudienceClient(INSTALLS, base_url=job["url"], **QUICK | {"retry": retry}) as client:
        options = SyncOptions(create=True, chunk_size=10)
        await sync_audience(client, "vip", frame, state=job["state"], options=options, on_progress=report)


if __name__ == "__main__":
    asyncio.run(sync(json.load(sys.stdin)))
