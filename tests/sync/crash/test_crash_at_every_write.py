"""What is left by runs that died at each moment there is."""

from __future__ import annotations

from pathlib import Path
from random import Random

from aiobatch.sandbox import Sandbox, SandboxOptions
from aiobatch.sync import GuardPolicy, RunOutcome, SyncOptions, SyncReport

from ..sync_env import World, ids
from .simulated_crash import Mortals

FAULTS = {"503": 0.1, "reset": 0.1, "lost": 0.1}
OPTIONS = SyncOptions(
    create=True,
    chunk_size=10,
    drift_patience=5.0,
    guard=GuardPolicy(max_removals_percent=None),
)


def source(seed: int) -> list[str]:
    """Return what the source holds: from one to the next some fifty chunks change."""
    return ids(Random(seed).sample(range(1000), 520))


async def test_a_run_of_fifty_chunks_survives_a_kill_at_each_moment(quick_path: Path) -> None:
    """Before and after each thing that is written: the next run leaves exactly the source, here and there."""
    sandbox = Sandbox(SandboxOptions(indexing_delay=0, faults=FAULTS))
    here, them = World(sandbox, quick_path), Mortals(sandbox, quick_path / "state.duckdb", OPTIONS)
    moment = 0
    while await them.sync(source(moment), moments=moment) is None:
        report = await them.sync(source(moment))
        assert isinstance(report, SyncReport)
        assert report.outcome is RunOutcome.DONE
        assert await here.has_exactly(source(moment))
        moment += 1
    assert moment > 30
