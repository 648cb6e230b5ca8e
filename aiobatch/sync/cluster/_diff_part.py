"""The task that compares: it has all rows of its IDs, of the source and of the members."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import attrs
import orjson

from ...lint import AttributeLintKind, LintKind
from .._lint import AttributeLint, SourceLint, lint_staged, lint_staged_attributes
from .._options import Mode
from .._sql import KEY
from ..sources._id_rules import IdRules
from ..sources._location import ArrowTable
from ..state._duckdb_errors import duckdb_errors
from ..state._schema import MEMBERS, UNKNOWN, members_table
from ..state._state import State
from ..state.objects import _parquet
from ..state.objects._layout import RunPaths
from ..state.objects._open import open_store
from ..state.partitions._comparison import comparing
from ..state.partitions._digests import Digests
from ..state.partitions._keys import count_comparisons, salt_of
from ._rows import MEMBER, SOURCE, UNPACKED, private_directory

_PART: Final = "part"
_DIFF: Final = "diff_part"
# Of an ID in several parts of the source, the row of the last part counts.
_REPEATED: Final = f"""
CREATE TEMP TABLE repeated AS SELECT id, max(number) AS number FROM arrived
WHERE origin = {SOURCE} AND id IS NOT NULL GROUP BY id HAVING count(*) > 1
"""
_STAGED: Final = f"""
CREATE TEMP TABLE staged AS
SELECT a.id, {KEY.replace("id", "a.id")} AS key, attributes, tags, {UNPACKED}::UBIGINT AS fingerprint
FROM arrived a LEFT JOIN repeated r ON a.id = r.id
WHERE origin = {SOURCE} AND a.id IS NOT NULL AND (r.id IS NULL OR a.number = r.number)
"""
# What the last file of members has of an ID counts.
_INSERT_MEMBERS: Final = f"""
INSERT INTO {{members}} SELECT id, fingerprint FROM (
    SELECT id, arg_max(origin, number) AS origin,
        arg_max(coalesce({UNPACKED}, {UNKNOWN}::UHUGEINT), number) AS fingerprint
    FROM arrived WHERE origin <> {SOURCE} GROUP BY id
) WHERE origin = {MEMBER}
"""
_NOTES: Final = "SELECT note FROM arrived WHERE note IS NOT NULL"


@attrs.frozen(kw_only=True)
class PartSummary:
    """The result of one task, without IDs but those of samples.

    Attributes:
        sums: The number of the source's IDs and the sums of both halves of their hashes.
        members: Number of members.
        path: The path of the file of the actions. None if there are none.
        notes: The notes of the source's parts that arrived here.
        lint: The source's IDs that match no user.
        attribute_lint: The attributes and tags that Batch may drop.
    """

    sums: tuple[int, int, int]
    members: int
    path: str | None
    notes: tuple[Mapping[str, Any], ...] = ()
    lint: SourceLint = attrs.field(factory=SourceLint)
    attribute_lint: AttributeLint = attrs.field(factory=AttributeLint)

    def to_json(self) -> str:
        """Return it as JSON, which has no integers of more than 64 bits."""
        return orjson.dumps(
            {
                "sums": [str(one) for one in self.sums],
                "members": self.members,
                "path": self.path,
                "notes": self.notes,
                "lint": [_plain(self.lint.counts), self.lint.sample],
                "attribute_lint": [_plain(self.attribute_lint.counts), self.attribute_lint.names],
            }
        ).decode()

    @classmethod
    def from_json(cls, text: str, *, limit: int) -> Self:
        """Return what `to_json` wrote.

        Args:
            text: JSON.
            limit: Characters of a string attribute at most.
        """
        document = orjson.loads(text)
        ids, low, high = map(int, document["sums"])
        (counts, sample), (attribute_counts, names) = document["lint"], document["attribute_lint"]
        return cls(
            sums=(ids, low, high),
            members=document["members"],
            path=document["path"],
            notes=tuple(document["notes"]),
            lint=SourceLint({LintKind(kind): n for kind, n in counts.items()}, tuple(sample)),
            attribute_lint=AttributeLint(
                {AttributeLintKind(kind): n for kind, n in attribute_counts.items()}, tuple(names), limit
            ),
        )


@attrs.frozen(kw_only=True)
class DiffPart:
    """Compares a part of the source with the same part of the members, as a local run does.

    Attributes:
        state_id: The ID of the state, which has the salt of the keys.
        url: Its URL.
        folder: Where the actions are stored.
        mode: The run's mode.
        memory_limit: DuckDB's memory limit in each task.
        rules: The rules for the IDs, for the lint. None if the run does not lint.
        limit: Characters of a string attribute at most, for the lint. None if no attributes are sent.
    """

    state_id: str
    url: str
    folder: RunPaths
    mode: Mode
    memory_limit: str
    rules: IdRules | None
    limit: int | None

    def summary(self, rows: ArrowTable) -> PartSummary:
        """Compare, and store the actions.

        Args:
            rows: All rows of the part's IDs.

        Raises:
            StateError: The rows cannot be compared, or the store cannot be used.
        """
        with (
            private_directory() as directory,
            State.open(
                directory / "part.duckdb", what="compare", memory_limit=self.memory_limit, threads=1
            ) as state,
        ):
            state.state_id = self.state_id
            self._receive(state, rows)
            return self._compare(state, directory / "actions.parquet")

    def _receive(self, state: State, rows: ArrowTable) -> None:
        with duckdb_errors(state.path):
            state.connection.register("part_rows", rows)
            state.connection.execute("CREATE TEMP TABLE arrived AS FROM part_rows")
            state.connection.unregister("part_rows")
        members = members_table(_PART)
        for statement in (_REPEATED, _STAGED, MEMBERS, _INSERT_MEMBERS):
            state.rows(statement, salt=salt_of(state), members=members)

    def _compare(self, state: State, file: Path) -> PartSummary:
        (count,) = state.row("SELECT count(*) FROM staged")
        (known,) = state.row("SELECT count(*) FROM {members}", members=members_table(_PART))
        partitions = count_comparisons(state, max(count, known))
        with comparing(state, key=_PART, staged="temp.staged", partitions=partitions) as comparison:
            digests = comparison.read_source()
            comparison.read_members(once=True)
            comparison.find(self.mode, range(partitions), _DIFF)
        lint, attribute_lint = self._lint(state)
        return PartSummary(
            sums=_total(digests),
            members=known,
            path=self._store(state, file),
            notes=tuple(orjson.loads(note) for (note,) in state.rows(_NOTES)),
            lint=lint,
            attribute_lint=attribute_lint,
        )

    def _store(self, state: State, file: Path) -> str | None:
        """Store the actions, and return the path of their file."""
        if not _parquet.write(state, _parquet.DIFF, file, diff=_DIFF):
            return None
        path = self.folder.new_changes()
        open_store(self.url).upload(path, file)
        return path

    def _lint(self, state: State) -> tuple[SourceLint, AttributeLint]:
        if self.rules is None:
            return SourceLint(), AttributeLint()
        connection, rules = state.connection, self.rules
        with duckdb_errors(state.path):
            lint = lint_staged(connection, "staged", id_column=rules.id_column, is_trimmed=rules.trim)
            if self.limit is None:
                return lint, AttributeLint()
            return lint, lint_staged_attributes(connection, "staged", limit=self.limit)


def _plain(counts: Mapping[Any, int]) -> dict[str, int]:
    return {kind.value: count for kind, count in counts.items()}


def _total(digests: Digests) -> tuple[int, int, int]:
    ids, low, high = map(sum, zip((0, 0, 0), *digests.sums.values(), strict=True))
    return ids, low, high
