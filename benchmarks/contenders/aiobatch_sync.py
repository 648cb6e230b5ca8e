"""aiobatch's sync engine with its defaults, as a job."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from aiobatch import AudienceClient, Limits, Project
from aiobatch.sync import (
    BULK_RETRY,
    SyncEngine,
    SyncOptions,
    SyncProgress,
    SyncReport,
    sync_audience,
)

from ..measure.job import read_calls, read_process
from ..measure.processes import Measures
from ..measure.resources import Stopwatch, check, measuring_disk
from ..measure.server_control import begin
from ..servers.sync_stub import NAME, SyncOrder
from ..workload.ids import PROJECT_KEY, REST_API_KEY


async def sync(  # noqa: PLR0913 - each is a key of the job, by name
    url: str,
    order: dict[str, Any],
    source: str,
    state: str,
    *,
    rate: float | None = None,
    chunk: int = 10_000,
    memory: str | None = None,
    data: str | None = None,
) -> Measures:
    """Sync the audience with a file."""
    _begin(url, order, data or str(Path(state).parent))
    phases = _Phases()
    async with _client(url, rate) as client, measuring_disk(_spill(state)) as disk:
        report = await mirror(client, source, state, chunk=chunk, memory=memory, on_progress=phases.note)
    calls = read_calls(url, "update")
    check("ids written", calls["ids"], report.changes)
    check("members", calls["members"], report.kept)
    return {**phases.read(), **calls, **_changes(report), **disk, **read_process()}


async def mirror(
    client: AudienceClient,
    source: str,
    state: str,
    *,
    chunk: int = 10_000,
    memory: str | None = None,
    on_progress: Callable[[SyncProgress], None] | None = None,
) -> SyncReport:
    """Sync the audience, and wait until all changes are applied.

    Args:
        client: The client of the target.
        source: The file.
        state: The state file.
        chunk: The number of IDs of a call.
        memory: The memory limit. None for the default.
        on_progress: Receives the phases.
    """
    options = SyncOptions(chunk_size=chunk, strict=True)
    if memory is not None:
        options = attrs.evolve(options, memory_limit=memory)
    return await sync_audience(client, NAME, source, state=state, options=options, on_progress=on_progress)


async def adopt(url: str, order: dict[str, Any], source: str, state: str) -> Measures:
    """Adopt the audience. Nothing is sent."""
    _begin(url, order, str(Path(state).parent))
    watch = Stopwatch()
    options = SyncOptions(strict=True)
    async with _client(url) as client, SyncEngine(state=state, options=options) as engine:
        report = await engine.adopt(client, NAME, source)
    return {"inside": watch.read()["seconds"], "members": report.members_after, **read_process()}


async def plan(url: str, order: dict[str, Any], source: str, state: str) -> Measures:
    """Plan a sync. Nothing is sent."""
    _begin(url, order, str(Path(state).parent))
    phases = _Phases()
    async with (
        _client(url) as client,
        measuring_disk(_spill(state)) as disk,
        SyncEngine(state=state, on_progress=phases.note) as engine,
    ):
        made = await engine.plan(client, NAME, source)
    return {**phases.read(), **read_calls(url, "update"), **_changes(made.report), **disk, **read_process()}


def _begin(url: str, order: dict[str, Any], data: str) -> None:
    """Reset the server, and put the audience's lock into a directory instead of the user's."""
    os.environ["XDG_DATA_HOME"] = data
    begin(url, SyncOrder(**order))


def _spill(state: str) -> Path:
    return Path(f"{state}.spill")


def _client(url: str, rate: float | None = None) -> AudienceClient:
    """Return a client for an unattended job."""
    project = Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY)
    return AudienceClient(project, base_url=url, retry=BULK_RETRY, limits=Limits(rate=rate))


def _changes(report: SyncReport) -> Measures:
    return {"adds": report.adds, "removes": report.removes}


@attrs.define
class _Phases:
    """The seconds of each phase. To open the state and view the audience count as reading."""

    _phase: str = "reading"
    _since: float = attrs.field(factory=time.perf_counter)
    _seconds: defaultdict[str, float] = attrs.field(factory=lambda: defaultdict(float))

    def note(self, progress: SyncProgress) -> None:
        """Start a phase."""
        if progress.phase != self._phase:
            self._turn(progress.phase.value)

    def read(self) -> Measures:
        """Return the seconds of each phase and of all."""
        self._turn("over")
        return {**self._seconds, "inside": sum(self._seconds.values())}

    def _turn(self, phase: str) -> None:
        now = time.perf_counter()
        self._seconds[self._phase] += now - self._since
        self._phase, self._since = phase, now
