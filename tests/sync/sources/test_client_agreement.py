"""What staging accepts the client accepts too: a row's fault shows before anything is sent."""

from __future__ import annotations

import json
from typing import Any

import duckdb
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiobatch.errors import InvalidInputError
from aiobatch.models import Member
from aiobatch.sync.sources._id_rules import IdRules
from aiobatch.sync.sources._source import Source
from aiobatch.sync.sources._stage import stage

from ...helpers.sweep import examples

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_BLANKS = st.text(st.sampled_from(" \t\r\n\v\f\x00\x1c\x85\xa0\u2003\u2028\u3000a/"), max_size=3)
_URLS = st.builds("{}://{}{}{}".format, st.sampled_from(["http", "HTTPS", "ftp"]), _BLANKS, _TEXT, _BLANKS)
_YEARS = st.sampled_from(["0000", "0001", "1999", "2024", "9999"])
_DAYS = st.sampled_from(["01-01", "02-29", "02-30", "12-31", "13-01"])
_TIMES = st.sampled_from(["00:00", "23:59:59", "23:59:60", "24:00", "12:30:00.123456789", "25:00"])
_ZONES = st.sampled_from(["", "Z", "+14:00", "-12:00", "+99:99", "+0530", "-05"])
_DATES = st.builds("{}-{}{}{}{}".format, _YEARS, _DAYS, st.sampled_from("T "), _TIMES, _ZONES)
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63) - 1, 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    _TEXT,
)
_VALUES = st.one_of(_SCALARS, st.lists(_SCALARS, max_size=3), st.dictionaries(_TEXT, _SCALARS, max_size=1))
_ROWS = st.fixed_dictionaries(
    {"id": st.one_of(_TEXT, _BLANKS, st.sampled_from(["a" * 1024, "a" * 1025]))},
    optional={
        "a": st.one_of(_VALUES, _BLANKS),
        "d": st.one_of(_DATES, _TEXT, _VALUES),
        "u": st.one_of(_URLS, _TEXT, _VALUES),
        "t": st.one_of(_TEXT, _BLANKS, st.lists(st.one_of(_TEXT, _SCALARS), max_size=3), _VALUES),
    },
)


def _check(connection: duckdb.DuckDBPyConnection) -> None:
    """Make a Member of each row that was accepted, as it is done before it is sent."""
    for id_, attributes, tags in connection.execute("SELECT id, attributes, tags FROM staged").fetchall():
        Member(id_, attributes=orjson.loads(attributes or b"{}"), tags=tags or ())


@settings(max_examples=examples(15, 150))
@given(rows=st.lists(_ROWS, min_size=1, max_size=20))
@example(rows=[{"id": "1", "u": "https://x y"}])
@example(rows=[{"id": "1", "u": "https://x\xa0y"}, {"id": "2", "u": "https://"}])
@example(rows=[{"id": "1", "d": "9999-12-31T23:59:59-12:00"}, {"id": "2", "d": "0001-01-01T00:00+14:00"}])
def test_any_staged_line_is_valid_in_a_member(
    connection: duckdb.DuckDBPyConnection,
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, Any]],
) -> None:
    """Any line of a JSON lines file: IDs, attributes of each kind and tags."""
    file = tmp_path_factory.getbasetemp() / "accepted.jsonl"
    file.write_bytes("\n".join(map(json.dumps, rows)).encode())
    columns = {"a": "a", "d": "date(d)", "u": "url(u)"}
    stage(connection, Source.parse(file, id_column="id", attributes=columns, tags_column="t"), IdRules())
    _check(connection)


@settings(max_examples=examples(15, 150))
@given(micros=st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=20))
def test_any_staged_value_of_a_typed_column_is_valid_in_a_member(
    connection: duckdb.DuckDBPyConnection, micros: list[int]
) -> None:
    """Moments, numbers and lists of any size, from a database or a Parquet file."""
    moment = "make_timestamp(n)"
    columns = {
        "m": moment,
        "z": f"{moment}::TIMESTAMPTZ",
        "y": f"({moment}::DATE + 4000000)",
        "f": "(n::DOUBLE ** 21)",
        "h": "n::HUGEINT * 7",
        "l": "[n::UHUGEINT * 5]" if min(micros) >= 0 else "[n]",
    }
    named = ", ".join(f"{sql} AS {name}" for name, sql in columns.items())
    query = f"SELECT 'u' || n AS id, {named} FROM (SELECT unnest({micros}) AS n)"
    stage(connection, Source.parse("duckdb://", query=query, attributes=list(columns)), IdRules())
    _check(connection)


@pytest.mark.parametrize("name", ["", " ", "date()", "url( )", "a\0b", "a\udc80"])
def test_attribute_name_that_members_refuse_is_refused(name: str) -> None:
    """An invalid name applies to every row, so the source is refused at once."""
    with pytest.raises(InvalidInputError):
        Member("u", attributes={name: "https://x"})
    with pytest.raises(InvalidInputError, match="attributes must be a list of column names"):
        Source.parse("users.csv", attributes={"column": name})
