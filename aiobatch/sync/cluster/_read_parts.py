"""The tasks that read: one stages a part of the source, the other one a file of members."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import attrs
import duckdb
import orjson

from .._sql import literal
from ..sources._id_rules import IdRules
from ..sources._location import ArrowSource, ArrowTable
from ..sources._source import Source
from ..sources._stage import StageOptions, stage
from ..state.objects._open import open_store
from ._rows import MEMBER, NO_MEMBER, SOURCE, connected, private_directory, select, select_note

_OPERATION: Final = f"CASE op WHEN 1 THEN {MEMBER} ELSE {NO_MEMBER} END"


@attrs.frozen(kw_only=True)
class SourcePart:
    """Stages a part of a source as a local run stages all of it.

    Attributes:
        source: The columns of the source. Its location is that of each part.
        rules: The rules for the IDs.
        salt: The salt of the keys.
        memory_limit: DuckDB's memory limit in each task.
        max_spill: As in `StageOptions`.
    """

    source: Source
    rules: IdRules
    salt: str
    memory_limit: str
    max_spill: str | None = None

    @contextmanager
    def rows(self, table: ArrowTable, number: int) -> Iterator[duckdb.DuckDBPyRelation]:
        """Yield the unique, valid IDs, and a note with the counts of the part's rows.

        Args:
            table: The part.
            number: Its number. Of an ID in several parts, the one with the highest number counts.

        Raises:
            SourceError: The part cannot be read.
            StagingError: This machine cannot stage it.
        """
        source = attrs.evolve(self.source, location=ArrowSource(table=table))
        options = StageOptions(salt=self.salt, max_spill=self.max_spill)
        with (
            private_directory() as directory,
            connected(directory, self.memory_limit) as connection,
        ):
            counts = stage(connection, source, self.rules, options=options)
            reasons = {reason.value: count for reason, count in counts.reasons.items()}
            note = orjson.dumps({"read": counts.read, "reasons": reasons}).decode()
            rows = select(str(SOURCE), number, "temp.staged", has_details=True)
            yield connection.sql(f"{rows} UNION ALL {select_note(number, note)}")


@attrs.frozen(kw_only=True)
class MembersPart:
    """Reads a file of members from the store of the state.

    Attributes:
        url: The URL of the state.
        memory_limit: DuckDB's memory limit in each task.
    """

    url: str
    memory_limit: str

    @contextmanager
    def rows(self, path: str, number: int) -> Iterator[duckdb.DuckDBPyRelation]:
        """Yield the IDs of a file.

        Args:
            path: Its path in the store.
            number: 0 for the base. Deltas count from 1, in their order.

        Raises:
            StateError: It cannot be read.
        """
        with (
            private_directory() as directory,
            connected(directory, self.memory_limit) as connection,
        ):
            file = directory / "members.parquet"
            open_store(self.url).download(path, file)
            origin = _OPERATION if number else str(MEMBER)
            table = f"read_parquet({literal(str(file))})"
            yield connection.sql(select(origin, number, table, has_details=False))
