"""Records of text files and the numbers of their lines, for errors, reject files and the choice of reader."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from .._source_file import QuoteScan, SourceFile
from ._csv_header import Dialect

# DuckDB reads no longer line. Python's own limit is 128 kB.
_LONGEST_CELL: Final = 4 * 1024 * 1024

#: A record of a CSV: the number of its first line, and its cells. None if it cannot be read.
Record = tuple[int, list[str] | None]


def read_quotes(file: SourceFile, dialect: Dialect) -> QuoteScan:
    """Return how a CSV file uses quotes, by reading all its cells."""
    scan = QuoteScan()
    for _, cells in csv_records(file, dialect):
        scan.closed = cells is not None
        scan.multiline = scan.multiline or any("\n" in cell or "\r" in cell for cell in cells or ())
    return scan


def csv_records(file: SourceFile, dialect: Dialect) -> Iterator[Record]:
    """Yield the records of a CSV file. The first one that cannot be read is the last."""
    with (
        file.open() as stream,
        io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as text,
        _long_cells(),
    ):
        reader = csv.reader(text, delimiter=dialect.delimiter, strict=True)
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error:
                yield line, None
                return
            if cells is None:
                return
            yield line, cells


@contextmanager
def _long_cells() -> Iterator[None]:
    """Raise the limit of the reader to cells that DuckDB accepts. A higher limit disturbs no other reader."""
    before = csv.field_size_limit()
    csv.field_size_limit(max(before, _LONGEST_CELL))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def csv_rows(file: SourceFile, dialect: Dialect) -> Iterator[Record]:
    """Yield the records that are rows: no header, and no empty line unless there is only one column."""
    records = csv_records(file, dialect)
    if dialect.header:
        next(records, None)
    for line, cells in records:
        if cells != [] or len(dialect.names) == 1:
            yield line, cells


def find_line(rows: Iterable[Record], is_wrong: Callable[[list[str] | None], bool]) -> int | None:
    """Return the line of the first row that is wrong. None if none is."""
    return next((line for line, cells in rows if is_wrong(cells)), None)


def lines_of(rows: Iterator[Record], numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the numbers of rows, which must ascend, each with the line where the row begins."""
    at, line = 0, 0
    for number in numbers:
        while at < number:
            line, _ = next(rows, (line, None))
            at += 1
        yield number, line


def is_malformed(cells: list[str] | None, dialect: Dialect) -> bool:
    """Return whether a record has a wrong quote, is not UTF-8, or has the wrong number of cells."""
    if cells is None or any("\udc80" <= letter <= "\udcff" for cell in cells for letter in cell):
        return True
    wanted, found = len(dialect.names), len(cells) or 1
    return found != wanted and not (found == wanted + 1 and not cells[-1])


def jsonl_rows(file: SourceFile) -> Iterator[Record]:
    """Yield the lines of a JSON lines file that are not blank, without cells."""
    with file.open() as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield number, []
