"""Any sequence of syncs, crashes, foreign writes and rollbacks against a model of the members."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from aiobatch.sandbox import Sandbox, SandboxOptions
from aiobatch.sync import (
    GuardPolicy,
    Mode,
    Overrides,
    ReplacedElsewhereError,
    RunOutcome,
    SyncOptions,
    SyncReport,
    UnknownMembersError,
)

from ...helpers.sweep import examples
from ..sync_env import SyncEnv, ids
from .simulated_crash import CrashingRuns

R = TypeVar("R")

SOURCE_IDS = ids(range(40))
STRANGERS = [f"stranger-{n}" for n in range(5)]
# Batch always refuses these.
REFUSED = frozenset(SOURCE_IDS[7:9])
FAULTS = {"503": 0.05, "reset": 0.05, "lost": 0.05}
OPTIONS = SyncOptions(
    create=True,
    chunk_size=4,
    drift_patience=0.0,
    guard=GuardPolicy(max_removals_percent=None),
    overrides=Overrides(allow_empty=True),
)

sources = st.sets(st.sampled_from(SOURCE_IDS))
# Most runs do not crash. A run of this size has some forty moments to crash at.
crash_points = st.none() | st.integers(0, 40)


class Machine(RuleBasedStateMachine):
    """One audience, its state, and the model.

    What a crash leaves depends on timing. So no rule has a precondition, and no data is drawn from what a
    crash left: Hypothesis needs the same choices in each replay.
    """

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = tempfile.TemporaryDirectory(dir=_memory())
        path = Path(self.directory.name)
        os.environ["XDG_DATA_HOME"] = str(path)
        self.sandbox = Sandbox(SandboxOptions(indexing_delay=0, faults=FAULTS, refused_ids=REFUSED, seed=1))
        self.env = SyncEnv(self.sandbox, path)
        self.runs = CrashingRuns(self.sandbox, self.env.state, OPTIONS)
        self.exists = False
        self.open = False  # a run may be unsettled
        self.written = False  # another writer has changed members since the last exact run
        self.replaced = False  # another writer has replaced all members since then
        self.after: dict[int, set[str]] = {}

    def teardown(self) -> None:
        """Close the loop and delete the files."""
        self.runner.close()
        self.directory.cleanup()

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Await *work*."""
        return self.runner.run(work)

    # -- runs ----------------------------------------------------------------------------------------

    @rule(source=sources, crash_at=crash_points)
    def sync(self, source: set[str], crash_at: int | None) -> None:
        """Sync. The process may crash."""
        self.end(self.run(self.runs.sync(source, crash_at=crash_at)), source)

    @rule(source=sources)
    def sync_without_waiting(self, source: set[str]) -> None:
        """Send, and do not wait for the tokens."""
        outcome = self.run(self.runs.sync(source, wait=False))
        if isinstance(outcome, SyncReport) and outcome.outcome is RunOutcome.SENT:
            self.exists = self.open = True
        else:
            self.end(outcome, source)

    @rule(source=sources, crash_at=crash_points)
    def resync(self, source: set[str], crash_at: int | None) -> None:
        """Resend everything."""
        outcome = self.run(self.runs.sync(source, crash_at=crash_at, mode=Mode.RESYNC))
        if outcome is not None:
            assert isinstance(outcome, SyncReport)
            self.written = self.replaced = False
        self.end(outcome, source)

    @rule(nth=st.integers(0, 9))
    def roll_back(self, nth: int) -> None:
        """Restore an earlier membership, if there is one."""
        if self.after and self.exists:
            run = sorted(self.after)[nth % len(self.after)]
            self.end(self.run(self.runs.roll_back(run)), self.after[run])

    # -- other writers --------------------------------------------------------------------------------

    @rule(add=st.sets(st.sampled_from(STRANGERS)), remove=st.sets(st.sampled_from(SOURCE_IDS)))
    def foreign_update(self, add: set[str], remove: set[str]) -> None:
        """Add and remove as another writer would, if the audience exists."""
        if self.exists:
            self.sandbox.write_behind_back("vip", add=add, remove=remove)
            self.written = True

    @rule(members=st.sets(st.sampled_from(STRANGERS), min_size=1))
    def foreign_replace(self, members: set[str]) -> None:
        """Replace all members as another writer would, if the audience exists."""
        if self.exists:
            self.sandbox.replace_behind_back("vip", members)
            self.written = self.replaced = True

    # -- checks -------------------------------------------------------------------------------------

    def end(self, outcome: SyncReport | Exception | None, wanted: set[str]) -> None:
        """Check the outcome of a run."""
        if outcome is None:
            self.open = True
            self.exists = any(audience.name == "vip" for audience in self.sandbox.audiences())
        elif isinstance(outcome, SyncReport):
            self.exists, self.open = True, False
            assert outcome.outcome is RunOutcome.DONE
            assert outcome.error is None
            self.check(wanted - REFUSED)
        else:
            # Before the first APPLIED change, the state knows no members. A resync leaves another writer's.
            foreign = self.written or bool(self.env.members & set(STRANGERS))
            unknown = isinstance(outcome, UnknownMembersError) and foreign and not any(self.after.values())
            assert unknown or (isinstance(outcome, ReplacedElsewhereError) and self.replaced), outcome

    def check(self, wanted: set[str]) -> None:
        """Compare Batch and the state with the model, and check that the history adds up."""
        believed, history = self.env._read()
        assert believed == wanted
        if not self.written:
            assert self.env.members - set(STRANGERS) == wanted
        total = 0
        for run in reversed(history):
            assert run.settled
            assert run.members_before == total
            assert run.applied is not None
            assert run.refused is not None
            assert run.applied + run.refused <= run.adds + run.removes + run.resends + run.untracked_removals
            total = run.members_after or 0
        assert total == len(wanted)
        self.after[history[0].run] = wanted


def _memory() -> str | None:
    """Return a directory in memory, if there is one."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a directory is made in it


def test_any_sequence_of_events_matches_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members equal the model, only applied changes count, and the history adds up."""
    monkeypatch.setenv("XDG_DATA_HOME", "")  # each machine has its own, and pytest puts back what was there
    run_state_machine_as_test(
        Machine, settings=settings(max_examples=examples(4, 16), stateful_step_count=10)
    )
