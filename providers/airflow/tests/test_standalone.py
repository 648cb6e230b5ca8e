"""A whole Airflow: scheduler, triggerer, DAG processor and API server, of which parts are killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from aiobatch.sandbox import Sandbox

from .conftest import BIN
from .dags import members_of, sync_task, write_users

pytestmark = pytest.mark.long

_MINUTES = 600.0


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def environment(home: Path) -> dict[str, str]:
    """Return the settings of an Airflow with the DAGs of *home*, on free ports."""
    api, worker, triggerer = free_ports(3)
    return os.environ | {
        "PATH": f"{BIN}:{os.environ['PATH']}",  # it starts its parts by name
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{api}/execution/",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(api),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{api}",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(triggerer),
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
    }


@contextmanager
def running(home: Path, env: dict[str, str], command: str) -> Iterator[psutil.Process]:
    """Run an Airflow command, and kill what it started at the end."""
    with (home / f"{command}.log").open("wb") as log:
        process = subprocess.Popen(
            [BIN / "airflow", command], env=env, stdout=log, stderr=log, start_new_session=True
        )
    root = psutil.Process(process.pid)
    try:
        yield root
    finally:
        for each in [root, *root.children(recursive=True)]:
            each.kill()
        process.wait()


def states(home: Path) -> dict[str, str]:
    """Return the state of each DAG's task."""
    if not (home / "airflow.db").exists():
        return {}
    with sqlite3.connect(home / "airflow.db", timeout=60) as database:
        try:
            return dict(database.execute("SELECT dag_id, state FROM task_instance").fetchall())
        except sqlite3.OperationalError:
            return {}  # it is being created


def wait_until(happens: Callable[[], bool], home: Path) -> None:
    """Wait for something that Airflow does."""
    deadline = time.monotonic() + _MINUTES
    while not happens():
        assert time.monotonic() < deadline, (home / "standalone.log").read_text("utf-8")[-3000:]
        time.sleep(0.2)


def holder(state: Path) -> int | None:
    """Return the process that has a state open."""
    path = state.with_name(f"{state.name}.lock")
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def sends(sandbox: Sandbox) -> bool:
    """Return whether the audience `killed` exists, so that its first chunks are being sent."""
    return any(one.name == "killed" for one in sandbox.audiences())


def scheduled(text: str, dag_id: str) -> str:
    """Return the text of a DAG's file, as one that runs once by itself."""
    name = text.partition('DAG("')[2].partition('"')[0] or text.partition("DAG('")[2].partition("'")[0]
    start = "schedule='@once', start_date=__import__('datetime').datetime(2026, 1, 1)"
    return text.replace("schedule=None", start).replace(name, dag_id, 1)


def test_killed_triggerer_and_killed_task(run_sandbox: Callable[..., Sandbox], tmp_path: Path) -> None:
    """A run is exact after `kill -9` of the triggerer while it waits, and of the task while it sends."""
    sandbox = run_sandbox(indexing_delay=20.0, slow_answer=1.0)
    home = tmp_path / "home"
    (home / "dags").mkdir(parents=True)
    ids = write_users(tmp_path, 2_400)
    tasks = {"deferred": True, "killed": False}
    for name, deferrable in tasks.items():
        # The first tries may fail because the API server is not up yet.
        text = sync_task(
            tmp_path,
            audience=name,
            state=str(tmp_path / f"{name}.duckdb"),
            deferrable=deferrable,
            retries=20,
            retry_delay=5.0,
        )
        (home / "dags" / f"{name}.py").write_text(scheduled(text, name), encoding="utf-8")
    env = environment(home)
    with running(home, env, "standalone") as airflow:
        wait_until(lambda: states(home).get("deferred") == "deferred", home)
        triggerers = [each for each in airflow.children(recursive=True) if "triggerer" in each.cmdline()]
        assert triggerers
        for each in triggerers:
            each.kill()
        with running(home, env, "triggerer"):
            wait_until(lambda: holder(tmp_path / "killed.duckdb") is not None and sends(sandbox), home)
            process = holder(tmp_path / "killed.duckdb")
            assert process is not None
            os.kill(process, signal.SIGKILL)
            wait_until(lambda: set(states(home).values()) <= {"success", "failed"}, home)
    assert states(home) == {"deferred": "success", "killed": "success"}
    for name in tasks:
        assert set(sandbox.members(name)) == ids
        assert members_of(tmp_path / f"{name}.duckdb") == {name: (2_400, "done")}
