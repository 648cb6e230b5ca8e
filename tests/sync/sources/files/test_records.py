"""Line breaks in cells: every row is read, and lines are those of the file."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiobatch.sync.sources._source_file import QuoteScan, SourceFile
from aiobatch.sync.sources.files._csv_header import Dialect
from aiobatch.sync.sources.files._records import csv_rows, read_quotes

from ....helpers.sweep import examples
from ...staged import refusal, staged

_MB = 1024 * 1024


def _multiline(path: Path, size: int, *, end: bytes = b"") -> int:
    """Write a CSV whose cells contain line breaks and rows of the right width. Return the number of rows."""
    cell = b'%d High Street\n75001 Paris, FR\nu9,door 4 ""b"", "\n'
    rows = 0
    opened: Callable[..., object] = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wb") as file:  # type: ignore[attr-defined]  # either kind
        written = file.write(b"user_id,address\n")
        while written < size:
            block = b"".join(b'u%d,"%s"\n' % (n, cell[:-2] % n + b"\n") for n in range(rows, rows + 10_000))
            written += file.write(block)
            rows += 10_000
        file.write(end)
    return rows


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz"])
@pytest.mark.parametrize(
    "size", [10 * _MB, pytest.param(examples(32, 32, full=512) * _MB, marks=pytest.mark.sweep)]
)
def test_large_files_with_line_breaks_are_read(size: int, name: str, tmp_path: Path) -> None:
    """Every ID of a large file with line breaks in its cells is read, and no line of a cell is an ID."""
    path = tmp_path / name
    rows = _multiline(path, size)
    result = staged(path, tmp_path)
    assert (result.counts.read, result.counts.kept) == (rows, rows)
    assert f"u{rows - 1}" in result.ids


@pytest.mark.parametrize(
    ("end", "problem"),
    [(b"secret\n", "1 value "), (b'z,"secret\n', "a quote"), (b'"a"b,1\n', "quote"), (b"s\xff,1\n", "UTF-8")],
)
def test_faults_have_the_line_of_the_file(end: bytes, problem: str, tmp_path: Path) -> None:
    """An error behind cells with line breaks names the line that an editor shows, and no row is left out."""
    path = tmp_path / "x.csv"
    rows = _multiline(path, 1, end=end)
    error = refusal(path, tmp_path)
    assert problem in str(error)
    assert error.line == 1 + 4 * rows + 1


def test_reject_file_has_the_lines_of_the_file(tmp_path: Path) -> None:
    """Rejected rows have their line in the file, behind line breaks, empty lines and a long header."""
    path = tmp_path / "x.csv"
    path.write_text('"na\nme",id\n"a\nb",u1\n\n"c\n\nd",\nx,u2\ny,\n')
    assert [reject[1] for reject in staged(path, tmp_path).rejects] == [2, 4]
    assert _lines(tmp_path) == ["6", "10"]
    path = tmp_path / "x.jsonl"
    path.write_text('{"id": "a"}\n\n\n{"id": null}\n{"id": "b"}\n\n{"id": ""}\n')
    staged(path, tmp_path)
    assert _lines(tmp_path) == ["4", "7"]


def test_many_rejected_rows_have_lines(tmp_path: Path) -> None:
    """More rows than are handled at once have their own lines."""
    path = tmp_path / "x.csv"
    path.write_text("id\n" + "\n" * 10_001 + "a\n\n")
    staged(path, tmp_path)
    assert _lines(tmp_path) == [f"{line}" for line in (*range(2, 10_003), 10_004)]


def _lines(tmp_path: Path) -> list[str]:
    return [row.split(",")[2] for row in (tmp_path / "rejects.csv").read_text().splitlines()[1:]]


def test_quotes_in_values_are_kept(tmp_path: Path) -> None:
    """A quote within a value that is not quoted is text, and hides no end of the file."""
    path = tmp_path / "x.csv"
    path.write_text('id,size\nu1,5" pipe\nu2,6"\nu3,7\n')
    assert staged(path, tmp_path).ids == {"u1", "u2", "u3"}
    path.write_text('id,size\nu1,5" pipe\nu2,"6\n')
    assert "a quote is not closed" in str(refusal(path, tmp_path))
    assert refusal(path, tmp_path).line == 3


def test_long_cells_have_lines(tmp_path: Path) -> None:
    """A cell that is longer than Python's own limit does not hide the line of a fault."""
    path = tmp_path / "x.csv"
    path.write_text(f"id,text\nu1,{'x' * 300_000}\nsecret\n")
    assert refusal(path, tmp_path).line == 3


@settings(max_examples=examples(100, 1000))
@given(
    text=st.text(st.sampled_from('a",\n\r'), max_size=30),
    cuts=st.lists(st.integers(1, 7), max_size=5),
)
def test_scan_of_blocks_agrees_with_the_reader(
    text: str, cuts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """However a file is cut into blocks, the scan finds what a reader of all cells finds, if it is exact."""
    data, scan, at = text.encode(), QuoteScan(), 0
    for cut in (*cuts, len(data) or 1):
        if block := data[at : at + cut]:
            scan.feed(block)
        at += cut
    path = tmp_path_factory.getbasetemp() / "quotes.csv"
    path.write_bytes(data)
    file = SourceFile(path=str(path), shown="x", compressed=False)
    dialect = Dialect(["x"], ",", header=False)
    if scan.exact and all(cells is not None for _, cells in csv_rows(file, dialect)):
        found = read_quotes(file, dialect)
        assert (found.closed, found.multiline) == (scan.closed, scan.multiline)
