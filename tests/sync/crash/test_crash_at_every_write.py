"""Runs that crash before and after each write to the state."""

from __future__ import annotations

from pathlib import Path
from random import Random

from aiobatch.sandbox import Sandbox, SandboxOptions
from aiobatch.sync import GuardPolicy, RunOutcome, SyncOptions, SyncReport

from ...helpers.sweep import examples
from ..sync_env import SyncEnv, ids
from .simulated_crash import CrashingRuns

FAULTS = {"503": 0.1, "reset": 0.1, "lost": 0.1}
OPTIONS = SyncOptions(
    create=True,
    chunk_size=10,
    drift_patience=5.0,
    guard=GuardPolicy(max_removals_percent=None),
)
# The short form crashes at few moments: an odd step meets both sides of a write.
STEP = examples(11, 1)


def source(seed: int) -> list[str]:
    """Return the IDs of a source. From one seed to the next, some fifty chunks change."""
    return ids(Random(seed).sample(range(1000), 520))


async def test_run_after_a_crash_at_any_write_is_exact(quick_path: Path) -> None:
    """Wherever a run of fifty chunks crashes, the next run leaves exactly the source in Batch and state."""
    sandbox = Sandbox(SandboxOptions(indexing_delay=0, faults=FAULTS))
    env, runs = SyncEnv(sandbox, quick_path), CrashingRuns(sandbox, quick_path / "state.duckdb", OPTIONS)
    moment = 0
    while await runs.sync(source(moment), crash_at=moment) is None:
        report = await runs.sync(source(moment))
        assert isinstance(report, SyncReport)
        assert report.outcome is RunOutcome.DONE
        assert await env.has_exactly(source(moment))
        moment += STEP
    assert moment > 30
