"""Syncs in real tasks, against the sandbox."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aiobatch.sandbox import API_KEY, REST_API_KEY, Sandbox

from .conftest import Ended
from .dags import many_tasks, members_of, one_task, sync_task, write_users

RunDag = Callable[..., Ended]
RunSandbox = Callable[..., Sandbox]

_WRITES = {"create", "update", "replace", "delete"}


def writes(sandbox: Sandbox) -> int:
    """Return the number of write calls that a sandbox got."""
    return sum(count for name, count in sandbox.operation_counts.items() if name in _WRITES)


@pytest.mark.parametrize("deferrable", [False, True])
def test_sync_is_exact(run_sandbox: RunSandbox, run_dag: RunDag, tmp_path: Path, deferrable: bool) -> None:
    """A sync is exact in Batch and in the state, however it waits. The next one sends nothing."""
    sandbox, ids = run_sandbox(indexing_delay=1.0), write_users(tmp_path, 2_000)
    dag = sync_task(tmp_path, deferrable=deferrable)
    ended = run_dag(dag)
    assert ended.states == {"sync": ["success"]}
    assert set(sandbox.members("vip")) == ids
    assert members_of(tmp_path / "state.duckdb") == {"vip": (2_000, "done")}
    report = ended.results["sync"]
    numbers = ("outcome", "adds", "applied", "members_after", "counted")
    assert [report[name] for name in numbers] == ["done", 2_000, 2_000, 2_000, 2_000]
    # One wait for the create, and one for the chunks.
    assert ended.log.count("deferring audience=vip") == (2 if deferrable else 0)
    before = writes(sandbox)
    assert run_dag(dag).states == {"sync": ["success"]}
    assert writes(sandbox) == before


@pytest.mark.parametrize("deferrable", [False, True])
def test_guard_refusal_is_not_retried(
    run_sandbox: RunSandbox, run_dag: RunDag, tmp_path: Path, deferrable: bool
) -> None:
    """A plan that the guard refuses fails at once, sends nothing, and its overrides allow it once."""
    sandbox = run_sandbox()
    everybody = write_users(tmp_path, 1_000)
    run_dag(sync_task(tmp_path))
    few, before = write_users(tmp_path, 100), writes(sandbox)
    templated = "overrides={'allow_removals': '{{ dag_run.conf.get(\"allow\") }}'}"
    dag = sync_task(tmp_path, templated, deferrable=deferrable, retries=3)
    refused = run_dag(dag)
    assert (refused.states, refused.tries) == ({"sync": ["failed"]}, {"sync": 1})
    assert "overrides={'allow_removals': 900}" in refused.log
    assert writes(sandbox) == before
    assert set(sandbox.members("vip")) == everybody
    assert run_dag(dag, conf={"allow": 900}).states == {"sync": ["success"]}
    assert set(sandbox.members("vip")) == few


def test_refused_first_load_creates_nothing(run_sandbox: RunSandbox, run_dag: RunDag, tmp_path: Path) -> None:
    """An empty source creates no audience, also if the create would be waited for by the triggerer."""
    sandbox = run_sandbox()
    write_users(tmp_path, 0)
    assert run_dag(sync_task(tmp_path, deferrable=True)).states == {"sync": ["failed"]}
    assert writes(sandbox) == 0


@pytest.mark.parametrize("deferrable", [False, True])
def test_killed_task_is_exact_after_its_retry(
    run_sandbox: RunSandbox, run_dag: RunDag, airflow_home: Path, tmp_path: Path, deferrable: bool
) -> None:
    """A task that is killed while it sends is exact after the next try."""
    sandbox = run_sandbox(indexing_delay=1.0, slow_answer=0.3)
    ids = write_users(tmp_path, 4_000)
    text = sync_task(tmp_path, deferrable=deferrable)
    kill_while_it_sends(text, sandbox, airflow_home, tmp_path)
    assert set(sandbox.members("vip")) != ids
    assert run_dag(text).states == {"sync": ["success"]}
    assert set(sandbox.members("vip")) == ids
    assert members_of(tmp_path / "state.duckdb") == {"vip": (4_000, "done")}


def kill_while_it_sends(
    text: str, sandbox: Sandbox, home: Path, path: Path, sent: signal.Signals = signal.SIGKILL
) -> None:
    """Run a DAG in another process, and send that a signal while it sends IDs."""
    (home / "dags" / "killed.py").write_text(text, encoding="utf-8")
    program = path / "program.py"
    program.write_text(f"{text}\ndag.test()\n", encoding="utf-8")
    with (path / "program.log").open("wb") as log:
        task = subprocess.Popen([sys.executable, program], stdout=log, stderr=log)
    try:
        wait_until(lambda: sandbox.operation_counts["update"] >= 9, task)
        task.send_signal(sent)
        task.wait(120)
    finally:
        task.kill()
        task.wait()
        (home / "dags" / "killed.py").unlink()


def wait_until(happens: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait for something that a process does."""
    deadline = time.monotonic() + 120
    while not happens():
        assert process.poll() is None, "the process ended early"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_local_state_is_refused_with_deferrable(
    run_sandbox: RunSandbox, run_dag: RunDag, tmp_path: Path
) -> None:
    """A state that the next worker may not see is refused before anything is sent."""
    sandbox = run_sandbox()
    write_users(tmp_path, 10)
    ended = run_dag(sync_task(tmp_path, deferrable=True, allow_local_state=False))
    assert (ended.states, ended.tries) == ({"sync": ["failed"]}, {"sync": 1})
    assert "allow_local_state" in ended.log
    assert sandbox.request_count == 0


def test_skip_needs_a_run_without_changes(run_sandbox: RunSandbox, run_dag: RunDag, tmp_path: Path) -> None:
    """`skip_on_no_change` skips a task that had nothing to send, and no other."""
    run_sandbox()
    write_users(tmp_path, 10)
    dag = sync_task(tmp_path, skip_on_no_change=True)
    assert run_dag(dag).states == {"sync": ["success"]}
    assert run_dag(dag).states == {"sync": ["skipped"]}


def test_assets_update_after_applied(
    run_sandbox: RunSandbox, run_dag: RunDag, airflow_home: Path, tmp_path: Path
) -> None:
    """The event of an asset has the members and the run. A refused run has no event."""
    run_sandbox(indexing_delay=1.0)
    write_users(tmp_path, 500)
    uri = f"batchcom://project/{tmp_path.name}"
    dag = sync_task(tmp_path, f"outlets=[Asset({uri!r})]", deferrable=True)
    assert run_dag(dag).states == {"sync": ["success"]}
    write_users(tmp_path, 0)
    assert run_dag(dag).states == {"sync": ["failed"]}
    with sqlite3.connect(airflow_home / "airflow.db") as database:
        events = database.execute(
            "SELECT asset_event.extra FROM asset_event JOIN asset ON asset.id = asset_id WHERE uri LIKE ?",
            [f"{uri}%"],
        ).fetchall()
    assert len(events) == 1
    assert '"members": 500' in events[0][0]
    assert '"run": 1' in events[0][0]


def test_mapped_task_syncs_each_audience(run_sandbox: RunSandbox, run_dag: RunDag, tmp_path: Path) -> None:
    """`.expand` syncs each audience with its source."""
    sandbox = run_sandbox()
    ids = write_users(tmp_path, 50)
    body = f"""
BatchcomSyncAudienceOperator.partial(
    task_id="sync", source="{tmp_path}/{{{{ 'users.csv' }}}}", state="{tmp_path}/state.duckdb", create=True
).expand(audience=["gold", "silver"])
"""
    assert run_dag(many_tasks(body)).states == {"sync": ["success", "success"]}
    assert set(sandbox.members("gold")) == set(sandbox.members("silver")) == ids


def test_plan_sends_nothing(run_sandbox: RunSandbox, run_dag: RunDag, tmp_path: Path) -> None:
    """A plan returns the numbers and the guard's decision."""
    sandbox = run_sandbox()
    write_users(tmp_path, 300)
    run_dag(sync_task(tmp_path))
    before = writes(sandbox)
    write_users(tmp_path, 300, start=200)
    arguments = {"source": str(tmp_path / "users.csv"), "state": str(tmp_path / "state.duckdb")}
    plan = run_dag(one_task("BatchcomPlanAudienceOperator", **arguments)).results["sync"]
    assert (plan["outcome"], plan["adds"], plan["removes"]) == ("planned", 200, 200)
    assert plan["guard"]["allowed"] is False
    assert plan["guard"]["overrides"] == {"allow_removals": 200}
    assert writes(sandbox) == before


@pytest.mark.parametrize("deferrable", [False, True])
def test_update_and_sensor(
    run_sandbox: RunSandbox, run_dag: RunDag, tmp_path: Path, deferrable: bool
) -> None:
    """An update adds and removes IDs, and waits until they are APPLIED."""
    sandbox = run_sandbox(indexing_delay=0.5)
    write_users(tmp_path, 3)
    run_dag(sync_task(tmp_path))
    dag = one_task("BatchcomUpdateAudienceOperator", add=["new"], remove=["u0"], deferrable=deferrable)
    ended = run_dag(dag)
    assert ended.results["sync"] == {"audience": "vip", "outcomes": {"APPLIED": 1}}
    assert set(sandbox.members("vip")) == {"u1", "u2", "new"}


@pytest.mark.parametrize(
    "is_killed",
    [False, pytest.param(True, marks=pytest.mark.long)],  # the next try waits for the lease of the killed one
)
def test_state_behind_a_url(
    run_sandbox: RunSandbox, run_dag: RunDag, airflow_home: Path, tmp_path: Path, is_killed: bool
) -> None:
    """A deferrable task uses a state behind a URL, and is exact, also after a kill."""
    sandbox = run_sandbox(indexing_delay=1.0, slow_answer=0.3)
    ids = write_users(tmp_path, 4_000)
    state = (tmp_path / "state").as_uri()
    text = sync_task(tmp_path, state=state, deferrable=True, allow_local_state=False)
    if is_killed:
        kill_while_it_sends(text, sandbox, airflow_home, tmp_path)
        assert set(sandbox.members("vip")) != ids
    ended = run_dag(text)
    assert ended.states == {"sync": ["success"]}
    assert ended.results["sync"]["members_after"] == 4_000
    assert set(sandbox.members("vip")) == ids
    before = writes(sandbox)
    assert run_dag(text).states == {"sync": ["success"]}
    assert writes(sandbox) == before


def test_terminated_task_stops_early(
    run_sandbox: RunSandbox, run_dag: RunDag, airflow_home: Path, tmp_path: Path
) -> None:
    """`on_kill` ends the run within its grace, journals what was sent, and is retried."""
    sandbox = run_sandbox(indexing_delay=0.2, slow_answer=0.3)
    ids = write_users(tmp_path, 10_000)
    text = sync_task(tmp_path, retries=0)
    kill_while_it_sends(text, sandbox, airflow_home, tmp_path, signal.SIGTERM)
    assert "stopped on request" in (tmp_path / "program.log").read_text(encoding="utf-8")
    assert members_of(tmp_path / "state.duckdb")["vip"][1] == "interrupted"
    assert run_dag(text).states == {"sync": ["success"]}
    assert set(sandbox.members("vip")) == ids


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("deferrable", [False, True])
def test_apps_are_synced_too(
    run_sandbox: RunSandbox,
    run_dag: RunDag,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    deferrable: bool,
) -> None:
    """An app's audience is created without a token, and its updates are waited for."""
    sandbox, ids = run_sandbox(indexing_delay=0.5), write_users(tmp_path, 200)
    fields = {"conn_type": "batchcom", "host": sandbox.url, "login": API_KEY, "password": REST_API_KEY}
    monkeypatch.setenv("AIRFLOW_CONN_BATCHCOM_DEFAULT", json.dumps(fields | {"extra": {"api": version}}))
    ended = run_dag(sync_task(tmp_path, deferrable=deferrable))
    assert ended.states == {"sync": ["success"]}
    assert set(sandbox.members("vip")) == ids
    assert ended.log.count("deferring audience=vip") == (1 if deferrable else 0)


def test_late_indexing_is_waited_for_by_the_next_try(
    run_sandbox: RunSandbox, run_dag: RunDag, tmp_path: Path
) -> None:
    """A wait that times out fails the try. The next one continues to wait, and is exact."""
    sandbox, ids = run_sandbox(indexing_delay=5.0), write_users(tmp_path, 300)
    # The create and the chunks need five seconds each.
    dag = sync_task(tmp_path, deferrable=True, timeout=8.0, retries=0)
    failed = run_dag(dag)
    assert failed.states == {"sync": ["failed"]}
    assert "TIMED_OUT" in failed.log
    ended = run_dag(sync_task(tmp_path, deferrable=True))
    assert ended.states == {"sync": ["success"]}
    assert "deferring audience=vip" in ended.log
    assert set(sandbox.members("vip")) == ids


def test_arguments_may_be_defaults_of_the_dag(
    run_sandbox: RunSandbox, run_dag: RunDag, tmp_path: Path
) -> None:
    """`default_args` of a DAG fill any argument."""
    sandbox, ids = run_sandbox(), write_users(tmp_path, 20)
    text = f"""
from airflow.sdk import DAG
from airflow_provider_batchcom.operators.batchcom import BatchcomSyncAudienceOperator

defaults = {{"state": "{tmp_path}/state.duckdb", "create": True, "options": {{"chunk_size": 7}}}}
with DAG("test_defaults", schedule=None, default_args=defaults):
    BatchcomSyncAudienceOperator(task_id="sync", audience="vip", source="{tmp_path}/users.csv")
"""
    ended = run_dag(text)
    assert ended.results["sync"]["calls"] == 3
    assert set(sandbox.members("vip")) == ids
