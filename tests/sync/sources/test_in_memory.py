from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from aiobatch.models import Member
from aiobatch.sync.sources._id_rules import IdRules
from aiobatch.sync.sources._source import Source
from aiobatch.sync.sources._stage import stage

from .staged import refusal, staged


def test_ids_and_members_mix(tmp_path: Path) -> None:
    """Strings and Members may stand side by side; the last of one id wins."""
    member = Member("b", attributes={"n": 1, "date(d)": "2023-08-12T22:30:05+02:00"}, tags=("y", "x", "y"))
    result = staged(iter(["a", Member("b"), member, " a ", Member("c", tags=("z",))]), tmp_path)
    assert result.attributes == {"a": None, "b": {"date(d)": "2023-08-12T20:30:05Z", "n": 1}, "c": None}
    assert result.tags == {"a": None, "b": ["x", "y"], "c": ["z"]}
    assert result.counts.duplicate == 2


def test_many_items_are_numbered_through(tmp_path: Path) -> None:
    """Items are taken in portions, and the number of a rejected one counts from the first of all."""
    items = (f"u{number}" if number % 60_000 else "" for number in range(1, 130_001))
    result = staged(items, tmp_path)
    assert result.counts.read == 130_000
    assert [reject[:3] for reject in result.rejects] == [
        ("<ids>", 60_000, "empty"),
        ("<ids>", 120_000, "empty"),
    ]


@pytest.mark.parametrize(
    ("items", "problem"),
    [
        (["a", 5], "item 2 has the type int"),
        (["a", None], "item 2 has the type NoneType"),
        ([b"a"], "item 1 has the type bytes"),
        (["a", "secret\ud800"], "item 2 contains a lone surrogate"),
    ],
)
def test_what_is_no_id_is_refused(items: list[Any], problem: str, tmp_path: Path) -> None:
    """A program that gives something else has a defect: its place is named and its value is not shown."""
    error = refusal(items, tmp_path)
    assert problem in str(error)
    assert "secret" not in str(error)


def test_an_exception_of_the_caller_is_his(tmp_path: Path) -> None:
    """What the caller's own generator raises comes through as it is, and nothing is staged."""

    def broken() -> Iterator[str]:
        yield "a"
        msg = "gone"
        raise OSError(msg)

    with duckdb.connect() as connection:
        with pytest.raises(OSError, match="gone"):
            stage(connection, Source.of(broken()), IdRules())
        assert connection.execute("FROM duckdb_tables()").fetchall() == []


def test_tables_are_streamed_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever speaks Arrow's C stream interface is a source, typed as it is; no package is needed for it."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    table = _Stream("SELECT i AS user_id, i / 2 AS half, ['t'] AS tags FROM range(3) AS t(i)")
    result = staged(
        Source(location=Source.of(table).location, attributes=["half"], tags_column="tags"), tmp_path
    )
    assert result.attributes == {"0": {"half": 0.0}, "1": {"half": 0.5}, "2": {"half": 1.0}}
    assert result.tags["0"] == ["t"]


def test_a_table_that_breaks_is_refused(tmp_path: Path) -> None:
    """A stream that ends in an error stops the run without showing what was in it."""
    table = _Stream(
        "SELECT CASE WHEN i > 100000 THEN error('secret')::VARCHAR ELSE 'a' END AS id FROM range(200000) t(i)"
    )
    error = refusal(table, tmp_path)
    assert "not all rows could be read" in str(error)
    assert "secret" not in str(error)


def test_a_table_that_is_spent_is_refused(tmp_path: Path) -> None:
    """A stream that was read before has no rows to give."""

    class Spent:
        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            return object()

    assert "not all rows could be read" in str(refusal(Spent(), tmp_path))


def test_a_table_without_ids_is_refused(tmp_path: Path) -> None:
    """A table has its column of ids named like any other source."""
    assert "'name', 'age'" in str(refusal(_Stream("SELECT 1 AS name, 2 AS age"), tmp_path))


class _Stream:
    """A query's rows behind the stream interface alone."""

    def __init__(self, query: str) -> None:
        self._connection = duckdb.connect()
        self._relation = self._connection.sql(query)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Give the stream."""
        return self._relation.__arrow_c_stream__(requested_schema)
