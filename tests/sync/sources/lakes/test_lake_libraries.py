"""What is asked of the libraries of lakes. Substitutes show it where the real ones are not installed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest

from ...staged import refusal, staged

_FIELDS = [SimpleNamespace(name="user_id"), SimpleNamespace(name="age")]


class _Table:
    """A table of either library."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.asked: list[Any] = []
        self._connection = connection

    def _stream(self, columns: str) -> Any:
        rows = self._connection.sql(f"SELECT {columns} FROM (SELECT 'a' AS user_id, 1 AS age)")
        return _Stream(rows)

    def DeltaTable(self, path: str, *, version: int | None) -> Any:  # noqa: N802 - the name of the library
        self.asked.append((path, version))
        return SimpleNamespace(schema=lambda: SimpleNamespace(fields=_FIELDS), version=lambda: 7)

    def QueryBuilder(self) -> Any:  # noqa: N802 - the name of the library
        return SimpleNamespace(
            register=lambda *_: SimpleNamespace(
                execute=lambda sql: self._stream(sql.removeprefix("SELECT ").partition(" FROM ")[0])
            )
        )

    def load(self, name: str) -> Any:
        self.asked.append(name)
        return SimpleNamespace(current_snapshot=lambda: SimpleNamespace(snapshot_id=9), scan=self._scan)

    def _scan(self, *, snapshot_id: int | None) -> Any:
        self.asked.append(snapshot_id)
        return SimpleNamespace(
            projection=lambda: SimpleNamespace(fields=_FIELDS),
            select=lambda *names: SimpleNamespace(
                to_arrow_batch_reader=lambda: self._stream(", ".join(names))
            ),
        )


class _Stream:
    """A stream of Arrow."""

    def __init__(self, rows: duckdb.DuckDBPyRelation) -> None:
        self._rows = rows

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._rows.__arrow_c_stream__(requested_schema)


def test_versions_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The version of the address, or the current one, is read, and the version read is reported."""
    with duckdb.connect() as connection:
        table = _Table(connection)
        monkeypatch.setitem(sys.modules, "deltalake", table)
        monkeypatch.setitem(sys.modules, "pyiceberg", table)
        static = SimpleNamespace(StaticTable=SimpleNamespace(from_metadata=table.load))
        monkeypatch.setitem(sys.modules, "pyiceberg.table", static)
        catalogs = SimpleNamespace(load_catalog=lambda _: SimpleNamespace(load_table=table.load))
        monkeypatch.setitem(sys.modules, "pyiceberg.catalog", catalogs)
        monkeypatch.chdir(tmp_path)
        (tmp_path / "here").mkdir()
        found = {
            source: staged(source, tmp_path, attributes=["age"]).counts.version
            for source in (
                "delta:///here?version=3",
                "delta://s3://bucket/users",
                "iceberg://lake/crm.users",
                "iceberg:///no/v1.metadata.json?snapshot=5",
            )
        }
        assert [*found.values()] == ["7", "7", "9", "5"]
        assert "no column 'x'" in str(refusal("delta:///here", tmp_path, attributes=["x"]))

        class TableNotFoundError(Exception):
            """What deltalake raises."""

        def fail(*_: object, **__: object) -> None:
            raise TableNotFoundError

        monkeypatch.setattr(table, "DeltaTable", fail)
        assert "the table does not exist" in str(refusal("delta:///here", tmp_path))
    assert table.asked == [
        (str(tmp_path / "here"), 3),
        ("s3://bucket/users", None),
        "crm.users",
        9,
        "/no/v1.metadata.json",
        5,
        (str(tmp_path / "here"), None),
    ]
