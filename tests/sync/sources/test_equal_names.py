"""Columns whose names differ at most in case: DuckDB and SQLite rename them and read the first one."""

from __future__ import annotations

import importlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from aiobatch.sync.sources._source import Source

from ..staged import refusal, staged

Columns = list[tuple[str, str]]


def _table(columns: Columns) -> Any:
    """Return a table of pyarrow, which alone keeps equal names."""
    arrow = pytest.importorskip("pyarrow")
    return arrow.table([arrow.array([value]) for _, value in columns], names=[name for name, _ in columns])


def _query(columns: Columns) -> str:
    return "SELECT " + ", ".join(f"'{value}' AS \"{name}\"" for name, value in columns)


def _parquet(columns: Columns, directory: Path) -> tuple[Any, dict[str, Any]]:
    table = _table(columns)
    importlib.import_module("pyarrow.parquet").write_table(table, directory / "users.parquet")
    return directory / "users.parquet", {}


def _arrow(columns: Columns, _: Path) -> tuple[Any, dict[str, Any]]:
    return _table(columns), {}


def _duckdb(columns: Columns, _: Path) -> tuple[Any, dict[str, Any]]:
    return "duckdb://", {"query": _query(columns) + "; -- all"}


def _sqlite(columns: Columns, directory: Path) -> tuple[Any, dict[str, Any]]:
    with closing(sqlite3.connect(directory / "users.db")) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS any (one)")
        connection.commit()
    return f"sqlite:///{directory}/users.db", {"query": _query(columns)}


def _adbc(columns: Columns, directory: Path) -> tuple[Any, dict[str, Any]]:
    pytest.importorskip("pyarrow")  # without it, a driver does not return the names of its columns
    library = importlib.import_module("adbc_driver_sqlite")._driver_path()
    text = f'manifest_version = 1\nname = "lite"\nversion = "1"\n[Driver]\nshared = "{library}"\n'
    (directory / "lite.toml").write_text(text)
    address, arguments = _sqlite(columns, directory)
    return address.replace("sqlite:", "adbc+lite:"), arguments


SOURCES: list[Callable[[Columns, Path], tuple[Any, dict[str, Any]]]] = [
    _parquet,
    _arrow,
    _duckdb,
    _sqlite,
    _adbc,
]
ID_TWICE = [
    [("id", "right"), ("id", "wrong")],
    [("ID", "wrong"), ("id", "right")],
    [("x", "1"), ("id", "right"), ("Id", "wrong")],
]


@pytest.fixture(params=SOURCES, ids=lambda make: str(make.__name__).strip("_"))
def read(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Return how to make a source of columns with one row, and its options."""
    monkeypatch.setenv("ADBC_DRIVER_PATH", str(tmp_path))

    def make(columns: Columns, **options: Any) -> tuple[Any, dict[str, Any]]:
        source, more = request.param(columns, tmp_path)
        options |= more
        if not isinstance(source, str | Path):
            return Source(location=Source.of(source).location, **options), {}
        return source, options

    return make


@pytest.mark.parametrize("columns", ID_TWICE)
def test_id_column_of_an_equal_name_is_refused(
    columns: Columns, read: Callable[..., Any], tmp_path: Path
) -> None:
    """No column is chosen by its place."""
    source, options = read(columns)
    error = refusal(source, tmp_path, **options)
    assert "columns have the name" in str(error)
    assert "right" not in str(error)


def test_attribute_of_an_equal_name_is_refused(read: Callable[..., Any], tmp_path: Path) -> None:
    """The same holds for attributes. Columns that nothing reads may have equal names."""
    columns = [("id", "u1"), ("Age", "1"), ("age", "2"), ("x", "3")]
    source, options = read(columns, attributes=["Age"])
    assert "columns have the name" in str(refusal(source, tmp_path, **options))
    source, options = read(columns, attributes=["x"])
    assert staged(source, tmp_path, **options).attributes == {"u1": {"x": "3"}}


def test_real_names_like_the_new_ones_are_read(read: Callable[..., Any], tmp_path: Path) -> None:
    """`id_1` may be the name of a column that nothing renamed."""
    columns = [("id", "u1"), ("id_1", "1"), ("age_2", "2")]
    source, options = read(columns, attributes=["id_1", "age_2"])
    assert staged(source, tmp_path, **options).attributes == {"u1": {"id_1": "1", "age_2": "2"}}


def test_nested_columns_are_no_names(tmp_path: Path) -> None:
    """The fields of a struct do not count among the columns of Parquet."""
    path = tmp_path / "users.parquet"
    with duckdb.connect() as connection:
        query = "SELECT {'id': 1, 'x': {'id': 2}, 'y': [3]} AS user_1, 'u1' AS id, ['a'] AS id_1"
        connection.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
    assert staged(path, tmp_path).ids == {"u1"}


@pytest.mark.parametrize(
    ("name", "text"), [("u.csv", "id,Age,age\nu1,1,2\n"), ("u.jsonl", '{"id": "u1", "Age": 1, "age": 2}\n')]
)
def test_text_is_read_by_its_exact_names(name: str, text: str, tmp_path: Path) -> None:
    """In text files, one of two such columns can be read, but not both: both got the value of the first."""
    (tmp_path / name).write_text(text)
    attributes = staged(tmp_path / name, tmp_path, attributes=["age"]).attributes
    assert str(attributes["u1"]["age"]) == "2"
    error = refusal(tmp_path / name, tmp_path, attributes=["Age", "age"])
    assert "2 columns have the name 'Age'" in str(error)


def test_sqlite_query_without_rows_is_empty(tmp_path: Path) -> None:
    """The driver then calls all columns whole numbers. That was an error about a value."""
    source, options = _sqlite([("id", "u1")], tmp_path)
    options["query"] += " WHERE false"
    assert staged(source, tmp_path, **options).counts.read == 0
