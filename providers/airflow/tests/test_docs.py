"""The DAGs of README.md and of the guide run."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from aiobatch.sandbox import Sandbox

from .conftest import Ended

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "providers" / "airflow" / "README.md", ROOT / "docs" / "howto" / "airflow.md"]
BLOCKS = [
    block
    for page in PAGES
    for block in re.findall(
        r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
]
_NAME = re.compile(r'with DAG\("(\w+)"')
# Object storage in the pages, a file in the tests.
_STATE = '"s3://crm/aiobatch"'


def test_pages_have_dags() -> None:
    """The pages show a DAG for each operator."""
    assert len(BLOCKS) >= 6


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: _NAME.findall(block)[0])
def test_dag_runs(
    run_sandbox: Callable[..., Sandbox],
    run_dag: Callable[..., Ended],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    block: str,
) -> None:
    """Each DAG succeeds as it is shown, with files and a state on this machine."""
    sandbox = run_sandbox(indexing_delay=0.2)
    users = [("u1", "gold", 1), ("u2", "silver", 1)]
    with sqlite3.connect(tmp_path / "crm.sqlite") as database:
        database.execute("CREATE TABLE users (user_id, plan, is_vip)")
        database.executemany("INSERT INTO users VALUES (?, ?, ?)", users)
    warehouse = {"conn_type": "sqlite", "host": str(tmp_path / "crm.sqlite")}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(warehouse))
    (tmp_path / "users.csv").write_text("id\nu1\nu2\n", encoding="utf-8")
    text = re.sub(r"/data/[^\"]*users.csv", str(tmp_path / "users.csv"), block)
    text = text.replace(_STATE, f'"{tmp_path}/state.duckdb"').replace(
        "deferrable=True,", "deferrable=True, allow_local_state=True,"
    )
    if "BatchcomUpdateAudienceOperator(" in text:
        run_dag(_create_vip(tmp_path))
    ended = run_dag(text, dag_id=_NAME.findall(block)[0])
    assert {state for states in ended.states.values() for state in states} == {"success"}
    assert sandbox.audiences()


def _create_vip(path: Path) -> str:
    return f"""
from airflow.sdk import DAG
from airflow_provider_batchcom.operators.batchcom import BatchcomSyncAudienceOperator
with DAG("create_vip", schedule=None):
    BatchcomSyncAudienceOperator(
        task_id="sync", audience="vip", source="{path}/users.csv", state="{path}/s.duckdb", create=True
    )
"""
