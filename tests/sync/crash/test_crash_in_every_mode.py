"""Every operation on partitions crashes before and after its writes. The next one ends as intended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from aiobatch import AudienceClient
from aiobatch.sandbox import Sandbox, SandboxOptions
from aiobatch.sync import (
    GuardPolicy,
    Mode,
    RunOutcome,
    StalePlanError,
    SyncEngine,
    SyncOptions,
    SyncReport,
)

from ...helpers.sweep import examples
from ..sync_env import SyncEnv, ids
from .simulated_crash import CrashingRuns

FAULTS = {"503": 0.05, "reset": 0.05, "lost": 0.05}
OPTIONS = SyncOptions(
    create=True, chunk_size=10, drift_patience=5.0, guard=GuardPolicy(max_removals_percent=None)
)
# Four partitions of members. The short form crashes at some moments, the full form at each.
EARLIER, BASE = ids(range(20, 90)), ids(range(60))
SOURCES = {
    Mode.MIRROR: ids(range(30, 100)),
    Mode.ADD: ids(range(30, 100)),
    Mode.REMOVE: ids(range(30, 100)),
    Mode.REPLACE: ids(range(55, 65)),
    Mode.RESYNC: ids(range(30, 100)),
}
STEP = examples(23, 4, full=1)

Work = Callable[[SyncEngine, AudienceClient], Awaitable[Any]]


def wanted(mode: Mode) -> set[str]:
    """Return the members after a run of a mode."""
    source = set(SOURCES[mode])
    if mode is Mode.ADD:
        return source | set(BASE)
    return set(BASE) - source if mode is Mode.REMOVE else source


@attrs.define
class Stage:
    """An audience, which is brought to the same members before each crash."""

    env: SyncEnv
    runs: CrashingRuns

    async def sync(self, source: list[str], **options: Any) -> int:
        """Complete a run. Return its number."""
        report = await self.runs.sync(source, **options)
        assert isinstance(report, SyncReport), report
        assert report.outcome is RunOutcome.DONE
        assert report.run is not None
        return report.run

    async def crash(self, work: Work, moment: int) -> bool:
        """Call an operation that crashes. Return whether it did."""
        return await self.runs.run(work, crash_at=moment) is None


@pytest.fixture(name="stage")
def _stage(quick_path: Path) -> Stage:
    sandbox = Sandbox(SandboxOptions(indexing_delay=0, faults=FAULTS, seed=3))
    return Stage(SyncEnv(sandbox, quick_path), CrashingRuns(sandbox, quick_path / "state.duckdb", OPTIONS))


@pytest.mark.sample(2)
@pytest.mark.parametrize("mode", list(SOURCES))
async def test_same_run_after_a_crash_is_exact(stage: Stage, mode: Mode) -> None:
    """The same run after a crash leaves the members of its mode in Batch and state."""
    moment = 1
    while True:
        await stage.sync(BASE)
        crashed = await stage.runs.sync(SOURCES[mode], crash_at=moment, mode=mode) is None
        if crashed:
            await stage.sync(SOURCES[mode], mode=mode)
        assert await stage.env.has_exactly(wanted(mode))
        if not crashed:
            break
        moment += STEP


async def test_rollback_after_a_crash_is_exact(stage: Stage) -> None:
    """The same rollback after a crash leaves the members of the earlier run."""
    moment, crashed = 1, True
    while crashed:
        earlier = await stage.sync(EARLIER)
        await stage.sync(BASE)

        async def roll_back(engine: SyncEngine, client: AudienceClient, to: int = earlier) -> Any:
            return await engine.rollback(client, "vip", to, options=OPTIONS)

        crashed = await stage.crash(roll_back, moment)
        await stage.runs.run(roll_back)
        assert await stage.env.has_exactly(EARLIER)
        moment += STEP


@pytest.mark.sweep
async def test_adoption_after_a_crash_is_exact(stage: Stage) -> None:
    """The same adoption after a crash records the source, and sends nothing."""
    moment, crashed = 1, True
    while crashed:
        await stage.sync(BASE)
        stage.env.fill(EARLIER)
        writes = stage.env.writes

        async def adopt(engine: SyncEngine, client: AudienceClient) -> Any:
            return await engine.adopt(client, "vip", EARLIER, options=attrs.evolve(OPTIONS, strict=True))

        crashed = await stage.crash(adopt, moment)
        await stage.runs.run(adopt)
        assert await stage.env.has_exactly(EARLIER)
        assert stage.env.writes == writes
        moment += examples(5, 3, full=1)


async def test_settling_after_a_crash_is_exact(stage: Stage) -> None:
    """A settle after a crash of a run, and of a settle, records what Batch has."""
    moment, crashed = 1, True
    while crashed:
        await stage.sync(BASE)
        await stage.runs.sync(SOURCES[Mode.MIRROR], crash_at=moment + 10)

        async def settle(engine: SyncEngine, client: AudienceClient) -> Any:
            return await engine.settle(client, "vip", options=OPTIONS)

        crashed = await stage.crash(settle, moment)
        await stage.runs.run(settle)
        assert await stage.env.has_exactly(stage.env.members)
        moment += STEP


@pytest.mark.sweep
async def test_applying_after_a_crash_is_exact(stage: Stage) -> None:
    """After a crash, a plan is applied in full, or is stale. Then a sync is exact."""
    moment, crashed, source = 1, True, SOURCES[Mode.MIRROR]
    while crashed:
        await stage.sync(BASE)

        async def plan(engine: SyncEngine, client: AudienceClient) -> Any:
            return await engine.plan(client, "vip", source, options=OPTIONS)

        made = await stage.runs.run(plan)

        async def apply(engine: SyncEngine, client: AudienceClient, made: Any = made) -> Any:
            return await engine.apply(client, made, source, options=OPTIONS)

        crashed = await stage.crash(apply, moment)
        outcome = await stage.runs.run(apply)
        assert isinstance(outcome, StalePlanError) or crashed
        if not isinstance(outcome, StalePlanError):
            assert await stage.env.has_exactly(source)
        await stage.sync(source)
        assert await stage.env.has_exactly(source)
        moment += STEP


@pytest.mark.sample(1)
@pytest.mark.parametrize(("first", "then"), [(Mode.REMOVE, Mode.ADD), (Mode.ADD, Mode.REMOVE)])
async def test_lists_after_two_crashes_agree_with_batch(stage: Stage, first: Mode, then: Mode) -> None:
    """A list that crashed is part of the next one, which crashes too. Then nothing is unknown any more."""
    moment, crashed, source = 1, True, ids(range(50, 70))
    while crashed:
        await stage.sync(BASE)
        await stage.runs.sync(SOURCES[first], crash_at=moment + 8, mode=first)
        crashed = await stage.runs.sync(source, crash_at=moment, mode=then) is None
        await stage.sync(source, mode=then)
        members = stage.env.members
        assert await stage.env.has_exactly(members)
        assert members <= wanted(first) | set(BASE) | set(source)
        assert set(source) <= members if then is Mode.ADD else not set(source) & members
        assert wanted(first) & set(BASE) <= members | set(source)
        report = await stage.runs.sync(sorted(members), crash_at=None)
        assert isinstance(report, SyncReport)
        assert report.changes == 0
        moment += STEP
