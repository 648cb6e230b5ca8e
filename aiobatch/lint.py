"""Checks for IDs that the API accepts but that match no user, and for attributes beyond Batch's limits."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import attrs

from ._validation import check_listing, is_unicode, split_typed
from .models import Member, check_id

__all__ = [
    "AttributeLintKind",
    "AttributeLintReport",
    "LintFinding",
    "LintKind",
    "LintReport",
    "find_attribute_kinds",
    "find_kinds",
    "lint_attributes",
    "lint_ids",
]

_Kind = TypeVar("_Kind", bound=enum.StrEnum)

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
        *("#null!", "#ref!", "#value!", "#name?", "#num!", "#div/0!", "#spill!", "#calc!", "#n/a n/a"),
        *("none", "<null>", "n.a.", "inf", "-inf", "-nan", "1.#qnan", "1.#ind", "-1.#ind"),
        # The advertising ID of a device whose user allows no tracking.
        "00000000-0000-0000-0000-000000000000",
    }
)
# The usual names of an ID column, in lower case. As an ID, they are the header of another part of the file.
HEADERS = frozenset({"id", "ids", "user_id", "userid", "user id", "custom_id", "customid", "custom id"})
# Numbers that a spreadsheet shortened, and whole numbers that became floats. Python and DuckDB read both.
SCIENTIFIC = r"[+-]?[0-9]+([.,][0-9]+)?[eE][+][0-9]{1,3}"
DECIMAL = r"[+-]?[0-9]+\.0+"
# A merge tag that was not filled: within the ID if its signs have no other use, else as all of it.
_WORD = "[A-Za-z_][A-Za-z0-9_. -]*"
TEMPLATE = (
    r"(?s).*(\{\{.*\}\}|\{%.*%\}|[$#@]\{.*\}|<%.*%>|%%" + _WORD + r"%%).*"
    r"|\*\|.*\|\*|\[\[.*\]\]|<<.*>>|%" + _WORD + r"%|%[sd]|%\([A-Za-z_]+\)[sd]"
    r"|\{([0-9]{0,2}|[A-Za-z_][A-Za-z_. ]*)\}|\[[A-Za-z_][A-Za-z_.]*\]"
    r"|\$[A-Za-z_][A-Za-z_.]*|\$\([A-Za-z_]+\)"
    r"|<[A-Za-z]+([ _.-][A-Za-z]+)+>|<[A-Za-z]*([Ii][Dd]|[Ee][Mm][Aa][Ii][Ll]|[Nn][Aa][Mm][Ee])>"
)
# Signs that a merge tag contains, and its other beginnings. To search for them costs little.
TEMPLATE_SIGNS = ("{", "%", "<")
TEMPLATE_STARTS = ("*|", "[", "$")
# A closing or empty tag, one with an attribute, a well-known one, a comment, or an entity.
HTML = (
    r"(?s).*(</[A-Za-z][A-Za-z0-9]*>|<[A-Za-z][A-Za-z0-9]*( [^<>]*)?/>"
    r"|<[A-Za-z][A-Za-z0-9]* [A-Za-z-]+=[^<>]*>|<!--"
    r"|<([abipu]|br|em|li|td|th|tr|div|span|strong|[ABIPU]|BR|EM|LI|TD|TH|TR|DIV|SPAN|STRONG)>"
    r"|&(nbsp|amp|lt|gt|quot|apos|#[0-9]{1,7}|#[Xx][0-9A-Fa-f]{1,6});).*"
)
HTML_SIGNS = ("<", "&")
# Text that is still in the quotes of a CSV, a spreadsheet, SQL or JSON, and objects and lists of JSON.
_CURLY = "\u2018.*\u2019"
QUOTED = r"(?s)=?\".*\"|'.*'|`.*`|“.*”|" + _CURLY + r"|«.*»|\{\".*\}|\[\".*\]|\[[0-9]+(,.*)?\]"
QUOTES = ('"', "'", "`", '="', '{"', "[", "“", "\u2018", "«")
# A byte order mark, other characters without a width that come from copied text, and the character that
# stands for bytes of a wrong encoding.
INVISIBLE = "\ufeff\u200b\u2060\u00ad\u200e\u200f\u202a\u202c\ufffd"
# BATCH_API.md, "Bodies": the web page on custom IDs asks for less than 512 characters.
TOO_LONG = 512
# Same place: the limits of the Profile API, to which the pages on audiences refer. Whether they hold for an
# audience is inferred, so they are no errors.
ATTRIBUTE_NAME = "[A-Za-z0-9_]{1,30}"
_LONGEST_STRING = 300
_LONGEST_MEP_STRING = 64
LONGEST_TAG = 64
LONGEST_URL = 2048
LONGEST_ARRAY = 25
# Positions of each kind that a report lists.
_SAMPLES = 10


class LintKind(enum.StrEnum):
    """Why an ID matches no user."""

    REFUSED_WORD = "refused_word"
    PLACEHOLDER = "placeholder"
    HEADER = "header"
    SCIENTIFIC = "scientific"
    DECIMAL = "decimal"
    TEMPLATE = "template"
    HTML = "html"
    QUOTED = "quoted"
    INVISIBLE = "invisible"
    WHITESPACE = "whitespace"
    TOO_LONG = "too_long"
    INVALID = "invalid"


class AttributeLintKind(enum.StrEnum):
    """Why Batch may drop an attribute or a tag."""

    NAME = "name"
    STRING = "string"
    URL = "url"
    ARRAY = "array"
    TAG = "tag"


@attrs.frozen(kw_only=True)
class LintFinding:
    """The IDs or Members of one kind.

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


@attrs.frozen(kw_only=True)
class AttributeLintReport:
    """What `lint_attributes` found. It contains no ID and no value.

    Attributes:
        checked: Number of IDs and Members.
        findings: The kinds that occur, with their Members. A Member may be of several kinds.
    """

    checked: int
    findings: Mapping[AttributeLintKind, LintFinding]


class _Findings(Generic[_Kind]):
    """Counts what a check finds, by kind."""

    def __init__(self) -> None:
        self._counts: dict[_Kind, int] = {}
        self._positions: dict[_Kind, list[int]] = {}

    def add(self, position: int, kinds: Iterable[_Kind]) -> None:
        """Count the item at *position* once for each of its *kinds*."""
        for kind in kinds:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            if self._counts[kind] <= _SAMPLES:
                self._positions.setdefault(kind, []).append(position)

    def by_kind(self, kinds: Iterable[_Kind]) -> dict[_Kind, LintFinding]:
        """Return the findings in the order of *kinds*."""
        return {
            kind: LintFinding(count=self._counts[kind], positions=tuple(self._positions[kind]))
            for kind in kinds
            if kind in self._counts
        }


def lint_ids(ids: Iterable[str | Member]) -> LintReport:
    """Count the IDs that match no user, by kind. Nothing is sent.

    The kinds are words that Batch's SDKs refuse (`null`, `undefined`, `NaN` and others, in any case),
    placeholders (`N/A`), names of ID columns (`user_id`), numbers in scientific notation
    (`1.23457E+15`), whole numbers with decimals (`1001.0`), merge tags that were not filled
    (`{{user_id}}`), HTML (`<b>1001</b>`), text in quotes and JSON (`"1001"`), invisible or damaged
    characters such as a byte order mark, whitespace at the start or end, 512 or more characters, and
    strings that the client refuses to send (empty, with NUL or with lone surrogates).

    Args:
        ids: IDs and Members, read once.

    Raises:
        InvalidInputError: *ids* is not an iterable of IDs, or an item is neither a string nor a Member.
    """
    findings: _Findings[LintKind] = _Findings()
    checked = 0
    for position, item in enumerate(check_listing(ids, "ids")):
        value = item.id if isinstance(item, Member) else item
        if not isinstance(value, str):
            check_id(value, f"ids[{position}]")  # raises
        checked += 1
        findings.add(position, find_kinds(value))
    return LintReport(checked=checked, findings=findings.by_kind(LintKind))


def lint_attributes(members: Iterable[str | Member], *, mobile: bool = False) -> AttributeLintReport:
    """Count the Members with attributes or tags beyond the limits of Batch's Profile API, by kind.

    Batch does not document whether these limits hold for audiences. The Profile API drops such an attribute
    and keeps the others. The kinds are a name other than 1 to 30 letters, digits or `_`, a string of none or
    more than 300 characters (64 on mobile), a URL of more than 2,048, an array other than 1 to 25 strings,
    and a tag of more than 64 characters. Nothing is sent.

    Args:
        members: IDs and Members, read once. An ID has no attributes.
        mobile: Whether they are for an `App`, whose strings are shorter.

    Raises:
        InvalidInputError: *members* is not an iterable of IDs, or an item is neither a string nor a Member.
    """
    findings: _Findings[AttributeLintKind] = _Findings()
    checked = 0
    for position, item in enumerate(check_listing(members, "members")):
        if not isinstance(item, Member):
            check_id(item, f"members[{position}]")
        else:
            findings.add(position, find_attribute_kinds(item.attributes, item.tags, mobile=mobile))
        checked += 1
    return AttributeLintReport(checked=checked, findings=findings.by_kind(AttributeLintKind))


def find_attribute_kinds(
    attributes: Mapping[str, Any], tags: Sequence[str] = (), *, mobile: bool = False
) -> set[AttributeLintKind]:
    """Return the reasons why Batch may drop some of a member's attributes or tags.

    Args:
        attributes: Values by name, as in a Member or in a request.
        tags: The tags.
        mobile: Whether they are for an `App`, whose strings are shorter.
    """
    kinds: set[AttributeLintKind] = set()
    for name, value in attributes.items():
        typed, bare = split_typed(name)
        if re.fullmatch(ATTRIBUTE_NAME, bare) is None:
            kinds.add(AttributeLintKind.NAME)
        if typed == "url" and len(value) > LONGEST_URL:
            kinds.add(AttributeLintKind.URL)
        elif isinstance(value, str) and not typed and not 1 <= len(value) <= string_limit(mobile=mobile):
            kinds.add(AttributeLintKind.STRING)
        elif isinstance(value, list | tuple) and not _is_sound_array(value, mobile=mobile):
            kinds.add(AttributeLintKind.ARRAY)
    if any(len(tag) > LONGEST_TAG for tag in tags):
        kinds.add(AttributeLintKind.TAG)
    return kinds


def string_limit(*, mobile: bool) -> int:
    """Return how many characters a string attribute has at most."""
    return _LONGEST_MEP_STRING if mobile else _LONGEST_STRING


def _is_sound_array(values: Sequence[Any], *, mobile: bool) -> bool:
    limit = string_limit(mobile=mobile)
    return 1 <= len(values) <= LONGEST_ARRAY and all(
        isinstance(value, str) and 1 <= len(value) <= limit for value in values
    )


def _matches(pattern: str, value: str) -> bool:
    """Return whether an ID that is not too long matches. The time of a long one has no limit."""
    return len(value) < TOO_LONG and re.fullmatch(pattern, value) is not None


def find_kinds(value: str) -> Iterator[LintKind]:
    """Yield the reasons why the ID *value* matches no user."""
    word = value.lower()
    is_marked = any(sign in value for sign in TEMPLATE_SIGNS)
    tests = {
        LintKind.REFUSED_WORD: word in REFUSED_WORDS,
        LintKind.PLACEHOLDER: word in PLACEHOLDERS,
        LintKind.HEADER: word in HEADERS,
        LintKind.SCIENTIFIC: re.fullmatch(SCIENTIFIC, value) is not None,
        LintKind.DECIMAL: re.fullmatch(DECIMAL, value) is not None,
        LintKind.TEMPLATE: (is_marked or value.startswith(TEMPLATE_STARTS)) and _matches(TEMPLATE, value),
        LintKind.HTML: any(sign in value for sign in HTML_SIGNS) and _matches(HTML, value),
        LintKind.QUOTED: value.startswith(QUOTES) and len(value) > 1 and _matches(QUOTED, value),
        LintKind.INVISIBLE: any(character in value for character in INVISIBLE),
        LintKind.WHITESPACE: value != value.strip(),
        LintKind.TOO_LONG: len(value) >= TOO_LONG,
        LintKind.INVALID: not value or "\0" in value or not is_unicode(value),
    }
    yield from (kind for kind, is_found in tests.items() if is_found)
