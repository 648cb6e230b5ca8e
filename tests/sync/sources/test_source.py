from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from aiobatch._secret import Secret
from aiobatch.errors import InvalidInputError
from aiobatch.models import Member
from aiobatch.sync.sources._location import (
    ArrowSource,
    Database,
    Files,
    Format,
    IterableSource,
    StandardInput,
)
from aiobatch.sync.sources._source import Source

from ..staged import refusal, staged


@pytest.mark.parametrize(
    ("text", "options", "place"),
    [
        ("users.csv", {}, Files(path="users.csv")),
        (Path("a") / "b", {"format": "jsonl"}, Files(path=str(Path("a", "b")), format=Format.JSONL)),
        ("-", {}, StandardInput(format=Format.CSV)),
        ("-", {"format": "parquet"}, StandardInput(format=Format.PARQUET)),
        (
            "postgres://u@h/db",
            {"query": " SELECT 1; "},
            Database(dialect="postgresql", dsn=Secret("postgres://u@h/db"), query="SELECT 1"),
        ),
        (
            "SQLite:///x.db",
            {"query": "SELECT 1"},
            Database(dialect="sqlite", dsn=Secret("SQLite:///x.db"), query="SELECT 1"),
        ),
        (
            "duckdb://",
            {"query": "FROM x"},
            Database(dialect="duckdb", dsn=Secret("duckdb://"), query="FROM x"),
        ),
    ],
)
def test_paths_and_addresses_are_parsed(text: Any, options: dict[str, Any], place: Any) -> None:
    """Files, standard input and databases are distinguished by their spelling."""
    assert Source.parse(text, **options).location == place


@pytest.mark.parametrize(
    ("text", "options", "problem"),
    [
        ("", {}, "path is empty"),
        ("users.csv", {"query": "SELECT 1"}, "query needs a database"),
        ("hdfs://bucket/users.csv", {}, "hdfs:// is not supported"),
        (" postgresql://u:secret@h/db", {"query": "SELECT 1"}, "starts with s3://"),
        ("postgresql://u@h/db", {}, "needs a query"),
        ("postgresql://u@h/db", {"query": " ; "}, "needs a query"),
        ("postgresql://u@h/db", {"query": "SELECT 1", "format": "csv"}, "Only files have a format"),
        ("sqlite://", {"query": "SELECT 1"}, "needs a file"),
        ("users.csv", {"format": "xlsx"}, "csv, parquet, jsonl"),
        ("users.csv", {"attributes": "age"}, "list of column names"),
        ("users.csv", {"attributes": [" "]}, "list of column names"),
        ("users.csv", {"attributes": ["a\0b"]}, "list of column names"),
        ("users.csv", {"attributes": {"age": 3}}, "list of column names"),
        ("users.csv", {"attributes": {"a": "x", "b": "x"}}, "same attribute"),
        ("postgresql://u:${AIOBATCH_UNSET}@h/db", {"query": "SELECT 1"}, "AIOBATCH_UNSET"),
    ],
)
def test_invalid_sources_are_refused(text: str, options: dict[str, Any], problem: str) -> None:
    """Parts that do not fit together are an error before anything is read."""
    with pytest.raises(InvalidInputError, match=problem):
        Source.parse(text, **options)


def test_attributes_are_columns_or_a_mapping() -> None:
    """In a list, columns are the names of attributes. A mapping renames them."""
    assert Source.parse("x.csv", attributes=["age"]).attributes == {"age": "age"}
    assert Source.parse("x.csv", attributes={"a": "age"}).attributes == {"a": "age"}
    assert Source.parse("x.csv").attributes == {}


def _table(query: str) -> duckdb.DuckDBPyRelation:
    """Return a table in Arrow's layout."""
    relation = duckdb.connect().sql(query)
    assert relation is not None
    return relation


def test_objects_become_sources() -> None:
    """Paths, sources, iterables of IDs and Members, and tables are accepted."""
    source = Source.parse("x.csv", id_column="uid")
    table = _table("SELECT 1 AS id")
    assert Source.of(source) is source
    assert Source.of(Path("x.csv")).location == Source.of("x.csv").location == Files(path="x.csv")
    assert isinstance(Source.of(["a", Member("b")]).location, IterableSource)
    assert isinstance(Source.of(table).location, ArrowSource)


@pytest.mark.parametrize("nothing", [3, b"abc", {"a": 1}, None])
def test_other_objects_are_refused(nothing: Any) -> None:
    """Bytes, mappings and numbers are not sources."""
    with pytest.raises(InvalidInputError, match="cannot read members"):
        Source.of(nothing)


def test_labels_and_reprs_contain_no_secret() -> None:
    """Neither the label nor the repr of a source shows a password, a query or an ID."""
    database = Source.parse("postgresql://u:hunter22@h/db?sslpassword=hunter33", query="SELECT 'id-of-jane'")
    sources = [database, Source.of(["id-of-jane"]), Source.of(_table("SELECT 'id-of-jane' AS id"))]
    shown = "".join(f"{source!r}{source.label}" for source in sources)
    assert "hunter" not in shown
    assert "id-of-jane" not in shown
    assert database.label == "postgresql://u@h/db"
    assert [source.label for source in sources[1:]] == ["<ids>", "<table>"]
    assert Source.parse("-").label == "-"
    assert Source.parse("a/*.csv").label == "a/*.csv"


def test_slashes_distinguish_relative_and_absolute_paths() -> None:
    """As in SQLAlchemy, three slashes start a relative path, four an absolute one."""
    paths = {
        text: Database(dialect="sqlite", dsn=Secret(text), query="SELECT 1").path
        for text in ("sqlite:///a/b.db", "sqlite:////a/b.db?mode=ro", "duckdb://")
    }
    assert list(paths.values()) == ["a/b.db", "/a/b.db", ""]


def test_a_source_needs_a_path_or_a_location() -> None:
    """A source of nothing is refused."""
    with pytest.raises(InvalidInputError, match="pass a path"):
        Source()


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1 AS id;",
        "SELECT 1 AS id; -- note",
        "SELECT 1 AS id ; /* note */ ;\n-- more\n",
        "SELECT 1 AS id -- note",
    ],
)
def test_end_of_a_query_may_have_a_comment(query: str, tmp_path: Path) -> None:
    """A semicolon, and comments after it, end a query without an error."""
    assert staged("duckdb://", tmp_path, query=query).ids == {"1"}


def test_text_of_a_query_is_no_comment(tmp_path: Path) -> None:
    """A semicolon and dashes within a text of the query stay there."""
    assert staged("duckdb://", tmp_path, query="SELECT 'a; -- b' AS id").ids == {"a; -- b"}


def test_query_without_columns_is_refused(postgresql: str, tmp_path: Path) -> None:
    """PostgreSQL accepts a SELECT of no columns."""
    query = "SELECT FROM generate_series(1, 3)"
    assert "the query has no columns" in str(refusal(postgresql, tmp_path, query=query))
