"""Staging of sources for tests."""

from __future__ import annotations

import csv
import json
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import duckdb
import pytest

from aiobatch.models import IdType
from aiobatch.sync._errors import SourceError
from aiobatch.sync.sources._id_rules import IdRules
from aiobatch.sync.sources._interruptible import InterruptibleQuery
from aiobatch.sync.sources._relation import ReadContext, Relation
from aiobatch.sync.sources._source import Source
from aiobatch.sync.sources._stage import READERS, StageCounts, stage


@attrs.frozen(kw_only=True)
class Staged:
    """A staged source.

    Attributes:
        counts: The accounting.
        rows: id -> attributes, tags and fingerprint.
        rejects: Source, row, reason and id of each rejected row.
    """

    counts: StageCounts
    rows: dict[str, tuple[Any, Any, int]]
    rejects: list[tuple[str, int, str, str]]

    @property
    def ids(self) -> set[str]:
        """The ids that were kept."""
        return set(self.rows)

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of each id, read back from their JSON."""
        return {key: None if row[0] is None else json.loads(row[0]) for key, row in self.rows.items()}

    @property
    def tags(self) -> dict[str, Any]:
        """The tags of each id."""
        return {key: row[1] for key, row in self.rows.items()}


def staged(source: Any, tmp_path: Path, *, rules: IdRules | None = None, **columns: Any) -> Staged:
    """Stage *source*, with the columns that `Source.parse` takes."""
    rejects = tmp_path / "rejects.csv"
    with duckdb.connect(config={"threads": 2}) as connection:
        wanted = Source.parse(source, **columns) if columns else Source.of(source)
        counts = stage(connection, wanted, rules or IdRules(), rejects=rejects)
        rows = connection.execute("SELECT id, attributes, tags, fingerprint FROM staged").fetchall()
    assert counts.read == counts.kept + counts.duplicate + counts.rejected
    assert counts.kept == len(rows) == len({row[0] for row in rows})
    return Staged(counts=counts, rows={row[0]: row[1:] for row in rows}, rejects=read_rejects(rejects))


def read_rejects(path: Path) -> list[tuple[str, int, str, str]]:
    """Read a file of rejected rows."""
    with path.open(newline="") as file:
        return [(row["source"], int(row["row"]), row["reason"], row["id"]) for row in csv.DictReader(file)]


def refusal(source: Any, tmp_path: Path, **columns: Any) -> SourceError:
    """Return the error with which the staging of a source fails."""
    with pytest.raises(SourceError) as caught:
        staged(source, tmp_path, **columns)
    assert str(caught.value).endswith("Nothing was sent.")
    assert caught.value.__cause__ is None or not isinstance(caught.value.__cause__, duckdb.Error)
    return caught.value


def relations_of(connection: duckdb.DuckDBPyConnection, source: Source) -> Generator[Relation, None, None]:
    """Return the relations of a source without staging their rows."""
    interruptible = InterruptibleQuery(connection=connection, on_progress=None)
    context = ReadContext(
        connection=connection, source=source, id_type=IdType.CUSTOM_IDS, interruptible=interruptible
    )
    return READERS[type(source.location)](context, source.location)


def relation(source: Any) -> Relation:
    """Return the first relation of a source."""
    with duckdb.connect() as connection, closing(relations_of(connection, Source.of(source))) as relations:
        return next(relations)


def parquet(path: Path, query: str) -> Path:
    """Write the rows of a query to a Parquet file."""
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
    return path
