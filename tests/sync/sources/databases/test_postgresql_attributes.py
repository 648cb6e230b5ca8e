"""Odd values of PostgreSQL as attributes: each rejects its row, or its column is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiobatch.sync.sources._id_rules import Reason

from ...staged import refusal, staged

_DATES = {
    "infinity": Reason.ATTRIBUTE_DATE,
    "-infinity": Reason.ATTRIBUTE_DATE,
    "0044-03-15 BC": Reason.ATTRIBUTE_DATE,
    "10000-01-01": Reason.ATTRIBUTE_DATE,
    "0001-01-01": "0001-01-01T00:00:00Z",
    "9999-12-31": "9999-12-31T00:00:00Z",
}
_NUMBERS = {
    "NaN": Reason.ATTRIBUTE_NUMBER,
    "Infinity": Reason.ATTRIBUTE_NUMBER,
    "-Infinity": Reason.ATTRIBUTE_NUMBER,
    "1e400": Reason.ATTRIBUTE_NUMBER,
    "9007199254740993": Reason.ATTRIBUTE_NUMBER,
    "-9223372036854775807": Reason.ATTRIBUTE_NUMBER,
    "9007199254740992": 9007199254740992.0,
    "123456789012345678.5": 123456789012345680.0,
    "0.10": 0.1,
    "5": 5.0,
}
_FLOATS = {
    "NaN": Reason.ATTRIBUTE_NUMBER,
    "-Infinity": Reason.ATTRIBUTE_NUMBER,
    "0.1": 0.1,
}


@pytest.mark.parametrize(
    ("kind", "values", "name"),
    [
        ("date", {**_DATES, "5874897-12-31": Reason.ATTRIBUTE_DATE}, "date(a)"),
        ("timestamp", _DATES, "date(a)"),
        ("timestamptz", _DATES, "date(a)"),
        ("numeric", _NUMBERS, "a"),
        ("float8", _FLOATS, "a"),
        ("float4", _FLOATS, "a"),
    ],
)
def test_odd_values_reject_their_rows(
    kind: str, values: dict[str, object], name: str, postgresql: str, tmp_path: Path
) -> None:
    """A value that Batch cannot hold exactly rejects its row with a reason, and no other row."""
    rows = ", ".join(f"('{value}', '{value}'::{kind})" for value in values)
    query = f"SELECT * FROM (VALUES {rows}, ('none', NULL)) AS t(id, a)"
    result = staged(postgresql, tmp_path, query=query, attributes=["a"])
    found: dict[str, object] = {row[3]: row[2] for row in result.rejects}
    found |= {key: value[name] for key, value in result.attributes.items() if value is not None}
    assert found == values
    assert result.attributes["none"] is None


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("'$1.50'::money", "column 'a' has the type money, which has no exact text. Cast it to text"),
        ("ARRAY['$1'::money]", "column 'a' has the type _money, which has no exact text. Cast it to text"),
        ("ARRAY[1.5]", "column 'a' has the type _numeric, which has no exact text. Cast it to float8[]"),
        ("interval '1 day'", "column 'a' has the type INTERVAL, which is not supported here. Convert it"),
        ("ARRAY['infinity'::timestamp]", "column 'a' has the type TIMESTAMP[], which is not supported here"),
        ("time '12:30'", "column 'a' has the type TIME, which is not supported here"),
        ("inet '10.0.0.1'", "column 'a' has the type"),
    ],
)
def test_odd_types_are_refused_by_column(value: str, problem: str, postgresql: str, tmp_path: Path) -> None:
    """A type that has no exact value in Batch is refused before any row is read."""
    error = refusal(postgresql, tmp_path, query=f"SELECT 'u' AS id, {value} AS a", attributes=["a"])
    assert problem in str(error)
