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

from ..staged import refusal, staged


def test_ids_and_members_can_be_mixed(tmp_path: Path) -> None:
    """A list may contain strings and Members. The last of one ID wins."""
    member = Member("b", attributes={"n": 1, "date(d)": "2023-08-12T22:30:05+02:00"}, tags=("y", "x", "y"))
    result = staged(iter(["a", Member("b"), member, " a ", Member("c", tags=("z",))]), tmp_path)
    assert result.attributes == {"a": None, "b": {"date(d)": "2023-08-12T20:30:05Z", "n": 1}, "c": None}
    assert result.tags == {"a": None, "b": ["x", "y"], "c": ["z"]}
    assert result.counts.duplicate == 2


def test_row_numbers_continue_across_portions(tmp_path: Path) -> None:
    """Items are read in portions, and the number of a rejected one counts from the first."""
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
def test_items_of_other_types_are_refused(items: list[Any], problem: str, tmp_path: Path) -> None:
    """The error names the item's number and does not show its value."""
    error = refusal(items, tmp_path)
    assert problem in str(error)
    assert "secret" not in str(error)


def test_callers_exception_is_raised_as_it_is(tmp_path: Path) -> None:
    """An error of the caller's generator is raised as it is, and nothing is staged."""

    def broken() -> Iterator[str]:
        yield "a"
        msg = "gone"
        raise OSError(msg)

    with duckdb.connect() as connection:
        with pytest.raises(OSError, match="gone"):
            stage(connection, Source.of(broken()), IdRules())
        assert connection.execute("FROM duckdb_tables()").fetchall() == []


def test_tables_are_streamed_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any object with Arrow's C stream interface is a source with its own types, and needs no package."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    table = _Stream("SELECT i AS user_id, i / 2 AS half, ['t'] AS tags FROM range(3) AS t(i)")
    result = staged(
        Source(location=Source.of(table).location, attributes=["half"], tags_column="tags"), tmp_path
    )
    assert result.attributes == {"0": {"half": 0.0}, "1": {"half": 0.5}, "2": {"half": 1.0}}
    assert result.tags["0"] == ["t"]


def test_failing_table_is_refused(tmp_path: Path) -> None:
    """A stream that ends in an error stops the run without showing values."""
    table = _Stream(
        "SELECT CASE WHEN i > 100000 THEN error('secret')::VARCHAR ELSE 'a' END AS id FROM range(200000) t(i)"
    )
    error = refusal(table, tmp_path)
    assert "not all rows could be read" in str(error)
    assert "secret" not in str(error)


def test_exhausted_table_is_refused(tmp_path: Path) -> None:
    """A stream that was read before has no rows."""

    class Spent:
        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            return object()

    assert "not all rows could be read" in str(refusal(Spent(), tmp_path))


def test_table_without_ids_is_refused(tmp_path: Path) -> None:
    """The ID column of a table is chosen as in any other source."""
    assert "'name', 'age'" in str(refusal(_Stream("SELECT 1 AS name, 2 AS age"), tmp_path))


class _Stream:
    """A query's rows behind the stream interface alone."""

    def __init__(self, query: str) -> None:
        self._connection = duckdb.connect()
        self._relation = self._connection.sql(query)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Give the stream."""
        return self._relation.__arrow_c_stream__(requested_schema)
