"""CSV as a relation: one dialect, said aloud, so that no two files are guessed differently."""

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
_NOT_UTF8 = "it is not UTF-8; convert it, for example with 'iconv -f LATIN1 -t UTF-8'"
_IS_WIDE = "it is not UTF-8 but UTF-16 or UTF-32; convert it, for example with 'iconv -f UTF-16 -t UTF-8'"
_IS_BINARY = "it is not UTF-8, and no text: export the rows as CSV, or say what it is with format (--format)"
_LINE = re.compile(r"CSV Error on Line: (\d+)")
_COUNT = re.compile(r"Expected Number of Columns: (\d+) Found: (\d+)")
_FAULTS = (
    ("unterminated quote", "a quote is opened and not closed, or text follows a closing quote"),
    ("unicode", _NOT_UTF8),
    ("Maximum line size", "the line is too long to be one; most likely a quote is opened and not closed"),
    ("invalid state", "its lines end in different ways (LF and CRLF), or quotes stand where they may not"),
)


def csv_relation(context: ReadContext, file: SourceFile) -> Relation:
    """Give a CSV file's relation.

    Raises:
        SourceError: It has no header, or the header lacks a column.
    """
    names, delimiter = _header(file)
    id_name = choose_id(context, names, file.shown, header=True)
    # Every column but a NULL for an empty cell is text: nothing is guessed, "00123" stays "00123".
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
    first = 1
    with file.open() as stream:
        lines = iter(lambda: stream.readline(_LONGEST_HEADER), b"")
        while portion := list(itertools.islice(lines, MAX_IDS)):
            texts = [_decode(line, file, number) for number, line in enumerate(portion, start=first)]
            if first == 1 and ("," in texts[0] or file.shown.endswith(".csv")):
                msg = "it looks like a CSV; name the column that contains the ids"
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
            msg = f"the header names the column {name!r} {names.count(name)} times; rename all but one"
            raise SourceError(msg, location=file.shown, line=1)


def _header(file: SourceFile) -> tuple[list[str], str]:
    """Return the columns' names and what parts them, from the first line alone."""
    with file.open() as stream:
        line = stream.readline(_LONGEST_HEADER)
    if b"\0" in line and not line.startswith(_WIDE):
        raise SourceError(_IS_BINARY, location=file.shown, line=1)
    text = re.split(r"[\r\n]", _decode(line, file, 1), maxsplit=1)[0]
    if not text.strip():
        msg = "there is no header: the file is empty, or its first line is; write the columns' names there"
        raise SourceError(msg, location=file.shown, line=1)
    headers = {delimiter: _cells(text, delimiter) for delimiter in _DELIMITERS}
    best = max(headers, key=lambda delimiter: len(headers[delimiter]))
    if not headers[best]:
        msg = "the header cannot be read: its quotes do not match"
        raise SourceError(msg, location=file.shown, line=1)
    return headers[best], best


def _cells(line: str, delimiter: str) -> list[str]:
    """Split the header; nothing if its quotes rule the delimiter out."""
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, strict=True))]
    except csv.Error:
        return []


def _explain(exc: Exception, file: SourceFile) -> SourceError:
    """Say what is wrong with a row; DuckDB's own text would show the row."""
    text = message_of(exc)
    line = int(match[1]) if (match := _LINE.search(text)) else None
    if match := _COUNT.search(text):
        msg = f"{match[2]} values under a header of {match[1]} columns; quote values that hold the delimiter"
        return SourceError(msg, location=file.shown, line=line)
    found = (words for sign, words in _FAULTS if sign in text)
    return SourceError(
        next(found, f"it cannot be read as CSV ({type(exc).__name__})"), location=file.shown, line=line
    )
