"""The header of a CSV file: its names and its delimiter, chosen so that every row has the same width."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Sequence
from typing import Final

import attrs

from ..._errors import SourceError
from .._relation import ReadContext, id_candidates
from .._source_file import SourceFile

DELIMITERS: Final = (",", ";", "\t", "|")
#: Values of a cell that no one-column file separates with, but that rows may be separated with.
_HIDDEN: Final = {";": "semicolon", "\t": "tab", " ": "space", "^": "caret"}
_LONGEST: Final = 1024 * 1024
_SAMPLE: Final = 1000
NOT_UTF8: Final = "it is not UTF-8. Convert it, for example with 'iconv -f LATIN1 -t UTF-8'"
_IS_BINARY: Final = "it is not a text file. Export the rows as CSV, or set the format"
_AMBIGUOUS: Final = "its columns can be separated in several ways: {}. Set the delimiter"
_SHOWN: Final = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}


@attrs.frozen
class Dialect:
    """The way a CSV file is written.

    Attributes:
        names: The names of its columns: 1, 2 and so on without a header.
        delimiter: The character between two cells.
        header: Whether the first record is a header.
        written: The cells of the first record as they are written.
    """

    names: Sequence[str]
    delimiter: str
    header: bool
    written: Sequence[str] = ()

    @property
    def shown(self) -> str:
        """The delimiter as a word or a character."""
        return _SHOWN.get(self.delimiter, repr(self.delimiter))


@attrs.frozen
class _Table:
    """The beginning of a file as one delimiter separates it.

    Attributes:
        delimiter: The delimiter.
        first: The cells of the first record, which may be the header.
        rows: The widths of the records after it, without an empty cell at the end that is one too many.
    """

    delimiter: str
    first: list[str]
    rows: frozenset[int]

    @property
    def width(self) -> int:
        """The number of columns."""
        return len(self.first)

    @property
    def fits(self) -> bool:
        """Whether all records have the same width."""
        return self.rows <= {self.width}


def read_header(context: ReadContext, file: SourceFile) -> Dialect:
    """Return how a CSV file is written, from its first records.

    Raises:
        SourceError: If there is no header, or no delimiter gives every row the same width.
    """
    source = context.source
    text, complete = _beginning(file)
    if not text.strip("\r\n \t"):
        return _empty(source.header, file)
    if not text.splitlines()[0].strip():
        msg = "there is no header: the first line is empty. Write the names of the columns in it"
        raise SourceError(msg, location=file.shown, line=1)
    given = source.delimiter
    read = [_table(text, delimiter, complete=complete) for delimiter in ([given] if given else DELIMITERS)]
    tables = [table for table in read if table is not None]
    if not tables:
        msg = "the header cannot be read: a quote is not closed, or text follows a closing quote"
        raise SourceError(msg, location=file.shown, line=1)
    chosen = tables[0] if given else _choose(context, tables, file)
    if chosen.width == 1 and not given:
        _check_lone(text, file, complete=complete)
    names = chosen.first if source.header else [f"{number}" for number in range(1, chosen.width + 1)]
    return Dialect([name.strip() for name in names], chosen.delimiter, source.header, chosen.first)


def _empty(header: bool, file: SourceFile) -> Dialect:  # noqa: FBT001  # an option of the source
    if header:
        msg = "there is no header: the first line is empty. Write the names of the columns in it"
        raise SourceError(msg, location=file.shown, line=1)
    return Dialect(["1"], ",", header)


def _choose(context: ReadContext, tables: Sequence[_Table], file: SourceFile) -> _Table:
    """Return the one way of separating the cells that explains all records."""
    wide = [table for table in tables if table.width > 1]
    fitting = [table for table in wide if table.fits]
    named = [table for table in fitting or wide if _has_id(context, table)]
    if len(named) == 1:
        return named[0]  # if it does not fit, DuckDB finds the row that differs
    if len(fitting) > 1:
        words = " or ".join(_SHOWN[table.delimiter] for table in fitting)
        raise SourceError(_AMBIGUOUS.format(words), location=file.shown, line=1)
    if wide:
        return max(fitting or wide, key=lambda table: table.width)
    return tables[0]


def _has_id(context: ReadContext, table: _Table) -> bool:
    names = [name.strip() for name in table.first] if context.source.header else []
    return bool(id_candidates(context, names))


def _check_lone(text: str, file: SourceFile, *, complete: bool) -> None:
    """Raise SourceError if the header has one column, but all rows have more."""
    for delimiter, name in _HIDDEN.items():
        table = _table(text, delimiter, complete=complete)
        if table is not None and table.width == 1 and table.rows and min(table.rows) > 1:
            msg = (
                f"the header has 1 column, but the rows have {max(table.rows)}, separated by "
                f"{name}s. Name each column in the header, or set the delimiter"
            )
            raise SourceError(msg, location=file.shown, line=1)


def _beginning(file: SourceFile) -> tuple[str, bool]:
    """Return the first part of a file as text, and whether it is the whole file."""
    with file.open() as stream:
        data = stream.read(_LONGEST)
        complete = not stream.read(1)
    first = data[: data.find(b"\n") + 1 or None]
    if b"\0" in first:
        raise SourceError(_IS_BINARY, location=file.shown, line=1)
    try:
        first.decode()
    except UnicodeDecodeError as error:
        if complete or error.end < len(first):
            raise SourceError(NOT_UTF8, location=file.shown, line=1) from None
    return data.decode("utf-8-sig", errors="replace"), complete


def _table(text: str, delimiter: str, *, complete: bool) -> _Table | None:
    """Return the records of a text as one delimiter separates them. None if the first has a wrong quote."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        first = next(reader)
    except csv.Error:
        return None
    return _Table(delimiter, first, frozenset(_widths(reader, len(first), complete=complete)))


def _widths(reader: Iterable[list[str]], width: int, *, complete: bool) -> Iterable[int]:
    """Yield the widths of the first records. The last one may be cut."""
    before: list[str] = []
    rows = iter(reader)
    try:
        for row in itertools.islice(rows, _SAMPLE):
            if before:
                yield _width(before, width)
            before = row
        if before and (complete or next(rows, None) is not None):
            yield _width(before, width)
    except csv.Error:
        return  # DuckDB reports the row


def _width(row: list[str], width: int) -> int:
    """Return the width of a record. DuckDB ignores an empty cell at the end that is one too many."""
    return width if len(row) == width + 1 and not row[-1] else len(row)


def decode_line(line: bytes, file: SourceFile, number: int) -> str:
    """Return a line of a file of one ID per line as text.

    Raises:
        SourceError: If it is not UTF-8.
    """
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise SourceError(NOT_UTF8, location=file.shown, line=number) from None
