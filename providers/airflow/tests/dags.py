"""DAG files of tests, and what they read."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from aiobatch.sync import SyncEngine

_DAG = """
from airflow.sdk import DAG, Asset
from airflow_provider_batchcom.operators.batchcom import *
from airflow_provider_batchcom.sensors.batchcom import *

with DAG({dag_id!r}, schedule=None) as dag:
    {body}
"""


def one_task(operator: str, extra: str = "", **arguments: Any) -> str:
    """Return the text of a file with a DAG of the task `sync`.

    Args:
        operator: The operator's class.
        extra: More arguments, as Python text.
        **arguments: Arguments, as values.
    """
    arguments = {"task_id": "sync", "audience": "vip", **arguments}
    body = f"{operator}(**{arguments!r}, {extra})"
    return _DAG.format(dag_id=f"test_{operator}", body=body)


def many_tasks(body: str) -> str:
    """Return the text of a file with a DAG of the tasks in *body*."""
    return _DAG.format(dag_id="test_tasks", body=body.strip().replace("\n", "\n    "))


def sync_task(path: Path, extra: str = "", **arguments: Any) -> str:
    """Return the text of a file with a DAG that syncs the file `users.csv` of a folder."""
    defaults: dict[str, Any] = {
        "source": str(path / "users.csv"),
        "state": str(path / "state.duckdb"),
        "create": True,
        "options": {"chunk_size": 100},
        "allow_local_state": True,
        "deferrable": False,
        "retries": 1,
        "retry_delay": 0.0,
    }
    return one_task("BatchcomSyncAudienceOperator", extra, **{**defaults, **arguments})


def write_users(path: Path, count: int, *, start: int = 0) -> set[str]:
    """Write the file `users.csv` into a folder, and return its IDs."""
    ids = [f"u{n}" for n in range(start, start + count)]
    (path / "users.csv").write_text("\n".join(["id", *ids, ""]), encoding="utf-8")
    return set(ids)


def members_of(state: Path) -> dict[str, tuple[int, str | None]]:
    """Return the number of recorded members of each audience, and how its last run ended."""

    async def read() -> dict[str, tuple[int, str | None]]:
        async with SyncEngine(state=state) as engine:
            return {
                one.audience: (one.members, None if one.outcome is None else str(one.outcome))
                for one in (await engine.status()).audiences
            }

    return asyncio.run(read())
