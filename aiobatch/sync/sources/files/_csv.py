"""CSV files as relations, with one explicit dialect for all, and files of one ID per line."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import orjson

from ....models import MAX_IDS
from ..._errors import SourceError
from ..._sql import identifier, literal
from .._id_rules import IdColumn
from .._relation import (
    LOOKS_LIKE_AN_ID,
    ColumnsError,
    Contract,
    ReadContext,
    Relation,
    Relations,
    check_distinct,
    choose_id,
    columns_of,
    id_candidates,
    message_of,
    wanted_columns,
)
from .._source_file import SourceFile
from ._csv_header import NOT_UTF8, Dialect, decode_line, read_header
from ._records import csv_rows, find_line, is_malformed, lines_of, read_quotes

_LONGEST_LINE = 1024 * 1024
_COUNT = re.compile(r"Expected Number of Columns: (\d+) Found: (\d+)")
_TOO_LONG = "Maximum line size"
_LONGEST_ROW = 2_000_000
# psql, MySQL and SQL Server end a list with a count.
_FOOTER = r"\(\d+ rows?( affected)?\)|\d+ rows? (in set|selected|affected|fetched|returned).*"
# DuckDB's error while reading carries it.
_ROW_COUNT = "aiobatch: row count"
_ROW_COUNT_TEXT = "the line counts rows and is no row. Export the rows without a footer"
_UNCLOSED = "a quote is not closed, or text follows a closing quote"
_FAULTS = (
    ("unterminated quote", _UNCLOSED),
    ("unicode", NOT_UTF8),
    (_TOO_LONG, "the line is too long. Most likely a quote is not closed"),
    ("invalid state", "its line endings are mixed (LF and CRLF), or a quote is in an unquoted value"),
)


def csv_relation(context: ReadContext, file: SourceFile) -> Relation:
    """Return the relation of a CSV file.

    Raises:
        SourceError: If it has no header, or a column is missing.
    """
    dialect = read_header(context, file)
    names = list(dialect.names)
    id_name = _choose_id(context, dialect, file)
    # All columns are text and no type is guessed, so that "00123" stays "00123". An empty cell is NULL.
    columns = columns_of(context, dict.fromkeys(names, "VARCHAR"), id_name, file.shown, text=dialect.header)
    wanted = wanted_columns(context.source, id_name)
    check_distinct(wanted, wanted, wanted, file.shown)
    _check_unique(names, wanted, file)
    quotes = file.quotes if file.quotes.exact else read_quotes(file, dialect)
    if not quotes.closed:  # DuckDB's careful reader would leave the row out
        raise SourceError(_UNCLOSED, location=file.shown, line=_line_with(file, dialect, is_malformed))
    picked = {name: f"c{names.index(name)}" for name in wanted}
    picked[id_name] = _checked_id(picked[id_name])
    rows = f"SELECT {', '.join(f'{sql} AS {identifier(name)}' for name, sql in picked.items())}"
    careful = f"({rows} FROM {_read_csv(file, dialect, parallel=False)})"
    return Relation(
        location=file.shown,
        sql=careful if quotes.multiline else f"({rows} FROM {_read_csv(file, dialect, parallel=True)})",
        careful_sql=careful,
        lines=lambda numbers: lines_of(csv_rows(file, dialect), numbers),
        contract=Contract(
            id_name=id_name, kind="text", delimiter=dialect.shown if len(dialect.names) > 1 else None
        ),
        explain=lambda exc: _explain(exc, file, dialect),
        **columns,
    )


def _checked_id(sql: str) -> str:
    """Return the SQL of an ID, which fails at a count of rows below them."""
    is_count = f"{sql} LIKE '%row%' AND regexp_full_match({sql}, {literal(_FOOTER)})"
    return f"CASE WHEN {is_count} THEN error({literal(_ROW_COUNT)}) ELSE {sql} END"


def _choose_id(context: ReadContext, dialect: Dialect, file: SourceFile) -> str:
    """Return the name of the ID column, whose evidence is a known name or the word of the user."""
    wanted, names = context.source.id_column, list(dialect.names)
    if not dialect.header:
        if wanted is None or wanted not in names:
            msg = f"without a header, id_column is the number of a column, from 1 to {len(names)}. Set it"
            raise ColumnsError(msg, location=file.shown)
        return wanted
    if len(names) == 1 and not id_candidates(context, names):
        what = f"the header has no column {wanted!r}" if wanted else _lone(context, names[0])
        msg = (
            f"{what}. Write a header above the IDs, such as 'id', set id_column to the name or number of the "
            "column, or set the delimiter"
        )
        raise ColumnsError(msg, location=file.shown, line=1)
    found = choose_id(context, names, file.shown, text=True)
    if wanted not in {None, found} and LOOKS_LIKE_AN_ID.fullmatch(found):
        msg = (
            f"column {wanted} of the first line looks like an ID, not like the name of a column. Set header "
            "to false, or id_column to the name"
        )
        raise ColumnsError(msg, location=file.shown, line=1)
    return found


def _lone(context: ReadContext, name: str) -> str:
    """Return why the only column of a file is not taken."""
    if LOOKS_LIKE_AN_ID.fullmatch(name):
        return "the first line is not a header"
    if re.search(r"\S {2,}\S", name):
        return "its columns seem to have a fixed width, which is not read"
    tried = "the delimiter" if context.source.delimiter else "a comma, a semicolon, a tab or a bar"
    return f"with {tried} between cells, there is one column, and it has no name of an ID column"


def bare_relations(file: SourceFile) -> Relations:
    """Yield the relations of a file that contains one ID per line and no header, in portions.

    Raises:
        SourceError: If the file is not UTF-8, or is a CSV.
    """
    # Not by DuckDB: its CSV reader refuses mixed line endings, and quotes that a list of IDs may contain.
    first = 1
    with file.open() as stream:
        lines = iter(lambda: stream.readline(_LONGEST_LINE), b"")
        while portion := list(itertools.islice(lines, MAX_IDS)):
            texts = [decode_line(line, file, number) for number, line in enumerate(portion, start=first)]
            if first == 1 and ("," in texts[0] or file.shown.endswith(".csv")):
                msg = "it looks like a CSV. Name the column that contains the IDs"
                raise SourceError(msg, location=file.shown, line=1)
            yield Relation(
                location=file.shown,
                sql="""(SELECT unnest(from_json($1, '["VARCHAR"]')) AS id)""",
                id=IdColumn("id"),
                parameters=[orjson.dumps(texts).decode()],
                first_row=first,
                explain=lambda exc: _explain_bare(exc, file),
            )
            first += len(portion)


def _explain_bare(exc: Exception, file: SourceFile) -> SourceError:
    return SourceError(f"it cannot be read. [{type(exc).__name__}]", location=file.shown)


def _read_csv(file: SourceFile, dialect: Dialect, *, parallel: bool) -> str:
    # DuckDB takes only the first line of a header whose first name has a line break.
    long = dialect.header and any("\n" in name or "\r" in name for name in dialect.written)
    columns = ", ".join(f"c{index}: 'VARCHAR'" for index in range(len(dialect.names)))
    reader = (
        f"read_csv({file.sql}, auto_detect = false, header = {str(dialect.header and not long).lower()}, "
        f"delim = {literal(dialect.delimiter)}, quote = '\"', "
        f"escape = '\"', columns = {{{columns}}}, compression = {file.compression}, strict_mode = true, "
        "null_padding = false, ignore_errors = false, hive_partitioning = false, encoding = 'utf-8', "
        f"parallel = {str(parallel).lower()})"
    )
    return f"(FROM {reader} OFFSET 1)" if long else reader


def _check_unique(names: list[str], wanted: list[str], file: SourceFile) -> None:
    for name in wanted:
        if names.count(name) > 1:
            msg = f"the header contains the column {name!r} {names.count(name)} times. Rename all but one"
            raise SourceError(msg, location=file.shown, line=1)


def _explain(exc: Exception, file: SourceFile, dialect: Dialect) -> SourceError:
    text = message_of(exc)  # not shown: it contains the row
    if _ROW_COUNT in text:
        return SourceError(_ROW_COUNT_TEXT, location=file.shown, line=_line_with(file, dialect, _is_footer))
    # DuckDB counts a record of several lines as one, and its parallel reader may report another line.
    line = _line_with(file, dialect, _is_long if _TOO_LONG in text else is_malformed)
    if match := _COUNT.search(text):
        values = "1 value" if match[2] == "1" else f"{match[2]} values"
        columns = "1 column" if match[1] == "1" else f"{match[1]} columns"
        msg = f"{values} for {columns}. Quote values that contain the delimiter"
        return SourceError(msg, location=file.shown, line=line)
    found = next((words for sign, words in _FAULTS if sign in text), None)
    default = f"it cannot be read as CSV. [{type(exc).__name__}]"
    return SourceError(found or default, location=file.shown, line=line)


def _line_with(
    file: SourceFile, dialect: Dialect, is_wrong: Callable[[list[str] | None, Dialect], bool]
) -> int | None:
    return find_line(csv_rows(file, dialect), lambda cells: is_wrong(cells, dialect))


def _is_footer(cells: list[str] | None, _: Dialect) -> bool:
    return any(re.fullmatch(_FOOTER, cell) for cell in cells or [])


def _is_long(cells: list[str] | None, _: Dialect) -> bool:
    return cells is None or sum(map(len, cells)) >= _LONGEST_ROW
