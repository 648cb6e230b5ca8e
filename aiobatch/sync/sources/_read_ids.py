"""The IDs of a source as a stream, for callers that need no staged table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import attrs
import duckdb

from ...errors import InvalidInputError
from ...models import MAX_IDS
from ._id_rules import IdRules, Reason
from ._interruptible import InterruptibleQuery
from ._relation import ReadContext, Relation, checked_rows, explained
from ._source import Source
from ._stage import READERS

# Blocks are read as they are consumed, so DuckDB holds one vector of rows per thread and spills nothing.
_CONFIG: dict[str, str | bool | int | float | list[str]] = {"threads": 1, "memory_limit": "256MB"}
_REASONS = {
    Reason.EMPTY: "the ID is empty",
    Reason.NOT_TEXT: "the ID is not text",
    Reason.TOO_LONG: "the ID is too long",
    Reason.CONTROL_CHARACTER: "the ID contains a control character",
    Reason.NOT_A_UUID: "an advertising ID must be a UUID",
    Reason.OPTED_OUT: "the advertising ID is all zeros, which means that its owner has opted out",
}


def read_ids(source: Source, rules: IdRules, *, bare: bool = False) -> Iterator[list[str]]:
    """Yield the IDs of a source in its order, in blocks of at most 10,000, in constant memory.

    The source is read while the blocks are consumed. To check all of it first, read it twice. Calls
    block: make them in a thread.

    Args:
        source: The source. Its attributes and tags are not read.
        rules: The rules that the IDs must follow. A row that breaks them is an error.
        bare: Whether the files contain one ID per line and no header. Blank lines are skipped.

    Raises:
        InvalidInputError: If an ID breaks the rules. The text names the file and the row, never the ID.
        SourceError: If the source cannot be read to its end.
    """
    with duckdb.connect(config=_CONFIG) as connection:
        context = ReadContext(
            connection=connection,
            source=source,
            id_type=rules.id_type,
            interruptible=InterruptibleQuery(connection=connection, on_progress=None),
            bare=bare,
        )
        with closing(READERS[type(source.location)](context, source.location)) as relations:
            for relation in relations:
                yield from _read_blocks(connection, relation, rules, bare=bare)


def _read_blocks(
    connection: duckdb.DuckDBPyConnection, relation: Relation, rules: IdRules, *, bare: bool
) -> Iterator[list[str]]:
    number = relation.first_row
    # There is one thread, and a second try would yield its rows again.
    careful = attrs.evolve(relation, sql=relation.careful_sql or relation.sql)
    with explained(relation.explain):
        connection.execute(f"SELECT text, reason FROM ({checked_rows(careful, rules)})", relation.parameters)
        rows = connection.fetchmany(MAX_IDS)
    while rows:
        block = [text for text, reason in rows if reason is None]
        if len(block) < len(rows):
            _check_reasons((reason for _, reason in rows), number, relation, bare=bare)
        if block:
            yield block
        number += len(rows)
        with explained(relation.explain):
            rows = connection.fetchmany(MAX_IDS)


def _check_reasons(reasons: Iterator[str | None], first: int, relation: Relation, *, bare: bool) -> None:
    """Raise InvalidInputError for the first row that was rejected, unless it is a blank line."""
    for number, reason in enumerate(reasons, start=first):
        if reason is not None and not (bare and reason == Reason.EMPTY):
            unit = "line" if bare else "row"
            msg = f"{relation.location}, {unit} {number}: {_REASONS[Reason(reason)]}"
            raise InvalidInputError(msg)
