from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiobatch.models import IdType
from aiobatch.sync.sources._id_rules import IdRules
from aiobatch.sync.sources._source import Source
from aiobatch.sync.sources._stage import stage

from ....helpers.sweep import examples
from ...staged import refusal, relation, staged

_MANY = b"id,age\n" + b"".join(b"user_%06d,%d\n" % (number, number % 90) for number in range(50_000))


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "ids"),
    [
        (b"id\na\nb\n", {"a", "b"}),
        (b"id\r\na\r\nb", {"a", "b"}),
        (b"id\ra\rb\r", {"a", "b"}),
        (b"\xef\xbb\xbfid,x\na,1\n", {"a"}),
        (b"x;user_id\n1;a,b\n", {"a,b"}),
        (b"x\tcustom_id\n1\ta\n", {"a"}),
        (b"x|ID\n1|a\n", {"a"}),
        (b'"id", x\n"a ""b""",1\n', {'a "b"'}),
        (b"id\n00123\n1e5\nNULL\n\\N\n#x\n", {"00123", "1e5", "NULL", "\\N", "#x"}),
        (b"id,x\na,1\n\nb,2\n\n", {"a", "b"}),
        (b"id,x,\na,1,\n", {"a"}),
        (b"id\n", set()),
        (b"id", set()),
        (b"id,x\n" + b"a" * 1000 + b",1\n", {"a" * 1000}),
    ],
)
def test_files_are_read_as_they_are_written(content: bytes, ids: set[str], tmp_path: Path) -> None:
    """The header defines the delimiter. Only an empty cell is NULL, and text never becomes a number."""
    assert staged(_write(tmp_path / "x.csv", content), tmp_path).ids == ids


def test_empty_line_of_one_column_is_an_empty_id(tmp_path: Path) -> None:
    """In a file with one column, an empty line is a row with an empty ID."""
    result = staged(_write(tmp_path / "x.csv", b"id\na\n\nb\n"), tmp_path)
    assert result.ids == {"a", "b"}
    assert [reject[1:3] for reject in result.rejects] == [(2, "empty")]


def test_extra_empty_cell_is_ignored(tmp_path: Path) -> None:
    """DuckDB accepts a row that ends in one delimiter too many, which loses nothing."""
    assert staged(_write(tmp_path / "x.csv", b"id,age\na,1,\n"), tmp_path).ids == {"a"}


@pytest.mark.parametrize(
    ("content", "line", "problem"),
    [
        (b"", 1, "no header"),
        (b"\nid\na\n", 1, "no header"),
        (b"6d92078a\na\n", 1, "not a header"),
        (b"jane@example.com\n", 1, "not a header"),
        (b"a\nb\n", 1, "no name of an ID column"),
        (b'"id\na\n', 1, "a quote is not closed"),
        ("id\nä\n".encode("utf-16"), 1, "not UTF-8"),
        (b"id\0\na\n", 1, "not a text file"),
        (b"\xffid\na\n", 1, "not UTF-8"),
        (b"id,age\na,1\nsecret\n", 3, "1 value for 2 columns"),
        (b"id,age\na,1\nsecret,2,3\n", 3, "3 values for 2 columns"),
        (_MANY + b"secret\n", 50_002, "1 value for 2 columns"),
        (_MANY + b"secret,2,3\n", 50_002, "3 values for 2 columns"),
        (b'id,age\na,1\n"secret,2\nc,3\n', 3, "quote"),
        (_MANY + b'"secret,2\n', 50_002, "quote"),
        (b'id,age\n"a"secret,1\n', 2, "quote"),
        (b"id,age\nsecret\xff,1\n", 2, "not UTF-8"),
        (_MANY + b"secret\xff,1\n", 50_002, "not UTF-8"),
        (b"id,age\r\na,1\nb,2\r\nc,3\n", None, "line endings"),
        (b"id,age\n" + b"secret" * 500_000 + b",1\n", 2, "too long"),
        (b"id,id\na,b\n", None, "no single column"),
        (b"id,user_id\na,b\n", None, "'id', 'user_id'"),
        (b"name,age\na,b\n", None, "'name', 'age'"),
    ],
)
def test_malformed_files_stop_the_run(content: bytes, line: int | None, problem: str, tmp_path: Path) -> None:
    """A malformed file is an error with file and line, at its beginning or late, without values."""
    path = _write(tmp_path / "x.csv", content)
    error = refusal(path, tmp_path)
    assert problem in str(error)
    assert (error.location, error.line) == (str(path), line)
    assert "secret" not in str(error)


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    """The ID column can be named. An attribute or tags column that does not exist is an error."""
    path = _write(tmp_path / "x.csv", b"uid,age,labels\na,5,x\n")
    result = staged(path, tmp_path, id_column="uid", attributes={"age": "years"}, tags_column="labels")
    assert (result.attributes, result.tags) == ({"a": {"years": "5"}}, {"a": ["x"]})
    assert "no single column 'nope'" in str(refusal(path, tmp_path, id_column="nope"))
    assert "no column 'nope'" in str(refusal(path, tmp_path, id_column="uid", attributes=["nope"]))
    assert "no column 'nope'" in str(refusal(path, tmp_path, id_column="uid", tags_column="nope"))


def test_wanted_column_must_be_unique(tmp_path: Path) -> None:
    """A column that the header contains twice cannot be wanted. Other columns may be duplicates."""
    path = _write(tmp_path / "x.csv", b"id,x,x,y,y\na,1,2,3,4\n")
    assert staged(path, tmp_path).ids == {"a"}
    assert "'x' 2 times" in str(refusal(path, tmp_path, attributes=["x"]))


def test_many_columns_are_listed_short(tmp_path: Path) -> None:
    """The error of a wide table lists the first columns only."""
    path = _write(
        tmp_path / "x.csv", ",".join(["name", *("x" * length for length in range(1, 30))]).encode() + b"\n"
    )
    assert "and 10 more" in str(refusal(path, tmp_path))


def test_id_columns_are_also_named_after_their_type(tmp_path: Path) -> None:
    """`advertising_id` is the ID column for advertising IDs only."""
    path = _write(tmp_path / "x.csv", b"advertising_id,x\n6d92078a-8246-4ba4-ae5b-76104861e7dc,1\n")
    assert len(staged(path, tmp_path, rules=IdRules(id_type=IdType.ADVERTISING_IDS)).ids) == 1
    refusal(path, tmp_path)


def test_explanations_have_a_default(tmp_path: Path) -> None:
    """An unknown message of DuckDB is an error of the file, without the message."""
    error = relation(_write(tmp_path / "x.csv", b"id\na\n")).explain(duckdb.InternalException("secret"))
    assert str(error).endswith("[InternalException]. Nothing was sent.")


_CELLS = st.text(
    st.one_of(st.sampled_from(" ,;\t|\"'\r\n\0\\#"), st.characters(exclude_categories=["Cs"])), max_size=8
)


@settings(max_examples=examples(15, 150))
@given(
    rows=st.lists(st.tuples(_CELLS, _CELLS), max_size=30),
    style=st.sampled_from([(csv.QUOTE_MINIMAL, "\r\n"), (csv.QUOTE_ALL, "\n"), (csv.QUOTE_ALL, "\r\n")]),
)
@example(rows=[("a", ""), ("", "")], style=(csv.QUOTE_ALL, "\n"))
def test_any_table_is_the_same_as_csv_and_as_a_list(
    connection: duckdb.DuckDBPyConnection,
    tmp_path_factory: pytest.TempPathFactory,
    rows: Sequence[tuple[str, str]],
    style: tuple[Any, str],
) -> None:
    """The same rows are staged from a CSV file and from a list."""
    path = tmp_path_factory.getbasetemp() / "any.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=style[0], lineterminator=style[1])
        writer.writerows([("id", "x"), *rows])
    from_file = stage(connection, Source.parse(path), IdRules())
    from_list = stage(connection, Source.of([row[0] for row in rows]), IdRules())
    assert from_file == from_list
