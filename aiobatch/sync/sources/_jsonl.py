"""JSON lines as a relation: one object a line, each value of the type that its row gives it."""

from __future__ import annotations

import re
from typing import Any

import orjson

from .._errors import SourceError
from .._sql import literal
from ._relation import ReadContext, Relation, SourceFile, choose_id, columns_of, message_of, wanted_columns

_LINE = re.compile(r" in line (\d+)")
_NO_OBJECT = "it holds no JSON object, or one that is cut short; write one object a line, in UTF-8"
_LONGEST = 16 * 1024 * 1024


def jsonl_relation(context: ReadContext, file: SourceFile) -> Relation:
    """Give a JSON lines file's relation.

    Raises:
        SourceError: The first line holds no object, or none with a column of ids.
    """
    id_name = context.source.id_column or choose_id(context, list(_first(file)), file.shown)
    wanted = wanted_columns(context.source, id_name)
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
        explain=lambda exc: _explain(exc, file),
        **columns_of(context, dict.fromkeys(wanted, "JSON"), id_name, file.shown),
    )


def _first(file: SourceFile) -> dict[str, Any]:
    """Return the object of the first line that is not blank; an empty file has none and needs none."""
    with file.open() as stream:
        for number, line in enumerate(iter(lambda: stream.readline(_LONGEST), b""), start=1):
            if line.strip():
                return _parse(line, file, number)
    return {"id": None}


def _parse(line: bytes, file: SourceFile, number: int) -> dict[str, Any]:
    if not _is_object(line):
        raise SourceError(_NO_OBJECT, location=file.shown, line=number)
    return dict(orjson.loads(line))


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


def _explain(exc: Exception, file: SourceFile) -> SourceError:
    """Say which line is wrong; DuckDB's own text may show what is in it."""
    text = message_of(exc)
    if "duplicate key" in text:
        match = _LINE.search(text)
        return SourceError(
            "the object has a key twice", location=file.shown, line=int(match[1]) if match else None
        )
    if match := _LINE.search(text):
        return SourceError(_NO_OBJECT, location=file.shown, line=_bad_line(file, int(match[1])))
    return SourceError(f"it cannot be read as JSON lines ({type(exc).__name__})", location=file.shown)


def _bad_line(file: SourceFile, reported: int) -> int:
    """Return the number of the bad line: for some faults, not for all, DuckDB 2.0 counts one too many."""
    with file.open() as stream:
        for number, line in enumerate(stream, start=1):
            if number >= reported - 1 and line.strip() and not _is_object(line):
                return number
    return reported
