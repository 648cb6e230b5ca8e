"""Arrow objects of other libraries are sources. Each test needs its library."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ..staged import refusal, staged


class _Stream:
    """The result of a query, known by Arrow's C interface alone."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, query: str) -> None:
        self._rows = connection.sql(query)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._rows.__arrow_c_stream__(requested_schema)


def _batches(connection: duckdb.DuckDBPyConnection, *queries: str) -> Iterator[Any]:
    """Yield the results of queries as Arrow streams, which needs no other library."""
    for query in queries:
        yield _Stream(connection, query)


def test_batches_of_arrow_are_one_table(tmp_path: Path) -> None:
    """An iterator of batches is read batch by batch. Row numbers continue."""
    with duckdb.connect() as connection:
        batches = _batches(
            connection, "SELECT 'a' AS id, 1 AS n", "SELECT unnest(['b', '', 'a']) AS id, 2 AS n"
        )
        result = staged(batches, tmp_path)
        assert result.ids == {"a", "b"}
        assert result.rejects == [("<table>", 3, "empty", "")]
        assert staged(iter(()), tmp_path).ids == set()


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        ("SELECT 'b' AS user_id", "its ID column is 'user_id', not 'id'"),
        ("SELECT 5 AS id", "its IDs are whole numbers, not text"),
        ("SELECT 'b' AS x, 'c' AS y", "its columns differ"),
    ],
)
def test_batches_that_differ_are_refused(second: str, problem: str, tmp_path: Path) -> None:
    """All batches have the columns of the first one."""
    with duckdb.connect() as connection:
        error = refusal(_batches(connection, "SELECT 'a' AS id", second), tmp_path)
    assert problem in str(error)


def test_batches_and_ids_are_not_mixed(tmp_path: Path) -> None:
    """The first item decides."""
    with duckdb.connect() as connection:
        items = iter([_Stream(connection, "SELECT 'a' AS id"), "b"])
        assert "an item has the type str" in str(refusal(items, tmp_path))


def test_items_that_become_batches(tmp_path: Path) -> None:
    """An item with `to_arrow` is fetched when the ones before it are read."""
    fetched: list[str] = []
    with duckdb.connect() as connection:

        class Batch:
            def __init__(self, name: str) -> None:
                self.name = name

            def to_arrow(self) -> Any:
                fetched.append(self.name)
                return _Stream(connection, f"SELECT '{self.name}' AS id")

        def batches() -> Iterator[Any]:
            for name in "abc":
                assert len(fetched) == len(set(fetched)) == "abc".index(name)
                yield Batch(name)

        assert staged(batches(), tmp_path).ids == {"a", "b", "c"}


@pytest.mark.filterwarnings("default")  # of the emulator
def test_batches_of_snowflake(tmp_path: Path) -> None:
    """All three results of a cursor are sources. An empty one has no IDs."""
    fakesnow = pytest.importorskip("fakesnow", reason="run pip install 'fakesnow[server]'")
    connector = pytest.importorskip("snowflake.connector")
    with fakesnow.server() as address, connector.connect(**address, database="CRM", schema="CRM") as snow:
        cursor = snow.cursor()
        cursor.execute("CREATE TABLE users (user_id VARCHAR, age INT)")
        expected = {f"ü{number}" for number in range(500)}
        rows = ", ".join(f"('{one}', 7)" for one in sorted(expected))
        cursor.execute(f"INSERT INTO users VALUES {rows}")
        for method in ("fetch_arrow_all", "fetch_arrow_batches", "get_result_batches"):
            batches = getattr(cursor.execute("SELECT * FROM users"), method)()
            assert staged(batches, tmp_path).ids == expected
        empty = cursor.execute("SELECT * FROM users WHERE age > 7").get_result_batches()
        assert staged(empty, tmp_path).ids == set()


def test_record_batches_of_pyarrow(tmp_path: Path) -> None:
    """Drivers of warehouses, such as Snowflake's, yield these."""
    arrow = pytest.importorskip("pyarrow")
    tables = (arrow.table({"user_id": [f"u{number}"]}) for number in range(3))
    assert staged(tables, tmp_path).ids == {"u0", "u1", "u2"}
    batches = [arrow.record_batch({"user_id": ["a"]}), arrow.record_batch({"user_id": ["b"]})]
    assert staged(batches, tmp_path).ids == {"a", "b"}
    assert staged(arrow.RecordBatchReader.from_batches(batches[0].schema, batches), tmp_path).ids == {
        "a",
        "b",
    }


def test_frames_of_polars(tmp_path: Path) -> None:
    """Frames are tables."""
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"user_id": ["a", None, "b"]})
    assert staged(frame, tmp_path).ids == {"a", "b"}
    assert staged(iter([frame, frame.head(1)]), tmp_path).ids == {"a", "b"}


def test_scans_of_deltalake(tmp_path: Path) -> None:
    """The stream of a scan is a table."""
    library, arrow = pytest.importorskip("deltalake"), pytest.importorskip("pyarrow")
    library.write_deltalake(tmp_path / "users", arrow.table({"user_id": ["a", "b"]}))
    assert staged(library.DeltaTable(tmp_path / "users").scan(), tmp_path).ids == {"a", "b"}


@pytest.mark.sweep
def test_frames_of_spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame is streamed partition by partition. Spark itself needs a Java runtime."""
    library = pytest.importorskip("pyspark.sql")
    if shutil.which("java") is None:
        pytest.skip("Java is not installed: apt-get install openjdk-17-jre-headless")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    spark = library.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        frame = spark.range(2000).selectExpr("concat('u', id) AS user_id")
        assert staged(frame, tmp_path).counts.kept == 2000
    finally:
        spark.stop()
