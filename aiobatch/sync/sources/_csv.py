"""CSV files as relations, with one explicit dialect for all, and files of one ID per line."""

from __future__ import annotations

import codecs
import csv
import itertools
import re

import orjson

from ...models import MAX_IDS
from .._errors import SourceError
from .._sql import identifier
from ._id_rules import IdColumn
from ._relation import (
    ReadContext,
    Relation,
    Relations,
    SourceFile,
    choose_id,
    columns_of,
    message_of,
    wanted_columns,
)

_DELIMITERS = (",", ";", "\t", "|")
_LONGEST_HEADER = 1024 * 1024
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_NOT_UTF8 = "it is not UTF-8. Convert it, for example with 'iconv -f LATIN1 -t UTF-8'"
_IS_WIDE = "it is not UTF-8 but UTF-16 or UTF-32. Convert it, for example with 'iconv -f UTF-16 -t UTF-8'"
_IS_BINARY = "it is not a text file. Export the rows as CSV, or set the format"
_LINE = re.compile(r"CSV Error on Line: (\d+)")
_COUNT = re.compile(r"Expected Number of Columns: (\d+) Found: (\d+)")
_FAULTS = (
    ("unterminated quote", "a quote is not closed, or text follows a closing quote"),
    ("unicode", _NOT_UTF8),
    ("Maximum line size", "the line is too long. Most likely a quote is not closed"),
    ("invalid state", "its line endings are mixed (LF and CRLF), or a quote is in an unquoted value"),
)


def csv_relation(context: ReadContext, file: SourceFile) -> Relation:
    """Return the relation of a CSV file.

    Raises:
        SourceError: If it has no header, or a column is missing.
    """
    names, delimiter = _header(file)
    id_name = choose_id(context, names, file.shown, header=True)
    # All columns are text and no type is guessed, so that "00123" stays "00123". An empty cell is NULL.
    columns = columns_of(context, dict.fromkeys(names, "VARCHAR"), id_name, file.shown)
    wanted = wanted_columns(context.source, id_name)
    _check_unique(names, wanted, file)
    picked = ", ".join(f"c{names.index(name)} AS {identifier(name)}" for name in wanted)
    return Relation(
        location=file.shown,
        sql=f"(SELECT {picked} FROM {_read_csv(file, len(names), delimiter)})",
        explain=lambda exc: _explain(exc, file),
        **columns,
    )


def bare_relations(file: SourceFile) -> Relations:
    """Yield the relations of a file that contains one ID per line and no header, in portions.

    Raises:
        SourceError: If the file is not UTF-8, or is a CSV.
    """
    # Not by DuckDB: its CSV reader refuses mixed line endings, and quotes that a list of IDs may contain.
    first = 1
    with file.open() as stream:
        lines = iter(lambda: stream.readline(_LONGEST_HEADER), b"")
        while portion := list(itertools.islice(lines, MAX_IDS)):
            texts = [_decode(line, file, number) for number, line in enumerate(portion, start=first)]
            if first == 1 and ("," in texts[0] or file.shown.endswith(".csv")):
                msg = "it looks like a CSV. Name the column that contains the IDs"
                raise SourceError(msg, location=file.shown, line=1)
            yield Relation(
                location=file.shown,
                sql="""(SELECT unnest(from_json($1, '["VARCHAR"]')) AS id)""",
                id=IdColumn("id"),
                parameters=[orjson.dumps(texts).decode()],
                first_row=first,
                explain=lambda exc: _explain(exc, file),
            )
            first += len(portion)


def _decode(line: bytes, file: SourceFile, number: int) -> str:
    if line.startswith(_WIDE):
        raise SourceError(_IS_WIDE, location=file.shown, line=number)
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise SourceError(_NOT_UTF8, location=file.shown, line=number) from None


def _read_csv(file: SourceFile, width: int, delimiter: str) -> str:
    columns = ", ".join(f"c{index}: 'VARCHAR'" for index in range(width))
    return (
        f"read_csv({file.sql}, auto_detect = false, header = true, delim = '{delimiter}', quote = '\"', "
        f"escape = '\"', columns = {{{columns}}}, compression = {file.compression}, strict_mode = true, "
        "null_padding = false, ignore_errors = false, hive_partitioning = false, encoding = 'utf-8')"
    )


def _check_unique(names: list[str], wanted: list[str], file: SourceFile) -> None:
    for name in wanted:
        if names.count(name) > 1:
            msg = f"the header contains the column {name!r} {names.count(name)} times. Rename all but one"
            raise SourceError(msg, location=file.shown, line=1)


def _header(file: SourceFile) -> tuple[list[str], str]:
    """Return the names of the columns and the delimiter, from the first line."""
    with file.open() as stream:
        line = stream.readline(_LONGEST_HEADER)
    if b"\0" in line and not line.startswith(_WIDE):
        raise SourceError(_IS_BINARY, location=file.shown, line=1)
    text = re.split(r"[\r\n]", _decode(line, file, 1), maxsplit=1)[0]
    if not text.strip():
        msg = "there is no header: the first line is empty. Write the names of the columns in it"
        raise SourceError(msg, location=file.shown, line=1)
    headers = {delimiter: _cells(text, delimiter) for delimiter in _DELIMITERS}
    best = max(headers, key=lambda delimiter: len(headers[delimiter]))
    if not headers[best]:
        msg = "the header cannot be read: a quote is not closed"
        raise SourceError(msg, location=file.shown, line=1)
    return headers[best], best


def _cells(line: str, delimiter: str) -> list[str]:
    """Return the cells of the header. Empty if its quotes do not match this delimiter."""
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, strict=True))]
    except csv.Error:
        return []


def _explain(exc: Exception, file: SourceFile) -> SourceError:
    text = message_of(exc)  # not shown: it contains the row
    line = int(match[1]) if (match := _LINE.search(text)) else None
    if match := _COUNT.search(text):
        msg = f"{match[2]} values for {match[1]} columns. Quote values that contain the delimiter"
        return SourceError(msg, location=file.shown, line=line)
    found = (words for sign, words in _FAULTS if sign in text)
    return SourceError(
        next(found, f"it cannot be read as CSV. [{type(exc).__name__}]"), location=file.shown, line=line
    )
