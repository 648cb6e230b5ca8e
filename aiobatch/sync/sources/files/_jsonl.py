"""JSON lines as a relation. The type of a value may differ from row to row."""

from __future__ import annotations

import re

import orjson

from ..._errors import SourceError
from ..._sql import literal
from .._relation import (
    Contract,
    ReadContext,
    Relation,
    check_distinct,
    choose_id,
    columns_of,
    explained,
    message_of,
    wanted_columns,
)
from .._source_file import SourceFile
from ._records import jsonl_rows, lines_of

_LINE = re.compile(r" in line (\d+)")
_NO_OBJECT = "it is not a complete JSON object. Write one object per line, in UTF-8"
_MOST_KEYS = 100_000


def jsonl_relation(context: ReadContext, file: SourceFile) -> Relation:
    """Return the relation of a JSON lines file.

    Raises:
        SourceError: If a line is not an object, or no key is that of the IDs.
    """
    keys = [] if context.source.id_column else _keys(context, file)
    id_name = context.source.id_column or (choose_id(context, keys, file.shown, text=True) if keys else "id")
    wanted = wanted_columns(context.source, id_name)
    check_distinct(wanted, wanted, wanted, file.shown)
    columns = ", ".join(f"{literal(name)}: 'JSON'" for name in wanted)
    sql = (
        f"read_json({file.sql}, format = 'newline_delimited', records = true, auto_detect = false, "
        f"columns = {{{columns}}}, compression = {file.compression}, ignore_errors = false, "
        "hive_partitioning = false)"
    )
    return Relation(
        location=file.shown,
        sql=sql,
        schemaless=True,
        contract=Contract(id_name=id_name if keys else ""),
        lines=lambda numbers: lines_of(jsonl_rows(file), numbers),
        explain=lambda exc: _explain(exc, file),
        **columns_of(context, dict.fromkeys(wanted, "JSON"), id_name, file.shown),
    )


def _keys(context: ReadContext, file: SourceFile) -> list[str]:
    """Return the keys of all lines. The first one may lack the ID, which some writers leave out if empty."""
    lines = (
        f"read_json_objects({file.sql}, format = 'newline_delimited', compression = {file.compression}, "
        "ignore_errors = false)"
    )
    sql = f"SELECT DISTINCT unnest(json_keys(json)) AS key FROM {lines} ORDER BY key LIMIT {_MOST_KEYS}"
    with explained(lambda exc: _explain(exc, file)):
        return [key for (key,) in context.connection.execute(sql).fetchall()]


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


def _explain(exc: Exception, file: SourceFile) -> SourceError:
    text = message_of(exc)  # not shown: it may contain a value
    if "duplicate key" in text:
        match = _LINE.search(text)
        return SourceError(
            "the object has a duplicate key", location=file.shown, line=int(match[1]) if match else None
        )
    if match := _LINE.search(text):
        return SourceError(_NO_OBJECT, location=file.shown, line=_bad_line(file, int(match[1])))
    return SourceError(f"it cannot be read as JSON lines. [{type(exc).__name__}]", location=file.shown)


def _bad_line(file: SourceFile, reported: int) -> int:
    """Return the number of the invalid line. For some errors, DuckDB 2.0 reports one too many."""
    with file.open() as stream:
        for number, line in enumerate(stream, start=1):
            if number >= reported - 1 and line.strip() and not _is_object(line):
                return number
    return reported
