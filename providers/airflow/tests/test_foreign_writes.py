"""Audiences that another writer changes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.triggers.base import TriggerEvent

from aiobatch.sandbox import Sandbox
from airflow_provider_batchcom.triggers.batchcom import BatchcomTokensTrigger

from .conftest import Ended
from .dags import members_of, sync_task, write_users

RunDag = Callable[..., Ended]
RunSandbox = Callable[..., Sandbox]


@pytest.fixture
def while_deferred(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Return a function that sets what another writer does before the last event of a trigger."""
    run = BatchcomTokensTrigger.run

    def set_work(work: Callable[[], object]) -> None:
        async def interrupted(self: BatchcomTokensTrigger) -> AsyncIterator[TriggerEvent]:
            if self.carry:  # not the wait for the create
                work()
            async for event in run(self):
                yield event

        monkeypatch.setattr(BatchcomTokensTrigger, "run", interrupted)

    return set_work


@pytest.mark.parametrize(("strict", "state"), [(False, "success"), (True, "failed")])
def test_drift_is_seen_after_the_wait(
    run_sandbox: RunSandbox,
    run_dag: RunDag,
    while_deferred: Callable[[Callable[[], object]], None],
    tmp_path: Path,
    strict: bool,
    state: str,
) -> None:
    """A different count is a warning of the report, or fails the task without a retry."""
    sandbox = run_sandbox(indexing_delay=0.2)
    write_users(tmp_path, 200)
    while_deferred(lambda: sandbox.write_behind_back("vip", add=["foreign"]))
    options = {"strict": strict, "drift_patience": 1.5}
    ended = run_dag(sync_task(tmp_path, deferrable=True, options=options))
    assert (ended.states, ended.tries) == ({"sync": [state]}, {"sync": 1})
    assert "Batch counts 201 members, and the state records 200." in (
        ended.log if strict else ended.results["sync"]["warnings"]
    )


@pytest.mark.parametrize("mode", ["mirror", "resync"])
def test_replaced_members_fail_the_task(
    run_sandbox: RunSandbox,
    run_dag: RunDag,
    while_deferred: Callable[[Callable[[], object]], None],
    tmp_path: Path,
    mode: str,
) -> None:
    """A task never succeeds if another writer replaced the members meanwhile. A resync repairs it."""
    sandbox, ids = run_sandbox(indexing_delay=0.5), write_users(tmp_path, 210)
    while_deferred(lambda: sandbox.replace_behind_back("vip", ["foreign"]))
    ended = run_dag(sync_task(tmp_path, deferrable=True, mode=mode, retries=0))
    assert ended.states == {"sync": ["failed"]}
    assert ("mode='resync'" if mode == "mirror" else "ended as replaced") in ended.log
    while_deferred(lambda: None)
    repaired = run_dag(sync_task(tmp_path, mode="resync"))
    assert repaired.states == {"sync": ["success"]}
    assert set(sandbox.members("vip")) - {"foreign"} == ids


@pytest.mark.parametrize("deferrable", [False, True])
def test_existing_audience_is_adopted(
    run_sandbox: RunSandbox, run_dag: RunDag, tmp_path: Path, deferrable: bool
) -> None:
    """Members that the state does not know fail the task, and the mode `adopt` imports them."""
    sandbox = run_sandbox()
    ids = write_users(tmp_path, 200)
    run_dag(sync_task(tmp_path))
    arguments: dict[str, Any] = {"state": str(tmp_path / "other.duckdb"), "deferrable": deferrable}
    unknown = run_dag(sync_task(tmp_path, **arguments))
    assert (unknown.states, unknown.tries) == ({"sync": ["failed"]}, {"sync": 1})
    assert "mode='adopt'" in unknown.log
    before = sandbox.operation_counts["update"]
    adopted = run_dag(sync_task(tmp_path, mode="adopt", **arguments))
    assert adopted.states == {"sync": ["success"]}
    assert sandbox.operation_counts["update"] == before
    assert members_of(tmp_path / "other.duckdb")["vip"][0] == len(ids)
