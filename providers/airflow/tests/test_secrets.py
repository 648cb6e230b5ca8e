"""No key and no ID reaches what Airflow stores or shows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aiobatch.sandbox import PROJECT_KEY, REST_API_KEY, Sandbox

from .conftest import Ended, connection
from .dags import sync_task, write_users

_WRONG_KEY = "wrong-rest-key-of-a-test"


def stored(home: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield the files of Airflow: its database, the write-ahead log, and the logs of tasks."""
    for path in home.rglob("*"):
        if path.is_file() and path.name != "simple_auth_manager_passwords.json.generated":
            yield path, path.read_bytes()


@pytest.mark.parametrize("deferrable", [False, True])
def test_keys_and_ids_stay_out_of_airflow(
    run_sandbox: Callable[..., Sandbox],
    run_dag: Callable[..., Ended],
    airflow_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    deferrable: bool,
) -> None:
    """No key and no ID is in the metadata database, XComs, rendered fields, triggers or logs."""
    sandbox = run_sandbox(indexing_delay=0.5)
    ids = write_users(tmp_path, 300)
    secret = "secret-user-0123456789"
    (tmp_path / "users.csv").write_text("\n".join(["id", *ids, secret, ""]), encoding="utf-8")
    dag = sync_task(tmp_path, deferrable=deferrable)
    ends = [run_dag(dag)]
    write_users(tmp_path, 0)
    ends.append(run_dag(dag))  # the guard refuses it
    wrong = json.loads(connection(sandbox.url)) | {"password": _WRONG_KEY}
    monkeypatch.setenv("AIRFLOW_CONN_BATCHCOM_DEFAULT", json.dumps(wrong))
    write_users(tmp_path, 301)
    ends.append(run_dag(dag))  # Batch refuses the key
    assert [end.states["sync"] for end in ends] == [["success"], ["failed"], ["failed"]]
    words = [word.encode() for word in (REST_API_KEY, PROJECT_KEY, _WRONG_KEY, secret)]
    seen = [*stored(airflow_home), *(("log", end.log.encode()) for end in ends)]
    assert len(seen) > len(ends)
    assert [(path, word) for path, content in seen for word in words if word in content] == []
