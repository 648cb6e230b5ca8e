"""The rules for IDs, the same for adds and removes, as SQL that DuckDB runs on whole columns."""

from __future__ import annotations

import enum
from typing import Any

import attrs

from ...lint import AttributeLintKind
from ...models import MAX_ID_LENGTH, IdType
from .._lint import attribute_lint_sql, is_within_limits_sql, lint_sql
from .._sql import literal

# The characters that str.strip() removes, up to U+3000. DuckDB's trim() removes U+0020 only.
WHITESPACE = "".join(filter(str.isspace, map(chr, range(0x3001))))
# Printable ASCII without the space. JSON escapes all control characters but DEL, and two others. A regular
# expression takes three times as long.
_PLAIN = (
    "raw <> '' AND strlen(raw) = length(raw) AND NOT contains(raw, ' ') AND NOT contains(raw, chr(127)) "
    "AND strlen(to_json(raw)) = strlen(raw) + 2"
)
_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
# iOS and Android return this instead of the advertising ID of a person who has opted out.
_OPTED_OUT = "00000000-0000-0000-0000-000000000000"


class Reason(enum.StrEnum):
    """Why a row was rejected."""

    EMPTY = "empty"
    NOT_TEXT = "not_text"
    TOO_LONG = "too_long"
    CONTROL_CHARACTER = "control_character"
    NOT_A_UUID = "not_a_uuid"
    OPTED_OUT = "opted_out"
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
    TOO_MANY_ATTRIBUTES = "too_many_attributes"
    ATTRIBUTE_TYPE = "attribute_type"
    ATTRIBUTE_NUMBER = "attribute_number"
    ATTRIBUTE_DATE = "attribute_date"
    ATTRIBUTE_URL = "attribute_url"
    TAGS = "tags"
    ATTRIBUTE_LIMIT = "attribute_limit"
    TAG_LIMIT = "tag_limit"


@attrs.frozen(kw_only=True)
class IdRules:
    """The rules for the IDs of one audience. They must stay the same while the audience has members.

    Attributes:
        id_type: Advertising IDs must be UUIDs and are lowercased. The all-zero one is rejected.
        trim: Whether to remove whitespace around an ID, including Unicode's.
        lints: Whether to reject IDs that match no user. It does not change the others, so it is no part of
            the rules in one line.
        id_column: The name of the ID column, which is no ID. Default: the usual names.
        string_limit: Characters of a string attribute at most, where attributes beyond Batch's limits are
            rejected. None where they are not.
    """

    id_type: IdType = attrs.field(default=IdType.CUSTOM_IDS, converter=IdType)
    trim: bool = True
    lints: bool = False
    id_column: str | None = None
    string_limit: int | None = None

    def __str__(self) -> str:
        """Return the rules in one line, which is equal only for equal rules."""
        return f"{self.id_type} trim={'yes' if self.trim else 'no'} max_length={MAX_ID_LENGTH}"


def text_sql(rules: IdRules) -> str:
    """Return the SQL of the normalized ID, from the columns `raw` and `plain`."""
    text = "raw"
    if rules.trim:
        text = f"CASE WHEN plain THEN raw ELSE trim(raw, {literal(WHITESPACE)}) END"
    return f"lower({text})" if rules.id_type is IdType.ADVERTISING_IDS else text


def plain_sql() -> str:
    """Return the SQL of whether the column `raw` needs no trimming and has no control character, as most IDs.

    It may be false for other such IDs.
    """
    return _PLAIN


def reason_sql(rules: IdRules) -> str:
    """Return the SQL of a Reason, or NULL, from the columns `raw`, `plain`, `text` and `not_text`."""
    blank = "text = ''" if rules.trim else f"trim(raw, {literal(WHITESPACE)}) = ''"
    cases: list[tuple[str, Reason]] = [
        ("not_text", Reason.NOT_TEXT),
        (f"raw IS NULL OR (NOT plain AND {blank})", Reason.EMPTY),
        # strlen() counts bytes and is cheap. length() counts characters.
        (f"strlen(text) > {MAX_ID_LENGTH} AND length(text) > {MAX_ID_LENGTH}", Reason.TOO_LONG),
        (r"NOT plain AND regexp_matches(text, '\p{Cc}')", Reason.CONTROL_CHARACTER),
    ]
    if rules.id_type is IdType.ADVERTISING_IDS:
        cases += [
            (f"NOT regexp_full_match(text, {literal(_UUID)})", Reason.NOT_A_UUID),
            (f"text = {literal(_OPTED_OUT)}", Reason.OPTED_OUT),
        ]
    if rules.lints:
        tests = lint_sql("text", id_column=rules.id_column)
        cases += [(test, Reason(kind.value)) for kind, test in tests.items()]
    return "CASE " + " ".join(f"WHEN {test} THEN {literal(reason)}" for test, reason in cases) + " END"


def attribute_reason_sql(rules: IdRules) -> str:
    """Return the SQL of a Reason, or NULL, from the columns `attributes` and `tags`."""
    if rules.string_limit is None:
        return "NULL"
    tests = attribute_lint_sql(limit=rules.string_limit)
    is_long = tests.pop(AttributeLintKind.TAG)
    return (
        f"CASE WHEN {is_long} THEN {literal(Reason.TAG_LIMIT)} WHEN attributes IS NULL "
        f"OR {is_within_limits_sql(limit=rules.string_limit)} THEN NULL "
        f"WHEN {' OR '.join(tests.values())} THEN {literal(Reason.ATTRIBUTE_LIMIT)} END"
    )


@attrs.frozen
class IdColumn:
    """An ID column as SQL.

    Attributes:
        text: The ID as text, exactly as written.
        not_text: Whether a row's value has no exact text: a fraction, a boolean, an object.
    """

    text: str
    not_text: str = "false"


_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "BIGNUM")
WHOLE_NUMBERS = frozenset((*_INTEGERS, *(f"U{name}" for name in _INTEGERS)))


def id_column(sql: str, kind: str) -> IdColumn | None:
    """Return how to read a column of DuckDB's type *kind* as IDs. None if its values would lose digits."""
    if kind == "JSON":
        # DuckDB stores a whole number beyond 64 bits as text of type DOUBLE, with all its digits.
        fraction = f"json_type({sql}) = 'DOUBLE' AND NOT regexp_full_match({sql} ->> '$', '-?[0-9]+')"
        strange = f"coalesce(json_type({sql}) IN ('BOOLEAN', 'ARRAY', 'OBJECT') OR ({fraction}), false)"
        return IdColumn(f"({sql} ->> '$')", strange)
    if kind in {"VARCHAR", "UUID"} or kind.startswith("ENUM("):
        return IdColumn(f"{sql}::VARCHAR")
    if kind in WHOLE_NUMBERS or is_whole_decimal(kind):
        return IdColumn(f"{sql}::VARCHAR")
    return None


def is_whole_decimal(kind: Any) -> bool:
    """Return whether DuckDB's type *kind* is a DECIMAL without decimal places."""
    return isinstance(kind, str) and kind.startswith("DECIMAL(") and kind.endswith(",0)")
