"""An Airflow home of the tests, and a sandbox in place of Batch."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from aiobatch.sandbox import PROJECT_KEY, REST_API_KEY, Sandbox, SandboxOptions
from aiobatch.testing import running_sandbox

HOME = Path(tempfile.mkdtemp(prefix="airflow-home-"))
# Airflow reads these once, when it is imported.
os.environ |= {
    "AIRFLOW_HOME": str(HOME),
    "XDG_DATA_HOME": str(HOME / "data"),  # no other run on this machine shares a lock
    "AIRFLOW__CORE__DAGS_FOLDER": str(HOME / "dags"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
}
BIN = Path(sys.executable).parent

from airflow.dag_processing.dagbag import DagBag  # noqa: E402 - after its settings


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add an option for the long tests."""
    parser.addoption("--long", action="store_true", help="run the tests that need minutes too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the long tests unless they are asked for."""
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="needs --long"))


@pytest.fixture(scope="session")
def airflow_home() -> Iterator[Path]:
    """Create Airflow's database."""
    (HOME / "dags").mkdir(exist_ok=True)
    subprocess.run([BIN / "airflow", "db", "migrate"], check=True, capture_output=True, timeout=300)
    yield HOME
    shutil.rmtree(HOME, ignore_errors=True)


class SandboxThread:
    """A sandbox with an event loop and a thread of its own, because Airflow's tasks block.

    Attributes:
        sandbox: The sandbox.
    """

    sandbox: Sandbox

    def __init__(self, options: SandboxOptions) -> None:
        self._options = options
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Sandbox:
        self._thread.start()
        assert self._ready.wait(60)
        return self.sandbox

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(60)

    async def _run(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with running_sandbox(self._options) as self.sandbox:
            self._ready.set()
            await self._end.wait()


def connection(url: str) -> str:
    """Return a connection to a sandbox, as the text of an environment variable."""
    fields = {"conn_type": "batchcom", "host": url, "login": PROJECT_KEY, "password": REST_API_KEY}
    return json.dumps(fields)


@pytest.fixture
def run_sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Sandbox]]:
    """Return a function that starts a sandbox and makes it the default connection."""
    running: list[SandboxThread] = []

    def start(**fields: object) -> Sandbox:
        thread = SandboxThread(SandboxOptions(**fields))  # type: ignore[arg-type]  # checked by the class
        running.append(thread)
        sandbox = thread.__enter__()
        monkeypatch.setenv("AIRFLOW_CONN_BATCHCOM_DEFAULT", connection(sandbox.url))
        return sandbox

    yield start
    for thread in running:
        thread.__exit__()


@attrs.frozen
class Ended:
    """A DAG run that ended.

    Attributes:
        states: Task -> state. A mapped task has several states.
        tries: Task -> number of its last try.
        results: Task -> what it returned.
        log: What the run printed.
    """

    states: dict[str, list[str]]
    tries: dict[str, int]
    results: dict[str, Any]
    log: str


@pytest.fixture
def run_dag(
    airflow_home: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Iterator[Callable[..., Ended]]:
    """Return a function that runs the DAG of a file's text, in this process."""
    files: list[Path] = []

    def run(text: str, conf: dict[str, Any] | None = None, dag_id: str | None = None) -> Ended:
        path = airflow_home / "dags" / f"dag_{uuid.uuid4().hex}.py"
        files.append(path)
        path.write_text(text, encoding="utf-8")
        bag = DagBag(dag_folder=path)
        assert bag.import_errors == {}
        run = bag.dags[dag_id or min(bag.dags)].test(run_conf=conf)
        return _ended(run, "".join([*capfd.readouterr(), caplog.text]))

    yield run
    for path in files:
        path.unlink()


def _ended(run: Any, log: str) -> Ended:
    states: dict[str, list[str]] = {}
    tries, results = {}, {}
    for one in sorted(run.get_task_instances(), key=lambda one: one.map_index):
        states.setdefault(one.task_id, []).append(str(one.state))
        tries[one.task_id] = one.try_number
        results[one.task_id] = one.xcom_pull(task_ids=one.task_id)
    return Ended(states, tries, results, log)
