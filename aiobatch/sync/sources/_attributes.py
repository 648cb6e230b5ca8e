"""SQL that converts columns to attributes and tags in canonical JSON, with the checks of `Member`.

In canonical JSON names are sorted, empty values and spaces are left out, and each value has one spelling. So
equal attributes are equal texts, whatever kind of source they come from.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from ..._validation import MAX_ATTRIBUTES, split_typed
from .._sql import literal
from ._id_rules import WHITESPACE, WHOLE_NUMBERS, Reason, is_whole_decimal

_INT64 = f"BETWEEN {-(2**63)} AND {2**63 - 1}"
_FRACTIONS = frozenset({"FLOAT", "DOUBLE"})
_ZONED = "TIMESTAMP WITH TIME ZONE"
_MOMENTS = frozenset({"DATE", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", _ZONED})
# As in Batch's examples: whole seconds, UTC, a final Z.
_BATCH_DATE = literal("%Y-%m-%dT%H:%M:%SZ")
# As Member reads it: a date, with or without a time, in UTC if there is no zone.
_ISO_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,9})?)?"
_ZONED_TEXT = rf"{_ISO_TIME}(Z|[+-][0-9]{{2}}(:?[0-9]{{2}})?)"
_UTC_TEXT = rf"{_ISO_TIME}|[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}"
# As Member reads it. RE2's \s matches ASCII only.
_URL = f"(?i)https?://[^/{WHITESPACE}][^{WHITESPACE}]*"


@attrs.frozen
class AttributeColumn:
    """One attribute as SQL.

    Attributes:
        name: Its name in Batch.
        value: The SQL of its JSON text, or NULL.
        reason: The SQL of a Reason, or NULL.
    """

    name: str
    value: str
    reason: str


@attrs.frozen
class ColumnSql:
    """All attributes of a row as SQL, or all its tags.

    Attributes:
        value: The SQL of the canonical JSON object, or of a sorted list without duplicates, or NULL.
        reason: The SQL of a Reason, or NULL.
    """

    value: str
    reason: str = "NULL"


def attribute_column(name: str, sql: str, kind: str) -> AttributeColumn | None:
    """Return how to read a column of type *kind* as attribute *name*. None if it cannot be one."""
    typed, _ = split_typed(name)
    if kind in _MOMENTS:
        return _moment(name if typed else f"date({name})", sql, kind) if typed != "url" else None
    if kind == "JSON":
        return _json(name, sql, typed)
    if kind in {"VARCHAR", "UUID"} or kind.startswith("ENUM("):
        return _text(name, f"{sql}::VARCHAR", typed)
    return None if typed else _plain(name, sql, kind)


def combine(columns: Sequence[AttributeColumn]) -> ColumnSql:
    """Return the SQL of one JSON object of *columns*, and of the first Reason against any of them."""
    ordered = sorted(columns, key=lambda column: column.name)
    # concat_ws() leaves NULL out.
    members = ", ".join(
        f"to_json({literal(column.name)})::VARCHAR || ':' || {column.value}" for column in ordered
    )
    reasons = [column.reason for column in ordered]
    if len(columns) > MAX_ATTRIBUTES:
        count = " + ".join(f"({column.value} IS NOT NULL)::INTEGER" for column in ordered)
        reasons.append(_when(f"{count} > {MAX_ATTRIBUTES}", Reason.TOO_MANY_ATTRIBUTES))
    return ColumnSql(
        f"'{{' || nullif(concat_ws(',', {members}), '') || '}}'", f"coalesce({', '.join(reasons)}, NULL)"
    )


def tags_column(sql: str, kind: str) -> ColumnSql | None:
    """Return how to read a column of DuckDB's type *kind* as tags. None if it cannot contain any."""
    if kind == "VARCHAR":
        return ColumnSql(_tidy(_split(sql)))
    if kind == "VARCHAR[]":
        return ColumnSql(_tidy(sql), _when(_gaps(sql), Reason.TAGS))
    if kind == "JSON":
        return _json_tags(sql)
    return None


def _when(test: str, reason: Reason) -> str:
    return f"CASE WHEN {test} THEN {literal(reason)} END"


def _moment(name: str, sql: str, kind: str) -> AttributeColumn:
    """Read a date or time. Without a zone it is UTC, as in warehouses."""
    # A DATE has more years than a TIMESTAMP.
    moment = f"make_timestamp(epoch_us({sql}))" if kind == _ZONED else f"try_cast({sql} AS TIMESTAMP)"
    text = f"strftime({moment}, {_BATCH_DATE})"
    sound = f"isfinite({sql}) AND {_is_in_calendar(moment)}"
    return AttributeColumn(
        name,
        f"CASE WHEN {sound} THEN to_json({text})::VARCHAR END",
        _when(f"{sql} IS NOT NULL AND NOT coalesce({sound}, false)", Reason.ATTRIBUTE_DATE),
    )


def _text(name: str, sql: str, typed: str) -> AttributeColumn:
    if typed == "date":
        date = _iso_date(sql)
        return AttributeColumn(
            name,
            f"to_json({date})::VARCHAR",
            _when(f"{sql} IS NOT NULL AND {date} IS NULL", Reason.ATTRIBUTE_DATE),
        )
    reason = _when(f"NOT {_is_url(sql)}", Reason.ATTRIBUTE_URL) if typed == "url" else "NULL"
    return AttributeColumn(name, f"to_json({sql})::VARCHAR", reason)


def _iso_date(sql: str) -> str:
    """Return the SQL of a text's date in Batch's format, or NULL."""
    zoned = f"make_timestamp(epoch_us(try_cast({sql} AS TIMESTAMPTZ)))"
    cases = [
        f"WHEN regexp_full_match({sql}, {literal(pattern)}) AND {_is_in_calendar(moment)} "
        f"THEN strftime({moment}, {_BATCH_DATE})"
        for pattern, moment in ((_ZONED_TEXT, zoned), (_UTC_TEXT, f"try_cast({sql} AS TIMESTAMP)"))
    ]
    return f"CASE {' '.join(cases)} END"


def _is_in_calendar(moment: str) -> str:
    return f"year({moment}) BETWEEN 1 AND 9999"


def _is_url(sql: str) -> str:
    return f"regexp_full_match({sql}, {literal(_URL)})"


def _plain(name: str, sql: str, kind: str) -> AttributeColumn | None:
    """Read a boolean, a number or a list of scalars."""
    if kind.endswith("[]"):  # first: a list of decimals begins like a decimal
        item = _plain_item(kind.removesuffix("[]"))
        listed = f"to_json(list_transform({sql}, lambda x: {item}))"
        return None if item is None else _json(name, listed, "")
    if kind == "BOOLEAN":
        return AttributeColumn(name, f"to_json({sql})::VARCHAR", "NULL")
    if kind in WHOLE_NUMBERS or is_whole_decimal(kind):
        return AttributeColumn(name, f"{sql}::VARCHAR", _when(f"NOT {sql} {_INT64}", Reason.ATTRIBUTE_NUMBER))
    if kind in _FRACTIONS or kind.startswith("DECIMAL("):
        value = _double(sql)
        reason = _when(f"NOT isfinite({value})", Reason.ATTRIBUTE_NUMBER)
        return AttributeColumn(name, f"to_json({value})::VARCHAR", reason)
    return None


def _plain_item(kind: str) -> str | None:
    """Return the SQL of a list's item `x` for JSON. None if the type is not supported."""
    if kind.endswith("]"):
        return None
    if is_whole_decimal(kind):
        return "x::HUGEINT"
    if kind in {"VARCHAR", "BOOLEAN"} or kind in WHOLE_NUMBERS:
        return "x"
    return _double("x") if kind in _FRACTIONS or kind.startswith("DECIMAL(") else None


def _double(sql: str) -> str:
    # Converted through text, so that the FLOAT 0.1 is 0.1, not 0.10000000149011612.
    return f"({sql}::VARCHAR::DOUBLE)"


def _json(name: str, sql: str, typed: str) -> AttributeColumn:
    """Read a JSON value, whose type may differ from row to row."""
    if typed:
        text = _text(name, f"({sql} ->> '$')", typed)
        strange = f"json_type({sql}) NOT IN ('VARCHAR', 'NULL')"
        return AttributeColumn(
            name,
            text.value,
            f"CASE WHEN {strange} THEN {literal(Reason.ATTRIBUTE_TYPE)} ELSE {text.reason} END",
        )
    items = f"json_extract({sql}, '$[*]')"
    return AttributeColumn(
        name,
        f"CASE json_type({sql}) WHEN 'NULL' THEN NULL WHEN 'ARRAY' THEN "
        f"'[' || array_to_string(list_transform({items}, lambda i: {_json_text('i')}), ',') || ']' "
        f"ELSE {_json_text(sql)} END",
        f"CASE json_type({sql}) WHEN 'NULL' THEN NULL WHEN 'ARRAY' THEN "
        f"list_any_value(list_transform({items}, lambda i: {_json_reason('i')})) "
        f"ELSE {_json_reason(sql)} END",
    )


def _json_text(sql: str) -> str:
    """Return the SQL of a JSON scalar's text. Only fractions have several spellings."""
    number = f"to_json(try_cast({sql} ->> '$' AS DOUBLE))::VARCHAR"
    return f"CASE json_type({sql}) WHEN 'DOUBLE' THEN {number} ELSE {sql}::VARCHAR END"


def _json_reason(sql: str) -> str:
    """Return SQL that yields the rejection reason of a JSON scalar, or NULL."""
    text = f"({sql} ->> '$')"
    # DuckDB stores a whole number beyond 64 bits as text of type DOUBLE.
    bad_double = (
        f"regexp_full_match({text}, '-?[0-9]+') OR NOT coalesce(isfinite(try_cast({text} AS DOUBLE)), false)"
    )
    return (
        f"CASE json_type({sql}) WHEN 'VARCHAR' THEN NULL WHEN 'BOOLEAN' THEN NULL WHEN 'BIGINT' THEN NULL "
        f"WHEN 'UBIGINT' THEN {_when(f'NOT try_cast({text} AS HUGEINT) {_INT64}', Reason.ATTRIBUTE_NUMBER)} "
        f"WHEN 'DOUBLE' THEN {_when(bad_double, Reason.ATTRIBUTE_NUMBER)} "
        f"ELSE CASE WHEN {sql} IS NOT NULL THEN {literal(Reason.ATTRIBUTE_TYPE)} END END"
    )


def _split(sql: str) -> str:
    """Return the SQL of the tags in a comma-separated text."""
    trimmed = f"list_transform(string_split({sql}, ','), lambda t: trim(t, {literal(WHITESPACE)}))"
    return f"list_filter({trimmed}, lambda t: t <> '')"


def _tidy(sql: str) -> str:
    ordered = f"list_sort(list_distinct({sql}))"
    return f"CASE WHEN len({ordered}) > 0 THEN {ordered} END"


def _gaps(sql: str) -> str:
    return f"len(list_filter({sql}, lambda t: t IS NULL OR t = '')) > 0"


def _json_tags(sql: str) -> ColumnSql:
    """Read tags from a JSON list of strings or a comma-separated string."""
    items = f"json_extract({sql}, '$[*]')"
    listed = f"json_extract_string({sql}, '$[*]')"
    text = f"({sql} ->> '$')"
    odd = f"len(list_filter({items}, lambda i: json_type(i) <> 'VARCHAR' OR i ->> '$' = '')) > 0"
    return ColumnSql(
        f"CASE json_type({sql}) WHEN 'ARRAY' THEN {_tidy(listed)} "
        f"WHEN 'VARCHAR' THEN {_tidy(_split(text))} END",
        f"CASE json_type({sql}) WHEN 'NULL' THEN NULL WHEN 'VARCHAR' THEN NULL "
        f"WHEN 'ARRAY' THEN {_when(odd, Reason.TAGS)} "
        f"ELSE CASE WHEN {sql} IS NOT NULL THEN {literal(Reason.TAGS)} END END",
    )
