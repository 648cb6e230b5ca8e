"""The lint of a source: IDs that match no user, found by DuckDB in one scan of the staged IDs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

import attrs
import duckdb

from ..lint import (
    DECIMAL,
    HEADERS,
    INVISIBLE,
    PLACEHOLDERS,
    REFUSED_WORDS,
    SCIENTIFIC,
    TOO_LONG,
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
    LintKind.INVISIBLE: "with invisible characters (byte order mark)",
    LintKind.WHITESPACE: "with whitespace around them",
    LintKind.TOO_LONG: "with 512 or more characters",
}
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


def lint_sql(text: str, *, id_column: str | None = None) -> dict[LintKind, str]:
    """Return the SQL of each kind.

    Args:
        text: The SQL of the ID.
        id_column: The name of the ID column. Default: the usual names.
    """
    headers = HEADERS if id_column is None else HEADERS | {id_column.lower()}
    invisible = " OR ".join(f"contains({text}, {literal(character)})" for character in INVISIBLE)
    # The first test of each kind is cheap, and false for nearly all IDs.
    return {
        LintKind.REFUSED_WORD: _is_word(text, REFUSED_WORDS),
        LintKind.PLACEHOLDER: _is_word(text, PLACEHOLDERS),
        LintKind.HEADER: _is_word(text, headers),
        LintKind.SCIENTIFIC: f"(contains({text}, '+') AND regexp_full_match({text}, {literal(SCIENTIFIC)}))",
        LintKind.DECIMAL: f"(suffix({text}, '0') AND contains({text}, '.') "
        f"AND regexp_full_match({text}, {literal(DECIMAL)}))",
        LintKind.INVISIBLE: f"(strlen({text}) <> length({text}) AND ({invisible}))",
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
    columns = ", ".join(f"count(*) FILTER ({test})" for test in tests.values())
    found = f"FROM {table} WHERE {' OR '.join(tests.values())}"
    (row,) = connection.execute(f"SELECT {columns} {found}").fetchall()
    counts = {kind: count for kind, count in zip(tests, row, strict=True) if count}
    if not counts:
        return SourceLint()
    sample = connection.execute(f"SELECT id {found} LIMIT {_SAMPLE}").fetchall()
    return SourceLint(MappingProxyType(counts), tuple(id_ for (id_,) in sample))


def _is_word(text: str, words: Iterable[str]) -> str:
    listed = ", ".join(literal(word) for word in sorted(words))
    longest = max(len(word.encode()) for word in words)
    return f"(strlen({text}) <= {longest} AND lower({text}) IN ({listed}))"
