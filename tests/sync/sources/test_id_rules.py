from __future__ import annotations

import sys
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiobatch.models import MAX_ID_LENGTH, IdType
from aiobatch.sync.sources._id_rules import WHITESPACE, IdRules, Reason
from aiobatch.sync.sources._source import Source
from aiobatch.sync.sources._stage import stage

from ...helpers.sweep import examples
from ..staged import refusal, staged

_ZERO = "00000000-0000-0000-0000-000000000000"
_UUID = "6d92078a-8246-4ba4-ae5b-76104861e7dc"


def _expected(raw: str, rules: IdRules) -> str | Reason:
    """Return the expected result for *raw* in Python: the normalized ID, or the reason for its rejection."""
    text = raw.strip() if rules.trim else raw
    if not raw.strip():
        return Reason.EMPTY
    if len(text) > MAX_ID_LENGTH:
        return Reason.TOO_LONG
    if any(unicodedata.category(char) == "Cc" for char in text):
        return Reason.CONTROL_CHARACTER
    if rules.id_type is not IdType.ADVERTISING_IDS:
        return text
    try:
        canonical = str(UUID(text)) == text.lower()
    except ValueError:
        canonical = False
    if not canonical:
        return Reason.NOT_A_UUID
    return Reason.OPTED_OUT if text == _ZERO else text.lower()


_WEIRD = st.text(
    st.sampled_from(" \t\n\r\x00\x1c\x7f\x85\xa0\u2003\u200b\u2028\u3000\ufeffaZ0é😀\"',;|\\"), max_size=8
)
_TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    _WEIRD,
    st.sampled_from(["00123", "1e5", "a" * 1024, "a" * 1025, "é" * 1024, " " * 2000, _ZERO, f" {_ZERO}\n"]),
    st.uuids().map(str),
    st.uuids().map(lambda value: str(value).upper()),
    st.uuids().map(lambda value: f"{{{value}}}"),
)
_RULES = st.builds(
    IdRules,
    id_type=st.sampled_from([IdType.CUSTOM_IDS, IdType.ADVERTISING_IDS, IdType.INSTALL_IDS]),
    trim=st.booleans(),
)


@settings(max_examples=examples(15, 150))
@given(ids=st.lists(_TEXTS, max_size=40), rules=_RULES)
@example(ids=["a", "a", " a ", "b"], rules=IdRules())
@example(ids=[_UUID, _UUID.upper(), f" {_UUID}\u3000"], rules=IdRules(id_type=IdType.ADVERTISING_IDS))
def test_any_ids_are_kept_or_rejected_by_the_rules(
    connection: duckdb.DuckDBPyConnection, ids: list[str], rules: IdRules
) -> None:
    """For any IDs, the accounting adds up, and the kept IDs are those of the same rules in Python."""
    verdicts = [_expected(raw, rules) for raw in ids]
    reasons = Counter(verdict for verdict in verdicts if isinstance(verdict, Reason))
    kept = {verdict for verdict in verdicts if not isinstance(verdict, Reason)}

    counts = stage(connection, Source.of(ids), rules)

    assert {row[0] for row in connection.execute("SELECT id FROM staged").fetchall()} == kept
    assert counts.reasons == reasons
    assert (counts.read, counts.kept, counts.rejected) == (len(ids), len(kept), sum(reasons.values()))
    assert counts.read == counts.kept + counts.duplicate + counts.rejected


@settings(max_examples=examples(15, 150))
@given(ids=st.lists(_TEXTS, min_size=1, max_size=20))
def test_rules_are_idempotent(connection: duckdb.DuckDBPyConnection, ids: list[str]) -> None:
    """A normalized ID is kept as it is, so that an added ID can be removed."""
    stage(connection, Source.of(ids), IdRules())
    kept = [row[0] for row in connection.execute("SELECT id FROM staged").fetchall()]
    counts = stage(connection, Source.of(kept), IdRules())
    assert (counts.kept, counts.duplicate, counts.rejected) == (len(kept), 0, 0)


@pytest.mark.parametrize(
    ("kind", "written", "kept"),
    [
        ("VARCHAR", "00123", "00123"),
        ("VARCHAR", "1e5", "1e5"),
        ("BIGINT", "-9223372036854775808", "-9223372036854775808"),
        ("UBIGINT", "18446744073709551615", "18446744073709551615"),
        ("HUGEINT", "123456789012345678901234567890", "123456789012345678901234567890"),
        ("DECIMAL(38,0)", "12345678901234567890123456789012345678", "12345678901234567890123456789012345678"),
        ("UUID", _UUID.upper(), _UUID),
        ("ENUM('x', 'y')", "y", "y"),
        ("JSON", '"00123"', "00123"),
        ("JSON", "123", "123"),
        ("JSON", "123456789012345678901234567890", "123456789012345678901234567890"),
    ],
)
def test_ids_are_kept_exactly_as_written(kind: str, written: str, kept: str, tmp_path: Path) -> None:
    """Text stays text, and a whole number of any width becomes its digits."""
    result = staged("duckdb://", tmp_path, query=f"SELECT '{written}'::{kind} AS id")
    assert result.ids == {kept}


@pytest.mark.parametrize("kind", ["DOUBLE", "FLOAT", "DECIMAL(10,2)", "BOOLEAN", "DATE", "BLOB", "VARCHAR[]"])
def test_columns_that_lose_digits_are_refused(kind: str, tmp_path: Path) -> None:
    """A column of fractions, dates or bytes cannot contain IDs, and the source is refused."""
    error = refusal("duckdb://", tmp_path, query=f"SELECT NULL::{kind} AS id")
    assert f"column 'id' has the type {kind}" in str(error)
    assert "cast" in str(error)


@pytest.mark.parametrize("value", ["1e5", "1.0", "true", "[1]", '{"a": 1}'])
def test_json_values_that_are_not_ids_are_rejected(value: str, tmp_path: Path) -> None:
    """In JSON, each row has its own type, so only the row is rejected."""
    result = staged("duckdb://", tmp_path, query=f"SELECT '{value}'::JSON AS id UNION ALL SELECT '\"x\"'")
    assert result.ids == {"x"}
    assert [reject[2] for reject in result.rejects] == [Reason.NOT_TEXT]


def test_json_null_is_an_empty_id(tmp_path: Path) -> None:
    """A JSON null and a missing key are an empty ID, as NULL is."""
    (tmp_path / "x.jsonl").write_text('{"id": "a"}\n{"id": null}\n{}\n')
    result = staged(tmp_path / "x.jsonl", tmp_path)
    assert [reject[1:3] for reject in result.rejects] == [(2, Reason.EMPTY), (3, Reason.EMPTY)]


def test_rules_have_a_unique_text() -> None:
    """Two sets of rules have the same text only if they are the same."""
    rules: Sequence[IdRules] = [
        IdRules(),
        IdRules(trim=False),
        IdRules(id_type=IdType.ADVERTISING_IDS),
    ]
    assert len({str(rule) for rule in rules}) == len(rules)
    assert str(IdRules()) == "custom_ids trim=yes max_length=1024"


def test_all_whitespace_is_trimmed() -> None:
    """The trimmed characters are those that `str.strip` removes, of all Unicode."""
    assert set(WHITESPACE) == {char for char in map(chr, range(sys.maxunicode + 1)) if char.isspace()}
