from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiobatch.models import Member
from aiobatch.sync.sources._id_rules import IdRules, Reason
from aiobatch.sync.sources._source import Source
from aiobatch.sync.sources._stage import stage

from ...helpers.sweep import examples
from ..staged import refusal, staged


def _attribute(tmp_path: Path, sql: str, name: str = "a") -> Any:
    """Return what the SQL expression *sql* becomes as attribute *name*: its JSON, or why it is rejected."""
    query = f"SELECT 'u' AS id, {sql} AS a"
    result = staged("duckdb://", tmp_path, query=query, attributes={"a": name})
    return result.rejects[0][2] if result.rejects else result.rows["u"][0]


@pytest.mark.sample(15)
@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("'x\"é'", '{"a":"x\\"é"}'),
        ("''", '{"a":""}'),
        ("NULL::VARCHAR", None),
        ("true", '{"a":true}'),
        ("5::TINYINT", '{"a":5}'),
        ("9223372036854775807::UBIGINT", '{"a":9223372036854775807}'),
        ("-9223372036854775808::HUGEINT", '{"a":-9223372036854775808}'),
        ("12::DECIMAL(38,0)", '{"a":12}'),
        ("12.50::DECIMAL(5,2)", '{"a":12.5}'),
        ("0.1::FLOAT", '{"a":0.1}'),
        ("0.1::DOUBLE + 0.2::DOUBLE", '{"a":0.30000000000000004}'),
        ("1e300::DOUBLE", '{"a":1e300}'),
        ("'6d92078a-8246-4ba4-ae5b-76104861e7dc'::UUID", '{"a":"6d92078a-8246-4ba4-ae5b-76104861e7dc"}'),
        ("'x'::ENUM('x')", '{"a":"x"}'),
        ("DATE '2023-08-12'", '{"date(a)":"2023-08-12T00:00:00Z"}'),
        ("TIMESTAMP '2023-08-12 22:30:05.9'", '{"date(a)":"2023-08-12T22:30:05Z"}'),
        ("TIMESTAMP_NS '2023-08-12 22:30:05.9'", '{"date(a)":"2023-08-12T22:30:05Z"}'),
        ("TIMESTAMPTZ '2023-08-12 22:30:05+02'", '{"date(a)":"2023-08-12T20:30:05Z"}'),
        ("['x', 'y']", '{"a":["x","y"]}'),
        ("[1, 2]", '{"a":[1,2]}'),
        ("[0.1::FLOAT, 2]", '{"a":[0.1,2.0]}'),
        ("[true]", '{"a":[true]}'),
        ("[1.50::DECIMAL(5,2), 2]", '{"a":[1.5,2.0]}'),
        ("[12::DECIMAL(5,0)]", '{"a":[12]}'),
        ("[]::VARCHAR[]", '{"a":[]}'),
        ("NULL::INTEGER[]", None),
        ("'[1, \"x\", 2.50, true]'::JSON", '{"a":[1,"x",2.5,true]}'),
        ("'1e2'::JSON", '{"a":100.0}'),
        ("'null'::JSON", None),
        ("9223372036854775808::UBIGINT", Reason.ATTRIBUTE_NUMBER),
        ("9223372036854775808::HUGEINT", Reason.ATTRIBUTE_NUMBER),
        ("99999999999999999999::DECIMAL(38,0)", Reason.ATTRIBUTE_NUMBER),
        ("'nan'::DOUBLE", Reason.ATTRIBUTE_NUMBER),
        ("'-infinity'::FLOAT", Reason.ATTRIBUTE_NUMBER),
        ("['nan'::DOUBLE]", Reason.ATTRIBUTE_NUMBER),
        ("[18446744073709551615::UBIGINT]", Reason.ATTRIBUTE_NUMBER),
        ("[1, NULL]", Reason.ATTRIBUTE_TYPE),
        ("'infinity'::TIMESTAMP", Reason.ATTRIBUTE_DATE),
        ("'infinity'::DATE", Reason.ATTRIBUTE_DATE),
        ("'-infinity'::TIMESTAMPTZ", Reason.ATTRIBUTE_DATE),
        ("DATE '12345-01-01'", Reason.ATTRIBUTE_DATE),
        ("DATE '5881580-07-10'", Reason.ATTRIBUTE_DATE),
        ("DATE '5877642-06-25 (BC)'", Reason.ATTRIBUTE_DATE),
        ("'18446744073709551615'::JSON", Reason.ATTRIBUTE_NUMBER),
        ("'99999999999999999999'::JSON", Reason.ATTRIBUTE_NUMBER),
        ("'1e400'::JSON", Reason.ATTRIBUTE_NUMBER),
        ("'{\"b\": 1}'::JSON", Reason.ATTRIBUTE_TYPE),
        ("'[[1]]'::JSON", Reason.ATTRIBUTE_TYPE),
        ("'[null]'::JSON", Reason.ATTRIBUTE_TYPE),
    ],
)
def test_values_become_canonical_json(sql: str, expected: str | None, tmp_path: Path) -> None:
    """A value of each type has the one spelling that Batch takes, or its row is rejected with a reason."""
    assert _attribute(tmp_path, sql) == expected


@pytest.mark.sample(8)
@pytest.mark.parametrize(
    ("name", "sql", "expected"),
    [
        ("date(d)", "'2023-08-12T22:30:05Z'", '{"date(d)":"2023-08-12T22:30:05Z"}'),
        ("date(d)", "'2023-08-12 22:30:05.123+0200'", '{"date(d)":"2023-08-12T20:30:05Z"}'),
        ("date(d)", "'2023-08-12T22:30:05.123'", '{"date(d)":"2023-08-12T22:30:05Z"}'),
        ("date(d)", "'2023-08-12 22:30'", '{"date(d)":"2023-08-12T22:30:00Z"}'),
        ("date(d)", "'2023-08-12'", '{"date(d)":"2023-08-12T00:00:00Z"}'),
        ("date(d)", "'2023-08-12T22:30-01:30'", '{"date(d)":"2023-08-13T00:00:00Z"}'),
        ("date(d)", "NULL::VARCHAR", None),
        ("date(d)", "DATE '2023-08-12'", '{"date(d)":"2023-08-12T00:00:00Z"}'),
        ("date(d)", "'\"2023-08-12T22:30:05Z\"'::JSON", '{"date(d)":"2023-08-12T22:30:05Z"}'),
        ("date(d)", "'null'::JSON", None),
        ("date(d)", "'2023-08-12T'", Reason.ATTRIBUTE_DATE),
        ("date(d)", "'2023-02-31T22:30:05'", Reason.ATTRIBUTE_DATE),
        ("date(d)", "'2023-02-31T22:30:05Z'", Reason.ATTRIBUTE_DATE),
        ("date(d)", "'12/08/2023'", Reason.ATTRIBUTE_DATE),
        ("date(d)", "'infinity'", Reason.ATTRIBUTE_DATE),
        ("date(d)", "'9999-12-31T23:59:59-05:00'", Reason.ATTRIBUTE_DATE),
        ("date(d)", "'0001-01-01T00:00:00+14:00'", Reason.ATTRIBUTE_DATE),
        ("date(d)", "'\"soon\"'::JSON", Reason.ATTRIBUTE_DATE),
        ("date(d)", "'5'::JSON", Reason.ATTRIBUTE_TYPE),
        ("url(w)", "'https://example.com/a?b=c'", '{"url(w)":"https://example.com/a?b=c"}'),
        ("url(w)", "'\"http://example.com\"'::JSON", '{"url(w)":"http://example.com"}'),
        ("url(w)", "NULL::VARCHAR", None),
        ("url(w)", "'HTTPS://example.com'", '{"url(w)":"HTTPS://example.com"}'),
        ("url(w)", "'ftp://example.com'", Reason.ATTRIBUTE_URL),
        ("url(w)", "'https://example.com/a b'", Reason.ATTRIBUTE_URL),
        ("url(w)", "'https://'", Reason.ATTRIBUTE_URL),
        ("url(w)", "'\"example.com\"'::JSON", Reason.ATTRIBUTE_URL),
        ("url(w)", "'true'::JSON", Reason.ATTRIBUTE_TYPE),
    ],
)
def test_typed_names_check_their_values(name: str, sql: str, expected: str | None, tmp_path: Path) -> None:
    """`date(name)` takes moments with a zone and `url(name)` web addresses, as Member does."""
    assert _attribute(tmp_path, sql, name) == expected


@pytest.mark.parametrize(
    ("name", "sql"),
    [
        ("a", "{'b': 1}"),
        ("a", "MAP {'b': 1}"),
        ("a", "TIME '12:00'"),
        ("a", "'x'::BLOB"),
        ("a", "[DATE '2023-08-12']"),
        ("a", "[['x']]"),
        ("date(d)", "5"),
        ("url(w)", "true"),
        ("url(w)", "DATE '2023-08-12'"),
    ],
)
def test_columns_that_cannot_be_attributes_are_refused(name: str, sql: str, tmp_path: Path) -> None:
    """A column of a type without an attribute type in Batch is an error that names it."""
    query = f"SELECT 'u' AS id, {sql} AS a"
    error = refusal("duckdb://", tmp_path, query=query, attributes={"a": name})
    assert "column 'a'" in str(error)


def test_two_columns_cannot_become_one_attribute(tmp_path: Path) -> None:
    """A timestamp gets the name `date(…)`. Another column of that name is an error."""
    query = "SELECT 'u' AS id, TIMESTAMP '2023-08-12' AS a, '2023-08-12T00:00:00Z' AS b"
    error = refusal("duckdb://", tmp_path, query=query, attributes={"a": "seen", "b": "date(seen)"})
    assert "same attribute" in str(error)


def test_attributes_are_sorted_and_without_nulls(tmp_path: Path) -> None:
    """Names are sorted whatever the order of the columns, and a row without values has no attributes."""
    query = "SELECT 'u' AS id, 1 AS z, NULL::INTEGER AS m, 'x' AS b UNION ALL SELECT 'v', NULL, NULL, NULL"
    result = staged("duckdb://", tmp_path, query=query, attributes={"z": "a\"'", "m": "m", "b": "é"})
    assert {key: row[0] for key, row in result.rows.items()} == {"u": '{"a\\"\'":1,"é":"x"}', "v": None}


def test_row_has_at_most_fifteen_attributes(tmp_path: Path) -> None:
    """More than fifteen columns are valid if no row has more than fifteen values."""
    columns = [f"c{number}" for number in range(16)]
    full = ", ".join(f"{number} AS {name}" for number, name in enumerate(columns))
    query = f"SELECT 'full' AS id, {full} UNION ALL SELECT 'less', NULL, {', '.join('1' * 15)}"
    result = staged("duckdb://", tmp_path, query=query, attributes=columns)
    assert result.ids == {"less"}
    assert result.counts.reasons == {Reason.TOO_MANY_ATTRIBUTES: 1}


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("'b, a ,,b'", ["a", "b"]),
        ("' , '", None),
        ("NULL::VARCHAR", None),
        ("['b', 'a', 'b']", ["a", "b"]),
        ("['x,y']", ["x,y"]),
        ("[]::VARCHAR[]", None),
        ("NULL::VARCHAR[]", None),
        ('\'["b", "a", "b"]\'::JSON', ["a", "b"]),
        ("'\"b,a\"'::JSON", ["a", "b"]),
        ("'null'::JSON", None),
        ("NULL::JSON", None),
        ("['a', NULL]", Reason.TAGS),
        ("['a', '']", Reason.TAGS),
        ("'[1]'::JSON", Reason.TAGS),
        ("'[\"\"]'::JSON", Reason.TAGS),
        ("'5'::JSON", Reason.TAGS),
    ],
)
def test_tags_are_a_set(sql: str, expected: Any, tmp_path: Path) -> None:
    """Tags come from a list or comma-separated text, sorted and without duplicates. Others reject the row."""
    result = staged("duckdb://", tmp_path, query=f"SELECT 'u' AS id, {sql} AS t", tags_column="t")
    assert (result.rejects[0][2] if result.rejects else result.tags["u"]) == expected


def test_tags_of_another_type_are_refused(tmp_path: Path) -> None:
    """A column of numbers cannot be a column of tags."""
    assert "column 't' has the type INTEGER" in str(
        refusal("duckdb://", tmp_path, query="SELECT 'u' id, 1 t", tags_column="t")
    )


_SCALARS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
)
_NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=6)
_PLAIN_NAMES = _NAMES.filter(lambda name: name.strip() and "(" not in name)


@settings(max_examples=examples(15, 150))
@given(
    attributes=st.dictionaries(_PLAIN_NAMES, st.one_of(_SCALARS, st.lists(_SCALARS, max_size=4)), max_size=5)
)
@example(attributes={"a": -0.0, "b": 1e16, "c": 123456789012345680.0, "d": 1e-7, "e": 5e-324})
def test_attributes_are_the_same_from_a_file_and_from_a_program(
    connection: duckdb.DuckDBPyConnection,
    tmp_path_factory: pytest.TempPathFactory,
    attributes: dict[str, Any],
) -> None:
    """Any attributes mean the same whether they come as a Member or as a line of JSON."""
    file = tmp_path_factory.getbasetemp() / "attributes.jsonl"
    columns = {f"k{number}": name for number, name in enumerate(attributes)}
    values = dict(zip(columns, attributes.values(), strict=True))
    file.write_bytes(orjson.dumps({"id": "u", **values}))

    def read(source: Source) -> Any:
        stage(connection, source, IdRules())
        return connection.execute("SELECT attributes FROM staged").fetchall()[0][0]

    from_file = read(Source.parse(file, attributes=columns))
    from_program = read(Source.of([Member("u", attributes=attributes)]))
    assert from_file == from_program
    assert (json.loads(from_file) if from_file else {}) == attributes
