"""The lint of a source: IDs that match no user, and attributes beyond limits, found by DuckDB in one scan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

import attrs
import duckdb

from ..lint import (
    ATTRIBUTE_NAME,
    DECIMAL,
    HEADERS,
    HTML,
    HTML_SIGNS,
    INVISIBLE,
    LONGEST_ARRAY,
    LONGEST_TAG,
    LONGEST_URL,
    PLACEHOLDERS,
    QUOTED,
    QUOTES,
    REFUSED_WORDS,
    SCIENTIFIC,
    TEMPLATE,
    TEMPLATE_SIGNS,
    TEMPLATE_STARTS,
    TOO_LONG,
    AttributeLintKind,
    LintKind,
)
from ._sql import literal

_SAMPLE: Final = 5
# Each kind in words, with an example. No text shows an ID of a source.
_WORDS: Final = {
    LintKind.REFUSED_WORD: "words that match no user (NULL, undefined)",
    LintKind.PLACEHOLDER: "placeholders (N/A)",
    LintKind.HEADER: "names of an ID column",
    LintKind.SCIENTIFIC: "numbers in scientific notation (1.23457E+15)",
    LintKind.DECIMAL: "whole numbers with decimals (1001.0)",
    LintKind.TEMPLATE: "merge tags that were not filled ({{user_id}})",
    LintKind.HTML: "with HTML (<b>1001</b>)",
    LintKind.QUOTED: 'in quotes or JSON ("1001")',
    LintKind.INVISIBLE: "with invisible or damaged characters (byte order mark)",
    LintKind.WHITESPACE: "with whitespace around them",
    LintKind.TOO_LONG: "with 512 or more characters",
}
# Each kind of attribute in words.
_ATTRIBUTE_WORDS: Final = {
    AttributeLintKind.NAME: "with a name other than 1 to 30 letters, digits or '_'",
    AttributeLintKind.STRING: "with an empty or long string (more than {limit} characters)",
    AttributeLintKind.URL: f"with a URL of more than {LONGEST_URL:,} characters",
    AttributeLintKind.ARRAY: f"with an array other than 1 to {LONGEST_ARRAY} strings",
    AttributeLintKind.TAG: f"with a tag of more than {LONGEST_TAG} characters",
}
# Characters of an attribute's name that a text shows.
_SHOWN: Final = 40
# The attributes of the canonical JSON in a row, as structs of name and value.
_ENTRIES: Final = "list_zip(json_keys(attributes), json_extract(attributes, '$.*'))"
# DuckDB's trim() removes U+0020 only. These are the characters that str.strip() removes.
_WHITESPACE: Final = "".join(filter(str.isspace, map(chr, range(0x3001))))


@attrs.frozen
class SourceLint:
    """The IDs of a source that match no user.

    Attributes:
        counts: Kind -> number of IDs. An ID may be of several kinds.
        sample: A few of the IDs.
    """

    counts: Mapping[LintKind, int] = attrs.field(factory=lambda: MappingProxyType({}))
    sample: tuple[str, ...] = attrs.field(default=(), repr=False)

    def __str__(self) -> str:
        """Return the counts in words, without an ID. Empty if there are none."""
        return ", ".join(f"{count:,} {_WORDS[kind]}" for kind, count in self.counts.items())


@attrs.frozen
class AttributeLint:
    """The IDs of a source whose attributes or tags Batch may drop.

    Attributes:
        counts: Kind -> number of IDs. An ID may be of several kinds.
        names: The names of a few of these attributes. Long ones are cut.
        limit: Characters of a string at most.
    """

    counts: Mapping[AttributeLintKind, int] = attrs.field(factory=lambda: MappingProxyType({}))
    names: tuple[str, ...] = ()
    limit: int = 0

    def __str__(self) -> str:
        """Return the counts in words and the attributes' names, without a value. Empty if there are none."""
        counts = (f"{count:,} {_ATTRIBUTE_WORDS[kind]}" for kind, count in self.counts.items())
        found = ", ".join(counts).format(limit=self.limit)
        return f"{found} (in {', '.join(map(repr, self.names))})" if self.names else found


def lint_sql(text: str, *, id_column: str | None = None) -> dict[LintKind, str]:
    """Return the SQL of each kind.

    Args:
        text: The SQL of the ID.
        id_column: The name of the ID column. Default: the usual names.
    """
    headers = HEADERS if id_column is None else HEADERS | {id_column.lower()}
    starts = " OR ".join(f"prefix({text}, {literal(start)})" for start in TEMPLATE_STARTS)
    quotes = " OR ".join(f"prefix({text}, {literal(quote)})" for quote in QUOTES)
    signs = _contains(text, TEMPLATE_SIGNS)
    # The first test of each kind is cheap, and false for nearly all IDs.
    return {
        LintKind.REFUSED_WORD: _is_word(text, REFUSED_WORDS),
        LintKind.PLACEHOLDER: _is_word(text, PLACEHOLDERS),
        LintKind.HEADER: _is_word(text, headers),
        LintKind.SCIENTIFIC: f"(contains({text}, '+') AND regexp_full_match({text}, {literal(SCIENTIFIC)}))",
        LintKind.DECIMAL: f"(suffix({text}, '0') AND contains({text}, '.') "
        f"AND regexp_full_match({text}, {literal(DECIMAL)}))",
        LintKind.TEMPLATE: f"(({signs} OR {starts}) AND {_matches(text, TEMPLATE)})",
        LintKind.HTML: f"(({_contains(text, HTML_SIGNS)}) AND {_matches(text, HTML)})",
        LintKind.QUOTED: f"(({quotes}) AND strlen({text}) > 1 AND {_matches(text, QUOTED)})",
        LintKind.INVISIBLE: f"(strlen({text}) <> length({text}) AND ({_contains(text, INVISIBLE)}))",
        LintKind.WHITESPACE: f"(NOT regexp_full_match({text}, '[!-~]+') "
        f"AND {text} <> trim({text}, {literal(_WHITESPACE)}))",
        LintKind.TOO_LONG: f"(strlen({text}) >= {TOO_LONG} AND length({text}) >= {TOO_LONG})",
    }


def lint_staged(
    connection: duckdb.DuckDBPyConnection, table: str, *, id_column: str | None, is_trimmed: bool
) -> SourceLint:
    """Return the IDs of a staged source that match no user.

    Args:
        connection: The connection that the source was staged in.
        table: The table of its IDs.
        id_column: The name of the ID column. Default: the usual names.
        is_trimmed: Whether no ID can have whitespace around it, which spares a test of each.
    """
    tests = lint_sql("id", id_column=id_column)
    if is_trimmed:
        del tests[LintKind.WHITESPACE]
    found = f"FROM {table} WHERE {' OR '.join(tests.values())}"
    if not connection.execute(f"SELECT 1 {found} LIMIT 1").fetchall():
        return SourceLint()
    columns = ", ".join(f"count(*) FILTER ({test})" for test in tests.values())
    (row,) = connection.execute(f"SELECT {columns} {found}").fetchall()
    counts = {kind: count for kind, count in zip(tests, row, strict=True) if count}
    sample = connection.execute(f"SELECT id {found} LIMIT {_SAMPLE}").fetchall()
    return SourceLint(MappingProxyType(counts), tuple(id_ for (id_,) in sample))


def attribute_lint_sql(*, limit: int) -> dict[AttributeLintKind, str]:
    """Return the SQL of each kind, from the columns `attributes` (canonical JSON) and `tags` (a list).

    Args:
        limit: Characters of a string at most.
    """
    tests = {
        kind: f"coalesce(len(list_filter({_ENTRIES}, lambda e: {test})) > 0, false)"
        for kind, test in _entry_tests(limit=limit).items()
    }
    tags = f"coalesce(len(list_filter(tags, lambda t: length(t) > {LONGEST_TAG})) > 0, false)"
    return tests | {AttributeLintKind.TAG: tags}


def is_within_limits_sql(*, limit: int) -> str:
    """Return the SQL of whether attributes are surely within the limits, as nearly all are. It is cheap.

    Args:
        limit: Characters of a string at most.
    """
    text = f'"[^"\\\\]{{1,{limit}}}"'
    entry = f'"({ATTRIBUTE_NAME}|date[(]{ATTRIBUTE_NAME}[)])":([-+.0-9eE]+|true|false|{text})'
    return f"regexp_full_match(attributes, {literal(f'[{{]{entry}(,{entry})*[}}]')})"


def lint_staged_attributes(connection: duckdb.DuckDBPyConnection, table: str, *, limit: int) -> AttributeLint:
    """Return the attributes and tags of a staged source that Batch may drop.

    Args:
        connection: The connection that the source was staged in.
        table: The table of its IDs, with their attributes.
        limit: Characters of a string at most.
    """
    has_any = f"SELECT 1 FROM {table} WHERE attributes IS NOT NULL OR tags IS NOT NULL LIMIT 1"
    if not connection.execute(has_any).fetchall():  # the other statement costs ten times as much to plan
        return AttributeLint()
    tests = attribute_lint_sql(limit=limit)
    suspects = (
        f"(SELECT CASE WHEN NOT {is_within_limits_sql(limit=limit)} THEN attributes END AS attributes, "
        f"tags FROM {table} WHERE attributes IS NOT NULL OR tags IS NOT NULL)"
    )
    columns = ", ".join(f"count(*) FILTER ({test})" for test in tests.values())
    (row,) = connection.execute(f"SELECT {columns} FROM {suspects}").fetchall()
    counts = {kind: count for kind, count in zip(tests, row, strict=True) if count}
    if not counts:
        return AttributeLint()
    is_bad = " OR ".join(f"({test})" for test in _entry_tests(limit=limit).values())
    bad = f"unnest(list_transform(list_filter({_ENTRIES}, lambda e: {is_bad}), lambda e: e[1]))"
    names = connection.execute(f"SELECT DISTINCT {bad} AS name FROM {suspects} LIMIT {_SAMPLE}").fetchall()
    shown = tuple(sorted(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…" for (name,) in names))
    return AttributeLint(MappingProxyType(counts), shown, limit)


def _entry_tests(*, limit: int) -> dict[AttributeLintKind, str]:
    """Return the SQL of each kind for one attribute: the struct `e` of its name and its value."""
    text = "(e[2] ->> '$')"
    name = f"(date|url)[(]{ATTRIBUTE_NAME}[)]|{ATTRIBUTE_NAME}"
    item = f"json_type(i) <> 'VARCHAR' OR length(i ->> '$') NOT BETWEEN 1 AND {limit}"
    return {
        AttributeLintKind.NAME: f"NOT regexp_full_match(e[1], {literal(name)})",
        AttributeLintKind.STRING: "json_type(e[2]) = 'VARCHAR' AND NOT "
        f"regexp_full_match(e[1], '(?s)(date|url)[(].*[)]') AND length({text}) NOT BETWEEN 1 AND {limit}",
        AttributeLintKind.URL: "regexp_full_match(e[1], '(?s)url[(].*[)]') "
        f"AND length({text}) > {LONGEST_URL}",
        AttributeLintKind.ARRAY: f"json_type(e[2]) = 'ARRAY' AND (json_array_length(e[2]) NOT BETWEEN 1 AND "
        f"{LONGEST_ARRAY} OR len(list_filter(json_extract(e[2], '$[*]'), lambda i: {item})) > 0)",
    }


def _contains(text: str, signs: Iterable[str]) -> str:
    return " OR ".join(f"contains({text}, {literal(sign)})" for sign in signs)


def _matches(text: str, pattern: str) -> str:
    return f"length({text}) < {TOO_LONG} AND regexp_full_match({text}, {literal(pattern)})"


def _is_word(text: str, words: Iterable[str]) -> str:
    listed = ", ".join(literal(word) for word in sorted(words))
    longest = max(len(word.encode()) for word in words)
    return f"(strlen({text}) <= {longest} AND lower({text}) IN ({listed}))"
