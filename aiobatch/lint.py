"""A check for IDs that the API accepts but that match no user."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator, Mapping

import attrs

from ._validation import check_listing, is_unicode
from .models import Member, check_id

__all__ = ["LintFinding", "LintKind", "LintReport", "find_kinds", "lint_ids"]

# BATCH_API.md, "Bodies": Batch's Android SDK refuses to register these, in any case.
REFUSED_WORDS = frozenset(
    {
        "undefined",
        "null",
        "nil",
        "(null)",
        "[object object]",
        "true",
        "false",
        "nan",
        "infinity",
        "-infinity",
    }
)
# What databases, data frames and spreadsheets write in place of a missing value, in lower case.
PLACEHOLDERS = frozenset(
    {
        *("n/a", "#n/a", "na", "<na>", "nat", "(none)", "(blank)", "(empty)", "\\n", "-", "--", "?"),
        *("#null!", "#ref!", "#value!", "#name?", "#num!", "#div/0!"),
    }
)
# The usual names of an ID column, in lower case. As an ID, they are the header of another part of the file.
HEADERS = frozenset({"id", "ids", "user_id", "userid", "user id", "custom_id", "customid", "custom id"})
# Numbers that a spreadsheet shortened, and whole numbers that became floats. Python and DuckDB read both.
SCIENTIFIC = r"[+-]?[0-9]+([.,][0-9]+)?[eE][+][0-9]{1,3}"
DECIMAL = r"[+-]?[0-9]+\.0+"
# A byte order mark, and other characters without a width that come from copied text.
INVISIBLE = "\ufeff\u200b\u2060\u00ad"
# BATCH_API.md, "Bodies": the web page on custom IDs asks for less than 512 characters.
TOO_LONG = 512
# Positions of each kind that a report lists.
_SAMPLES = 10


class LintKind(enum.StrEnum):
    """Why an ID matches no user."""

    REFUSED_WORD = "refused_word"
    PLACEHOLDER = "placeholder"
    HEADER = "header"
    SCIENTIFIC = "scientific"
    DECIMAL = "decimal"
    INVISIBLE = "invisible"
    WHITESPACE = "whitespace"
    TOO_LONG = "too_long"
    INVALID = "invalid"


@attrs.frozen(kw_only=True)
class LintFinding:
    """The IDs of one kind.

    Attributes:
        count: Their number.
        positions: The positions of the first ten, from 0.
    """

    count: int
    positions: tuple[int, ...]


@attrs.frozen(kw_only=True)
class LintReport:
    """What `lint_ids` found. It contains no ID.

    Attributes:
        checked: Number of IDs.
        findings: The kinds that occur, with their IDs. An ID may be of several kinds.
    """

    checked: int
    findings: Mapping[LintKind, LintFinding]


def lint_ids(ids: Iterable[str | Member]) -> LintReport:
    """Count the IDs that match no user, by kind. Nothing is sent.

    The kinds are words that Batch's SDKs refuse (`null`, `undefined`, `NaN` and others, in any case),
    placeholders (`N/A`), names of ID columns (`user_id`), numbers in scientific notation
    (`1.23457E+15`), whole numbers with decimals (`1001.0`), invisible characters such as a byte order mark,
    whitespace at the start or end, 512 or more characters, and strings that the client refuses to send
    (empty, with NUL or with lone surrogates).

    Args:
        ids: IDs and Members, read once.

    Raises:
        InvalidInputError: *ids* is not an iterable of IDs, or an item is neither a string nor a Member.
    """
    counts: dict[LintKind, int] = {}
    positions: dict[LintKind, list[int]] = {}
    checked = 0
    for position, item in enumerate(check_listing(ids, "ids")):
        value = item.id if isinstance(item, Member) else item
        if not isinstance(value, str):
            check_id(value, f"ids[{position}]")  # raises
        checked += 1
        for kind in find_kinds(value):
            counts[kind] = counts.get(kind, 0) + 1
            if counts[kind] <= _SAMPLES:
                positions.setdefault(kind, []).append(position)
    findings = {
        kind: LintFinding(count=counts[kind], positions=tuple(positions[kind]))
        for kind in LintKind
        if kind in counts
    }
    return LintReport(checked=checked, findings=findings)


def find_kinds(value: str) -> Iterator[LintKind]:
    """Yield the reasons why the ID *value* matches no user."""
    word = value.lower()
    tests = {
        LintKind.REFUSED_WORD: word in REFUSED_WORDS,
        LintKind.PLACEHOLDER: word in PLACEHOLDERS,
        LintKind.HEADER: word in HEADERS,
        LintKind.SCIENTIFIC: re.fullmatch(SCIENTIFIC, value) is not None,
        LintKind.DECIMAL: re.fullmatch(DECIMAL, value) is not None,
        LintKind.INVISIBLE: any(character in value for character in INVISIBLE),
        LintKind.WHITESPACE: value != value.strip(),
        LintKind.TOO_LONG: len(value) >= TOO_LONG,
        LintKind.INVALID: not value or "\0" in value or not is_unicode(value),
    }
    yield from (kind for kind, is_found in tests.items() if is_found)
