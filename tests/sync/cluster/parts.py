"""A cluster in one process: it runs the tasks part by part, on the rows of a DuckDB connection."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import duckdb

from aiobatch.sync import Mode, StateUrl
from aiobatch.sync.cluster._computed import Comparison
from aiobatch.sync.cluster._diff_part import DiffPart, PartSummary
from aiobatch.sync.cluster._read_parts import MembersPart, SourcePart
from aiobatch.sync.sources._id_rules import IdRules
from aiobatch.sync.sources._location import ArrowSource, IterableSource
from aiobatch.sync.sources._source import Source
from aiobatch.sync.state._state import State
from aiobatch.sync.state.partitions._keys import salt_of

MEMORY = "200MB"
COLUMNS: dict[str, Any] = {"id_column": "uid", "attributes": ["age"], "tags_column": "tags"}
_ROWS = """CREATE TABLE rows (
    origin INTEGER, number INTEGER, id VARCHAR, attributes VARCHAR, tags VARCHAR[], fingerprint BIGINT,
    note VARCHAR
)"""
_ODD_IDS = ("", " ", "x\x01", "NULL", " padded ", "ü€😀", "'", "{id}")

Row = tuple[str | None, int | None, list[str] | None]


@attrs.frozen
class Stream:
    """The result of a query, known by Arrow's C interface alone."""

    rows: duckdb.DuckDBPyRelation

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return the stream."""
        return self.rows.__arrow_c_stream__(requested_schema)


def random_rows(seed: int, *, count: int = 120) -> list[Row]:
    """Return rows with duplicates whose attributes differ, and IDs that are rejected or trimmed."""
    some = random.Random(seed)
    ids: list[str | None] = [*(f"u{some.randrange(count)}" for _ in range(count)), *_ODD_IDS, None]
    some.shuffle(ids)
    tags = (None, ["a"], ["b", "a"])
    return [(id_, some.choice((None, 1, 2)), some.choice(tags)) for id_ in ids]


@attrs.define
class Frame:
    """Rows of a source, in parts.

    Attributes:
        connection: Has them in the table `source`.
        parts: The number of parts.
    """

    connection: duckdb.DuckDBPyConnection
    parts: int = 2

    @classmethod
    def of(cls, connection: duckdb.DuckDBPyConnection, rows: Sequence[Row]) -> Frame:
        """Return a frame of rows."""
        columns = "n INTEGER, uid VARCHAR, age INTEGER, tags VARCHAR[]"
        connection.execute(f"CREATE OR REPLACE TABLE source ({columns})")
        if rows:
            numbered = [(number, *row) for number, row in enumerate(rows)]
            connection.executemany("INSERT INTO source VALUES (?, ?, ?, ?)", numbered)
        return cls(connection)

    def whole(self) -> Source:
        """Return all rows as a source."""
        return Source(location=ArrowSource(table=self._rows("true")), **COLUMNS)

    def part(self, number: int) -> Stream:
        """Return the rows of a part."""
        share = f"n * {self.parts} // (SELECT count(*) FROM source)"
        return self._rows(f"{share} = {number}")

    def _rows(self, condition: str) -> Stream:
        query = f"SELECT uid, age, tags FROM source WHERE {condition} ORDER BY n"
        return Stream(self.connection.sql(query))


@attrs.frozen(kw_only=True)
class Cluster:
    """Compares a frame with the members of an audience.

    Attributes:
        state: An open state that has the audience.
        comparison: The audience.
        rules: The rules for the IDs.
        mode: The mode.
        lints: Whether the tasks look for IDs that match no user.
        limit: Characters of a string attribute at most.
    """

    state: State
    comparison: Comparison
    rules: IdRules
    mode: Mode = Mode.MIRROR
    lints: bool = True
    limit: int | None = 300

    def summaries(self, frame: Frame, *, tasks: int = 2) -> list[PartSummary]:
        """Return the summaries of all tasks."""
        with duckdb.connect() as shuffled:
            shuffled.execute(_ROWS)
            self._stage(shuffled, frame)
            self._read(shuffled)
            condition = f"coalesce(hash(id) % {tasks}, 0)"
            return [
                self._compare(Stream(shuffled.sql(f"SELECT * FROM rows WHERE {condition} = {number}")))
                for number in range(tasks)
            ]

    def _stage(self, shuffled: duckdb.DuckDBPyConnection, frame: Frame) -> None:
        source = Source(location=IterableSource(items=()), **COLUMNS)
        part = SourcePart(source=source, rules=self.rules, salt=salt_of(self.state), memory_limit=MEMORY)
        for number in range(frame.parts):
            with part.rows(frame.part(number), number) as staged:
                shuffled.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?)", staged.fetchall())

    def _read(self, shuffled: duckdb.DuckDBPyConnection) -> None:
        part = MembersPart(url=self.comparison.url, memory_limit=MEMORY)
        for path, number in self.comparison.member_files():
            with part.rows(path, number) as members:
                shuffled.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?)", members.fetchall())

    def _compare(self, rows: Stream) -> PartSummary:
        part = DiffPart(
            state_id=self.state.state_id,
            url=self.comparison.url,
            folder=self.comparison.folder,
            mode=self.mode,
            memory_limit=MEMORY,
            rules=self.rules if self.lints else None,
            limit=self.limit,
        )
        return PartSummary.from_json(part.summary(rows).to_json(), limit=self.limit or 0)


def store_url(directory: Path) -> StateUrl:
    """Return the URL of a state in a new directory."""
    (directory / "store").mkdir()
    return StateUrl(f"file://{directory}/store")
