from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiobatch import (
    AttributeLintKind,
    InvalidInputError,
    LintKind,
    LintReport,
    Member,
    lint_attributes,
    lint_ids,
)

from .client.arguments.tables import COLUMNS, MISSING, TABLES

# BATCH_API.md, "Bodies".
WORDS = [
    "undefined",
    "null",
    "nil",
    "(null)",
    "true",
    "false",
    "nan",
    "infinity",
    "-infinity",
    "[object object]",
]


def counts(report: LintReport) -> dict[str, int]:
    """Return the number of IDs of each kind."""
    return {str(kind): finding.count for kind, finding in report.findings.items()}


@given(st.sampled_from(WORDS), st.randoms(use_true_random=False))
def test_refused_words_are_found_in_any_case(word: str, rng: Any) -> None:
    """Each word is found however it is written, and no longer word that contains it."""
    written = "".join(rng.choice([letter.lower(), letter.upper()]) for letter in word)
    assert counts(lint_ids([written])) == {"refused_word": 1}
    assert counts(lint_ids([f"{written}1", f"x{written}", Member(f"{written}-{written}")])) == {}


@pytest.mark.parametrize(
    ("value", "kinds"),
    [
        ("u1", set()),
        ("u 1", set()),
        (" u1", {"whitespace"}),
        ("u1\n", {"whitespace"}),
        ("u1\u00a0", {"whitespace"}),
        ("x" * 511, set()),
        ("x" * 512, {"too_long"}),
        ("x" * 5000 + " ", {"too_long", "whitespace"}),
        ("", {"invalid"}),
        ("u\0", {"invalid"}),
        ("x" * 600 + "\ud800", {"invalid", "too_long"}),
        ("{" * 100_000, {"too_long"}),
        ("{{user_id}}", {"template"}),
        ("<b>1</b>", {"html"}),
        ("0", set()),
        ("nones", set()),
    ],
)
@pytest.mark.parametrize("shape", [list, tuple, iter, lambda ids: (each for each in ids)])
def test_ids_that_match_no_user_are_found(
    value: str, kinds: set[str], shape: Callable[[list[str]], Iterable[str]]
) -> None:
    """An ID is counted once for each kind, with its position."""
    report = lint_ids(shape(["u0", value, "u2", value]))
    assert report.checked == 4
    assert counts(report) == dict.fromkeys(kinds, 2)
    assert all(finding.positions == (1, 3) for finding in report.findings.values())


def test_samples_are_limited() -> None:
    """Of a million IDs of one kind the first ten positions are listed."""
    finding = lint_ids("null" for _ in range(10_000)).findings[LintKind.REFUSED_WORD]
    assert (finding.count, finding.positions) == (10_000, tuple(range(10)))


def test_report_shows_no_id() -> None:
    """The report goes into logs."""
    assert "zoe" not in repr(lint_ids([" zoe@example.com", Member("zoe@example.com ")]))


@pytest.mark.parametrize("kind", list(COLUMNS))
def test_column_can_be_linted(kind: str) -> None:
    """What `upload` accepts can be linted."""
    assert lint_ids(COLUMNS[kind]).checked == 2


@pytest.mark.parametrize("table", [*TABLES.values(), "u1", None, 5])
def test_table_cannot_be_linted(table: Any) -> None:
    """What `upload` refuses is refused."""
    with pytest.raises(InvalidInputError, match=r"^ids must be a list of IDs"):
        lint_ids(table)


@pytest.mark.parametrize("value", [*MISSING.values(), 5, b"u1"])
def test_other_types_are_rejected_by_position(value: Any) -> None:
    """An item that is no string cannot be linted."""
    with pytest.raises(InvalidInputError, match=r"^ids\[1\]: an ID must be a string"):
        lint_ids(["u0", value])


@pytest.mark.parametrize(
    ("attributes", "kinds", "on_mobile"),
    [
        ({"age": 5, "vip": True, "score": 1.5, "a" * 30: "x"}, [], []),
        ({"a" * 31: 1}, ["name"], ["name"]),
        ({"first name": 1}, ["name"], ["name"]),
        ({"été": 1}, ["name"], ["name"]),
        ({f"date({'a' * 31})": "2023-08-12"}, ["name"], ["name"]),
        ({"date(signed_up)": "2023-08-12"}, [], []),
        ({"city": "x" * 64}, [], []),
        ({"city": "x" * 65}, [], ["string"]),
        ({"city": "x" * 300}, [], ["string"]),
        ({"city": "x" * 301}, ["string"], ["string"]),
        ({"city": ""}, ["string"], ["string"]),
        ({"url(a)": "https://a.example/".ljust(2048, "x")}, [], []),
        ({"url(a)": "https://a.example/".ljust(2049, "x")}, ["url"], ["url"]),
        ({"likes": ["x"] * 25}, [], []),
        ({"likes": ["x"] * 26}, ["array"], ["array"]),
        ({"likes": []}, ["array"], ["array"]),
        ({"likes": ["x", 1]}, ["array"], ["array"]),
        ({"likes": ["x" * 65]}, [], ["array"]),
        ({"likes": [""]}, ["array"], ["array"]),
    ],
)
def test_attributes_beyond_the_limits_are_found(
    attributes: dict[str, Any], kinds: list[str], on_mobile: list[str]
) -> None:
    """Each limit of the Profile API is checked at its edge, in both generations."""
    for mobile, expected in ((False, kinds), (True, on_mobile)):
        report = lint_attributes([Member("u1"), Member("u2", attributes=attributes)], mobile=mobile)
        assert [str(kind) for kind in report.findings] == expected
        assert all(finding.positions == (1,) for finding in report.findings.values())


def test_long_tags_are_found() -> None:
    """A tag has at most 64 characters."""
    report = lint_attributes([Member("u1", tags=["x" * 64]), Member("u2", tags=["x", "x" * 65])])
    assert report.findings[AttributeLintKind.TAG].positions == (1,)


def test_attribute_findings_are_counted_with_ten_samples() -> None:
    """A Member counts once for each kind. The report contains neither its ID nor a value."""
    member = Member("u1", attributes={"first name": "secret" * 60, "last name": "b"}, tags=["t" * 65])
    report = lint_attributes(["u0", *[member] * 20])
    assert report.checked == 21
    assert list(report.findings) == [
        AttributeLintKind.NAME,
        AttributeLintKind.STRING,
        AttributeLintKind.TAG,
    ]
    assert all(finding.count == 20 for finding in report.findings.values())
    assert report.findings[AttributeLintKind.NAME].positions == tuple(range(1, 11))
    assert "u1" not in repr(report)
    assert "secret" not in repr(report)


@pytest.mark.parametrize("members", ["u1", 5, None, [5], [None], [""]])
def test_attributes_of_no_members_are_refused(members: Any) -> None:
    """The argument is an iterable of IDs and Members."""
    with pytest.raises(InvalidInputError, match="members"):
        lint_attributes(members)
