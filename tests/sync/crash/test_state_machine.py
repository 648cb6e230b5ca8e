"""Any sequence of syncs, kills, foreign writes and rollbacks against a model of what must come of it."""

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
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

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

from ..sync_env import World, ids
from .simulated_crash import Mortals

R = TypeVar("R")

OURS = ids(range(40))
STRANGERS = [f"stranger-{n}" for n in range(5)]
# Batch refuses these, whoever sends them.
REFUSED = frozenset(OURS[7:9])
FAULTS = {"503": 0.05, "reset": 0.05, "lost": 0.05}
OPTIONS = SyncOptions(
    create=True,
    chunk_size=4,
    drift_patience=0.0,
    guard=GuardPolicy(max_removals_percent=None),
    overrides=Overrides(allow_empty=True),
)

sources = st.sets(st.sampled_from(OURS))
# Mostly the process lives; a run of this size has some forty moments to die at.
moments = st.none() | st.integers(0, 40)


class Machine(RuleBasedStateMachine):
    """One audience, its state, and what must be true of them."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = tempfile.TemporaryDirectory(dir=_memory())
        path = Path(self.directory.name)
        os.environ["XDG_DATA_HOME"] = str(path)
        self.sandbox = Sandbox(SandboxOptions(indexing_delay=0, faults=FAULTS, refused_ids=REFUSED, seed=1))
        self.here = World(self.sandbox, path)
        self.them = Mortals(self.sandbox, self.here.state, OPTIONS)
        self.exists = False
        self.open = False  # a run may not be settled
        self.written = False  # somebody else has written since we last knew all
        self.replaced = False  # somebody else has replaced the members since then
        self.after: dict[int, set[str]] = {}

    def teardown(self) -> None:
        """Clear away."""
        self.runner.close()
        self.directory.cleanup()

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Do something that is awaited."""
        return self.runner.run(work)

    # -- what we do -----------------------------------------------------------------------------------

    @rule(source=sources, moment=moments)
    def sync(self, source: set[str], moment: int | None) -> None:
        """Sync; the process may be killed meanwhile."""
        self.end(self.run(self.them.sync(source, moments=moment)), source)

    @rule(source=sources)
    def sync_without_waiting(self, source: set[str]) -> None:
        """Send and leave."""
        outcome = self.run(self.them.sync(source, wait=False))
        if isinstance(outcome, SyncReport) and outcome.outcome is RunOutcome.SENT:
            self.exists = self.open = True
        else:
            self.end(outcome, source)

    @rule(source=sources, moment=moments)
    def resync(self, source: set[str], moment: int | None) -> None:
        """Bring it back, whatever has happened."""
        outcome = self.run(self.them.sync(source, moments=moment, mode=Mode.RESYNC))
        if outcome is not None:
            assert isinstance(outcome, SyncReport)
            self.written = self.replaced = False
        self.end(outcome, source)

    @precondition(lambda self: self.after and self.exists)
    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        """Go back to an earlier membership."""
        run = data.draw(st.sampled_from(sorted(self.after)))
        self.end(self.run(self.them.roll_back(run)), self.after[run])

    # -- what others do -------------------------------------------------------------------------------

    @precondition(lambda self: self.exists)
    @rule(add=st.sets(st.sampled_from(STRANGERS)), remove=st.sets(st.sampled_from(OURS)))
    def write_behind_our_back(self, add: set[str], remove: set[str]) -> None:
        """Somebody else adds and removes."""
        self.sandbox.write_behind_back("vip", add=add, remove=remove)
        self.written = True

    @precondition(lambda self: self.exists)
    @rule(members=st.sets(st.sampled_from(STRANGERS), min_size=1))
    def replace_behind_our_back(self, members: set[str]) -> None:
        """Somebody else replaces all members."""
        self.sandbox.replace_behind_back("vip", members)
        self.written = self.replaced = True

    # -- what must be true ----------------------------------------------------------------------------

    def end(self, outcome: SyncReport | Exception | None, wanted: set[str]) -> None:
        """Check what a run has left."""
        if outcome is None:
            self.open = True
            self.exists = any(audience.name == "vip" for audience in self.sandbox.audiences())
        elif isinstance(outcome, SyncReport):
            self.exists, self.open = True, False
            assert outcome.outcome is RunOutcome.DONE
            assert outcome.error is None
            self.check(wanted - REFUSED)
        else:
            # Before anything was applied there is nothing that we know.
            unknown = (
                isinstance(outcome, UnknownMembersError) and self.written and not any(self.after.values())
            )
            assert unknown or (isinstance(outcome, ReplacedElsewhereError) and self.replaced), outcome

    def check(self, wanted: set[str]) -> None:
        """Compare both sides with the model, and the history with itself."""
        believed, history = self.here._read()
        assert believed == wanted
        if not self.written:
            assert self.here.members - set(STRANGERS) == wanted
        members = 0
        for run in reversed(history):
            assert run.settled
            assert run.members_before == members
            assert run.applied is not None
            assert run.refused is not None
            assert run.applied + run.refused <= run.adds + run.removes + run.resends + run.untracked_removals
            members = run.members_after or 0
        assert members == len(wanted)
        self.after[history[0].run] = wanted


def _memory() -> str | None:
    """Name a place where nothing waits for a disk."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a directory is made in it


def test_any_sequence_of_events_ends_as_the_model_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members equal the model, nothing counts as applied that is not, and the history adds up."""
    monkeypatch.setenv("XDG_DATA_HOME", "")  # each machine has its own, and pytest puts back what was there
    run_state_machine_as_test(Machine, settings=settings(max_examples=8, stateful_step_count=10))
