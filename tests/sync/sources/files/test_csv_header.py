"""The ID column of a CSV file needs evidence: a delimiter that fits every row, and a known or given name."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from aiobatch.errors import InvalidInputError
from aiobatch.sync.sources._source import Source

from ...staged import refusal, staged


def _file(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "x.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("content", "ids"),
    [
        # A header of several lines
        ('user_id,email,"Total\nspend",city\nu1,a@x.y,3,Paris\nu2,b@x.y,4,Lyon\n', {"u1", "u2"}),
        ('"Total\r\nspend";user_id\r\n3;u1\r\n', {"u1"}),
        ('"a ""quoted""\n\nname",user_id\n3,u1\n', {"u1"}),
        # Other delimiters in the names or values
        ('id;"a,b";c\nu1;"x,y";z\n', {"u1"}),
        ("id,a;b\nu1,x;y\n", {"u1"}),
        ("id\tname, first\nu1\tx, y\n", {"u1"}),
        ("email;user_id\na,b;u1\nc;u2\n", {"u1", "u2"}),
        ("name, first;user_id\nx, y;u1\n", {"u1"}),
        ("a|b;id\n1|2;u1\n", {"u1"}),
        # One column
        ("id\nauth0|1\nauth0|2\n", {"auth0|1", "auth0|2"}),
        ('id\n"a,b"\n', {"a,b"}),
        ("USER_ID\nu1\n", {"u1"}),
        ("id\nu1;x\nu2\n", {"u1;x", "u2"}),
    ],
)
def test_delimiter_fits_every_row(content: str, ids: set[str], tmp_path: Path) -> None:
    """The header is a record, and the delimiter gives all rows its width."""
    assert staged(_file(tmp_path, content), tmp_path).ids == ids
    assert staged(_file(tmp_path, content.encode("utf-8-sig")), tmp_path).ids == ids
    assert staged(_file(tmp_path, gzip.compress(content.encode())), tmp_path).ids == ids


@pytest.mark.parametrize(
    ("content", "line", "problem"),
    [
        ("user_id^email\nu1^a@x.io\n", 1, "no name of an ID column"),
        ("user_id~email\nu1~a\n", 1, "no name of an ID column"),
        ("user_id\x01email\nu1\x01a\n", 1, "no name of an ID column"),
        ("id   name      city\nu1   Ann       Rome\n", 1, "a fixed width"),
        ('"user_id,email\nu1,a\n', 1, "a quote is not closed"),
        ('user_id,"a"b\nu1,a\n', 1, "no name of an ID column"),
        ('"user_id","a\nu1,a\n', 1, "a quote is not closed"),
        ("id\nu1;Ann\nu2;Bob\n", 1, "the rows have 2, separated by semicolons"),
        ("id\nu1\tAnn\tx\nu2\tBob\ty\n", 1, "the rows have 3, separated by tabs"),
        ("id\nu1 Ann\nu2 Bob\n", 1, "the rows have 2, separated by spaces"),
        ("id\nu1^Ann\nu2^Bob\n", 1, "the rows have 2, separated by carets"),
        ("id\nu1,Ann\nu2,Bob\n", 2, "2 values for 1 column"),
        ("email\nx@y.z\n", 1, "no name of an ID column"),
        ("hello world\nu1\n", 1, "no name of an ID column"),
        ("a,b;c\n1,2;3\n", 1, "separated in several ways: comma or semicolon"),
        ("id,a;user_id\n1,2;3\n", 1, "separated in several ways"),
        ("alice,Paris\nbob,Lyon\n", None, "among 2 columns"),
    ],
)
def test_guesses_are_refused(content: str, line: int | None, problem: str, tmp_path: Path) -> None:
    """Without evidence there is an error, which shows nothing of the first row."""
    error = refusal(_file(tmp_path, content), tmp_path)
    assert problem in str(error)
    if line is not None:
        assert error.line == line
    for cell in ("alice", "Paris", "email", "hello", "Ann"):
        assert cell not in str(error).replace(str(tmp_path), "")


def test_delimiter_can_be_set(tmp_path: Path) -> None:
    """A delimiter of the user decides, and a tab can be written in words."""
    for delimiter in ("^", "~", "\x01", " ", "é"):
        path = _file(tmp_path, f"user_id{delimiter}email\nu1{delimiter}a@x.io\n")
        assert staged(path, tmp_path, delimiter=delimiter).ids == {"u1"}
    path = _file(tmp_path, "id\tx\nu1\t2\n")
    for word in ("\t", r"\t", "tab"):
        assert staged(path, tmp_path, delimiter=word).ids == {"u1"}
    assert staged(_file(tmp_path, "id\nu1;Ann\n"), tmp_path, delimiter=",").ids == {"u1;Ann"}
    assert staged(_file(tmp_path, "id\nJo Li\nu2\n"), tmp_path).ids == {"Jo Li", "u2"}
    assert "no name of an ID column" in str(refusal(_file(tmp_path, "id;x\na;1\n"), tmp_path, delimiter=","))
    for wrong in ("", ",,", '"', "\n", 5):
        with pytest.raises(InvalidInputError, match="delimiter must be one character"):
            Source.parse("x.csv", delimiter=wrong)


def test_lone_column_is_accepted_by_name_or_number(tmp_path: Path) -> None:
    """The user can vouch for the only column. A number does not turn a first ID into a header."""
    path = _file(tmp_path, "email\nx\ny\n")
    assert staged(path, tmp_path, id_column="email").ids == {"x", "y"}
    assert staged(path, tmp_path, id_column="1").ids == {"x", "y"}
    assert "no column 'mail'" in str(refusal(path, tmp_path, id_column="mail"))
    assert "no column '2'" in str(refusal(path, tmp_path, id_column="2"))
    path = _file(tmp_path, "jane@example.com\njoe@example.com\n")
    error = refusal(path, tmp_path, id_column="1")
    assert "looks like an ID" in str(error)
    assert "jane" not in str(error)
    assert staged(path, tmp_path, id_column="jane@example.com").ids == {"joe@example.com"}


def test_numbers_count_columns(tmp_path: Path) -> None:
    """A number is a column of any table, unless a column has that name."""
    path = _file(tmp_path, "mail,uid,2b\nx,u1,z\n")
    assert staged(path, tmp_path, id_column="2").ids == {"u1"}
    assert "looks like an ID" in str(refusal(path, tmp_path, id_column="3"))
    assert "no single column '4'" in str(refusal(path, tmp_path, id_column="4"))
    assert "no single column '0'" in str(refusal(path, tmp_path, id_column="0"))
    assert staged(_file(tmp_path, "2,id\na,b\n"), tmp_path, id_column="2").ids == {"a"}


def test_files_without_a_header(tmp_path: Path) -> None:
    """Without a header every row counts, and columns are named by their numbers."""
    path = _file(tmp_path, "alice,7\nbob,8\n")
    result = staged(path, tmp_path, header=False, id_column="1", attributes={"2": "age"})
    assert result.attributes == {"alice": {"age": "7"}, "bob": {"age": "8"}}
    assert staged(_file(tmp_path, "a\nb\n\n"), tmp_path, header=False, id_column="1").ids == {"a", "b"}
    assert staged(_file(tmp_path, b""), tmp_path, header=False, id_column="1").ids == set()
    path = _file(tmp_path, "alice,7\nbob,8\n")
    for column in (None, "id", "3", "0"):
        error = refusal(path, tmp_path, header=False, **({} if column is None else {"id_column": column}))
        assert "id_column is the number of a column, from 1 to 2" in str(error)
    assert "3 values for 2 columns" in str(
        refusal(_file(tmp_path, "a,b\nc,d,e\n"), tmp_path, header=False, id_column="1")
    )


def test_first_row_is_in_no_error(tmp_path: Path) -> None:
    """A file without a header: no error, of whatever column, shows its first person."""
    first = ["alice@example.com,Alice,Paris", "alice,Smith,Paris", "33612345678;Alice;Paris", "alice"]
    columns: list[dict[str, Any]] = [
        {},
        {"id_column": "email"},
        {"id_column": "9"},
        {"attributes": ["age"]},
        {"tags_column": "t"},
    ]
    for line in first:
        path = _file(tmp_path, f"{line}\n{line.replace('a', 'b')}\n")
        for wanted in columns:
            text = str(refusal(path, tmp_path, **wanted)).lower().replace(str(path).lower(), "")
            assert not [cell for cell in ("alice", "paris", "smith", "3361") if cell in text]
    for line in ('{"alice": 1, "bob": 2}', '{"alice@example.com": 1}', '{"33612345678": 1, "x": 2}'):
        path = tmp_path / "x.jsonl"
        path.write_text(f"{line}\n")
        for wanted in columns[:2]:
            assert not [cell for cell in ("alice", "3361") if cell in str(refusal(path, tmp_path, **wanted))]


def test_headers_are_shown_if_they_are_headers(tmp_path: Path) -> None:
    """Names that are names of columns help to choose one."""
    path = _file(tmp_path, "name,mail\na,b\n")
    assert "'name', 'mail'" in str(refusal(path, tmp_path))
    path = _file(tmp_path, "id,mail\na,b\n")
    assert "'id', 'mail'" in str(refusal(path, tmp_path, attributes=["nope"]))
