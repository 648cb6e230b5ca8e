from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from ...staged import refusal, relation, staged

_MANY_LINES = b"".join(b'{"id":"user_%06d"}\n' % number for number in range(50_000))


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_rows_keep_their_types(tmp_path: Path) -> None:
    """Each value has the type of its row, and a missing key has no value."""
    content = b'{"id":"a","n":1,"t":["x"]}\n\n  \n{"n":"1","id":2}\r\n{"id":"c","n":null,"t":"y,z"}'
    path = _write(tmp_path / "x.ndjson", content)
    result = staged(path, tmp_path, attributes=["n"], tags_column="t")
    assert result.attributes == {"a": {"n": 1}, "2": {"n": "1"}, "c": None}
    assert result.tags == {"a": ["x"], "2": None, "c": ["y", "z"]}


def test_empty_file_has_no_rows(tmp_path: Path) -> None:
    """A file without lines is a source without IDs, which the guard decides on."""
    for content in (b"", b"\n\n"):
        assert staged(_write(tmp_path / "x.jsonl", content), tmp_path).counts.read == 0


@pytest.mark.parametrize(
    ("content", "line", "problem"),
    [
        (b"[1]\n", 1, "not a complete JSON object"),
        (b'{"id":"a"}\n"secret"\n', 2, "not a complete JSON object"),
        (b'{"id":"a"}\n[{"id":"secret"}]\n', 2, "not a complete JSON object"),
        (b'{"id":"a"}\n{"id":"secret\n', 2, "not a complete JSON object"),
        (b'{"id":"a"}\n{"id":"secret"}{"id":"b"}\n', 2, "not a complete JSON object"),
        (b'{"id":"a"}\n{"id":"secret\xff"}\n', 2, "not a complete JSON object"),
        (b'{"id":"a"}\n{"id":00123}\n', 2, "not a complete JSON object"),
        (_MANY_LINES + b"secret\n", 50_001, "not a complete JSON object"),
        (_MANY_LINES[:-5], 50_000, "not a complete JSON object"),
        (b'{"id":"a"}\n{"id":"secret","id":"b"}\n', 2, "duplicate key"),
        (b'{"uid":"a","x":1}\n', None, "'uid', 'x'"),
    ],
)
def test_malformed_files_stop_the_run(content: bytes, line: int | None, problem: str, tmp_path: Path) -> None:
    """A line that is not a complete object is an error with file and line, without values."""
    path = _write(tmp_path / "x.jsonl", content)
    error = refusal(path, tmp_path)
    assert problem in str(error)
    assert (error.location, error.line) == (str(path), line)
    assert "secret" not in str(error)


def test_explanations_have_a_default(tmp_path: Path) -> None:
    """An unknown message of DuckDB is an error of the file, without the message."""
    path = _write(tmp_path / "x.jsonl", b'{"id":"a"}\n')
    explain = relation(path).explain
    assert str(explain(duckdb.InternalException("secret"))).endswith("[InternalException]. Nothing was sent.")
    for words in ("Malformed JSON in line 7: secret", "duplicate key in line 7: secret"):
        assert explain(duckdb.InvalidInputException(words)).line == 7
    assert explain(duckdb.InvalidInputException("duplicate key")).line is None


def test_key_that_no_line_has_is_an_error(tmp_path: Path) -> None:
    """Otherwise a misspelt key would make an empty source."""
    path = _write(tmp_path / "x.jsonl", b'{"id":"a"}\n{"id":"b"}\n')
    assert "no line has an ID under the key 'uid'" in str(refusal(path, tmp_path, id_column="uid"))


def test_null_line_is_an_empty_row(tmp_path: Path) -> None:
    """DuckDB reads `null` as an empty object. The row is rejected and counted."""
    result = staged(_write(tmp_path / "x.jsonl", b'{"id":"a"}\nnull\n'), tmp_path)
    assert [reject[1:3] for reject in result.rejects] == [(2, "empty")]
