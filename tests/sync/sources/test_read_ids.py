"""`read_ids` streams the IDs of any source in constant memory."""

from __future__ import annotations

import gzip
import io
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import pytest

from aiobatch.errors import InvalidInputError
from aiobatch.models import IdType
from aiobatch.sync._errors import SourceError
from aiobatch.sync.sources._id_rules import IdRules
from aiobatch.sync.sources._read_ids import read_ids
from aiobatch.sync.sources._source import Source

from ..staged import parquet

IDS = [f"user-{n}" for n in range(25)]


def ids_of(source: Path | str, *, bare: bool = False, column: str | None = None) -> list[str]:
    """Return all IDs of a source."""
    parsed = Source.parse(source, id_column=column)
    return [id_ for block in read_ids(parsed, IdRules(), bare=bare) for id_ in block]


def error_of(text: bytes, path: Path, *, bare: bool = False) -> str:
    """Return the message with which a file is refused."""
    path.write_bytes(text)
    with pytest.raises((InvalidInputError, SourceError)) as caught:
        ids_of(path, bare=bare)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ids.csv", "user_id,age\n" + "".join(f" {id_} ,7\n" for id_ in IDS)),
        ("ids.csv.gz", "user_id\n" + "\n".join(IDS)),
        ("ids.jsonl", "".join(f'{{"user_id": "{id_}"}}\n' for id_ in IDS)),
    ],
)
def test_ids_of_text_files_are_read_in_order(name: str, text: str, tmp_path: Path) -> None:
    """CSV, gzip and JSON lines give their IDs in order, with the whitespace around them removed."""
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    assert ids_of(path, column="user_id") == IDS


def test_ids_of_parquet_are_read_in_order(tmp_path: Path) -> None:
    """A Parquet file gives its IDs in order."""
    path = parquet(tmp_path / "ids.parquet", "SELECT 'user-' || i AS id FROM range(25) t(i)")
    assert ids_of(path) == IDS


@pytest.mark.parametrize("name", ["ids.txt", "ids", "ids.gz"])
def test_bare_files_have_one_id_per_line(name: str, tmp_path: Path) -> None:
    """A bare file has no header, and may have blank lines, mixed line endings, quotes and a BOM."""
    text = '\ufeffuser-1\r\n\n  user-2 \n"user-3\nuser;4,x'.encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    assert ids_of(path, bare=True) == ["user-1", "user-2", '"user-3', "user;4,x"]


@pytest.mark.parametrize("bare", [True, False])
def test_standard_input_is_a_source(bare: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """IDs can be piped in, bare or as a CSV."""
    stream = io.BytesIO(b"user-1\nuser-2\n" if bare else b"id,x\nuser-1,1\nuser-2,2\n")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=stream, isatty=lambda: False))
    assert ids_of("-", bare=bare) == ["user-1", "user-2"]


def test_blocks_hold_at_most_ten_thousand_ids() -> None:
    """A block never has more IDs than one request takes."""
    blocks = read_ids(Source.of(f"user-{n}" for n in range(25_000)), IdRules())
    assert [len(block) for block in blocks] == [10_000, 10_000, 5_000]


def test_blocks_of_blank_lines_are_left_out(tmp_path: Path) -> None:
    """A block is never empty, however many blank lines a file has."""
    path = tmp_path / "ids.txt"
    path.write_text("a\n" + "\n" * 30_000 + "b\n")
    assert list(read_ids(Source.parse(path), IdRules(), bare=True)) == [["a"], ["b"]]


@pytest.mark.parametrize(
    ("name", "bare", "text", "message"),
    [
        ("x.csv", False, b"id,x\na,1\n,2\n", "x.csv, row 2: the ID is empty"),
        ("x.csv", False, b"id\na\nb\x01c\n", "x.csv, row 2: the ID contains a control character"),
        ("x.txt", True, b"a\n\n" + b"b" * 1025, "x.txt, line 3: the ID is too long"),
        ("x.txt", True, b"a\nb\0c\n", "x.txt, line 2: the ID contains a control character"),
        ("x.txt", True, b"a\n\xff\n", "x.txt, line 2: it is not UTF-8"),
        ("x.txt", True, "a\n".encode("utf-16"), "x.txt, line 1: it is not UTF-8 but UTF-16"),
        ("x.txt", True, b"a,b\n", "x.txt, line 1: it looks like a CSV"),
        ("x.csv", True, b"a\n", "x.csv, line 1: it looks like a CSV"),
        ("x.csv", False, b'id\na\n"b\n', "x.csv, line "),
        ("x.jsonl", False, b'{"id": "a"}\n{"id": [1]}\n', "x.jsonl, row 2: the ID is not text"),
    ],
)
def test_errors_name_the_row_and_never_the_id(
    name: str, bare: bool, text: bytes, message: str, tmp_path: Path
) -> None:
    """Each error names the file and the row or line, and shows no ID."""
    said = error_of(text, tmp_path / name, bare=bare)
    assert message in said
    assert "bbb" not in said


def test_rows_count_from_the_start_of_each_file(tmp_path: Path) -> None:
    """An error beyond the first block names the row in its own file."""
    (tmp_path / "1.csv").write_text("id\n" + "a\n" * 5)
    (tmp_path / "2.csv").write_text("id,x\n" + "a,1\n" * 12_344 + ",1\n")
    with pytest.raises(InvalidInputError, match=r"2\.csv, row 12345: the ID is empty"):
        ids_of(tmp_path / "*.csv")


def test_advertising_ids_follow_their_rules() -> None:
    """Advertising IDs are lowercased, and must be UUIDs of users who have not opted out."""
    rules = IdRules(id_type=IdType.ADVERTISING_IDS)
    good = "AAAAAAAA-0000-4000-8000-000000000001"
    assert list(read_ids(Source.of([good]), rules)) == [[good.lower()]]
    for bad in ("u1", "00000000-0000-0000-0000-000000000000"):
        with pytest.raises(InvalidInputError, match="<ids>, row 2: "):
            list(read_ids(Source.of([good, bad]), rules))


def test_reading_takes_constant_memory(tmp_path: Path) -> None:
    """Python holds a few blocks at a time, whatever the number of IDs."""
    path = tmp_path / "ids.txt"
    path.write_text("".join(f"user-{n:032}\n" for n in range(60_000)))
    tracemalloc.start()
    try:
        assert sum(map(len, read_ids(Source.parse(path), IdRules(), bare=True))) == 60_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6_000_000
