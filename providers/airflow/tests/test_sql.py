"""Members from a database, through Airflow's own connections."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aiobatch import InvalidInputError, Member
from aiobatch.sandbox import Sandbox
from aiobatch.sync import SourceError
from airflow_provider_batchcom._sql import _Rows, read_members

from .conftest import Ended
from .dags import sync_task

RunDag = Callable[..., Ended]


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a database with 12,000 users, and a connection to it."""
    path = tmp_path / "crm.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE users (user_id, plan, seen)")
        rows = [(f"u{n}", "gold" if n % 2 else None, n) for n in range(12_000)]
        connection.executemany("INSERT INTO users VALUES (?, ?, ?)", rows)
    fields = {"conn_type": "sqlite", "host": str(path)}
    monkeypatch.setenv("AIRFLOW_CONN_CRM", json.dumps(fields))
    return path


@pytest.mark.parametrize("deferrable", [False, True])
def test_query_is_the_source(
    run_sandbox: Callable[..., Sandbox], run_dag: RunDag, database: Path, tmp_path: Path, deferrable: bool
) -> None:
    """Any SQL connection is a source, whose rows are read in portions."""
    sandbox = run_sandbox(indexing_delay=0.5)
    ended = run_dag(
        sync_task(
            tmp_path,
            source=None,
            sql="SELECT user_id, plan FROM users WHERE seen < {{ 10000 + 1500 }}",
            sql_conn_id="crm",
            options={"attributes": ["plan"]},
            deferrable=deferrable,
        )
    )
    assert ended.states == {"sync": ["success"]}
    members = sandbox.members("vip")
    assert set(members) == {f"u{n}" for n in range(11_500)}
    assert members["u1"].attributes == {"plan": "gold"}
    assert not members["u2"].attributes


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"sql": "SELECT user_id FROM nowhere", "sql_conn_id": "crm"}, "no such table"),
        ({"sql": "SELECT seen, plan FROM users", "sql_conn_id": "crm"}, "Set the option id_column"),
        ({"sql": "SELECT 1.5", "sql_conn_id": "crm"}, "type float"),
        ({"sql": "SELECT 1", "sql_conn_id": "batchcom_default"}, "no SQL connection"),
        ({"sql": "SELECT 1", "sql_conn_id": "crm", "options": {"header": False}}, "header is about files"),
        ({"sql": None, "sql_conn_id": "crm"}, "sql_conn_id needs sql"),
        ({"sql": "SELECT 1", "sql_conn_id": "crm", "source": "x.csv"}, "and no source"),
        ({"sql": "SELECT 1"}, "source must be a path"),
        ({"source": ["u1"]}, "not list"),
        ({"source": "postgresql://me:hunter2@host/crm", "sql": "SELECT 1"}, "contains a password"),
        ({"state": " "}, "state must be"),
    ],
)
def test_bad_source_is_refused(
    run_sandbox: Callable[..., Sandbox],
    run_dag: RunDag,
    database: Path,
    tmp_path: Path,
    arguments: dict[str, Any],
    text: str,
) -> None:
    """A query or a source that does not work fails without a retry, and sends nothing."""
    sandbox = run_sandbox()
    ended = run_dag(sync_task(tmp_path, **{"source": None, "retries": 2, **arguments}))
    assert (ended.states, ended.tries) == ({"sync": ["failed"]}, {"sync": 1})
    assert text in ended.log
    assert set(sandbox.operation_counts.values()) <= {0, 1}  # at most the look at the audience


def _rows(**reading: Any) -> _Rows:
    return _Rows(SimpleNamespace(conn_type="sqlite"), "crm", reading)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("u1", "u1"),
        (7, "7"),
        (Decimal(7), "7"),
        (None, ""),
        (uuid.UUID(int=1), str(uuid.UUID(int=1))),
    ],
)
def test_ids_become_text(value: Any, text: str) -> None:
    """Whole numbers and UUIDs become text. NULL becomes an ID that the engine rejects."""
    rows = _rows()
    assert rows._member([value], rows._columns(["id"]), 1) == text


@pytest.mark.parametrize("value", [True, 1.5, b"u1", Decimal("1.5"), dt.date(2026, 1, 1)])
def test_other_types_are_no_ids(value: Any) -> None:
    """A value whose text is ambiguous is no ID."""
    with pytest.raises(SourceError, match="row 3 has an ID of type"):
        _rows()._member([value], {"id": 0}, 3)


def test_attributes_have_the_types_of_batch() -> None:
    """Numbers, dates and UUIDs become values that Batch takes. NULL is left out."""
    names = ["id", "amount", "whole", "born", "key", "nothing", "tags"]
    rows = _rows(attributes=names[1:-1], tags_column="TAGS")
    row = ["u1", Decimal("1.5"), Decimal(2), dt.date(2026, 1, 2), uuid.UUID(int=1), None, "a, b"]
    member = rows._member(row, rows._columns(names), 1)
    assert isinstance(member, Member)
    assert dict(member.attributes) == dict(
        Member(
            "u1",
            attributes={
                "amount": 1.5,
                "whole": 2,
                "date(born)": dt.date(2026, 1, 2),
                "key": str(uuid.UUID(int=1)),
            },
        ).attributes
    )
    assert member.tags == ("a", "b")
    assert rows._member(["u1", *[None] * 6], rows._columns(names), 1) == "u1"


def test_bad_id_with_attributes_is_left_to_the_engine() -> None:
    """An invalid ID is rejected and counted. An invalid attribute ends the reading."""
    rows = _rows(attributes={"x": "y"}, id_column="uid", tags_column="t")
    columns = rows._columns(["uid", "x", "t"])
    assert rows._member(["", 1, None], columns, 1) == ""
    with pytest.raises(SourceError, match="row 2"):
        rows._member(["u1", object(), ["t"]], columns, 2)


@pytest.mark.parametrize("names", [["a", "b"], ["id", "user_id"], ["id", "ID"]])
def test_ambiguous_columns_are_refused(names: list[str]) -> None:
    """There must be one column of IDs."""
    with pytest.raises(SourceError, match="no single column"):
        _rows()._columns(names)
    with pytest.raises(SourceError, match="no single column 'c'"):
        _rows(id_column="c")._columns(names)


def test_only_column_has_the_ids() -> None:
    """A query with one column needs no name for it."""
    assert _rows()._columns(["email"]) == {"id": 0}


def test_named_cursor_streams_from_postgres() -> None:
    """PostgreSQL's driver reads all rows into memory, unless the cursor has a name."""
    opened: list[tuple[Any, ...]] = []

    class Cursor:
        description = (("id",),)
        rows = iter([[("u1",)], [("u2",)], []])

        def __init__(self, *arguments: Any) -> None:
            opened.append(arguments)

        def execute(self, sql: str) -> None:
            assert sql == "SELECT"

        def fetchmany(self, size: int) -> list[tuple[str]]:
            return next(self.rows)

        def close(self) -> None:
            opened.append(("closed",))

    server = SimpleNamespace(cursor=Cursor, close=lambda: None)
    hook = SimpleNamespace(conn_type="postgres", get_conn=lambda: server)
    assert list(_Rows(hook, "crm", {}).members("SELECT")) == ["u1", "u2"]  # type: ignore[arg-type]
    assert opened == [("aiobatch",), ("closed",)]


def test_option_about_files_is_refused() -> None:
    """A query has no delimiter."""
    with pytest.raises(InvalidInputError, match="delimiter"):
        read_members("crm", "SELECT 1", {"delimiter": ";"})
