"""What all tasks found together, as a staged source that was compared already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import Any, Final

import attrs

from ...lint import AttributeLintKind, LintKind
from .._errors import SourceError
from .._lint import AttributeLint, SourceLint
from ..sources._id_rules import Reason
from ..sources._stage import StageCounts, StagedSource
from ..state._state import AudienceRecord, State
from ..state.objects import _parquet
from ..state.objects._head import HeadFile
from ..state.objects._layout import Place, RunPaths
from ..state.objects._open import open_store
from ._diff_part import PartSummary
from ._rows import private_directory

# No run has this number. So `state gc` deletes what a killed process leaves there.
_NO_RUN: Final = 0
_SAMPLE: Final = 5
_ACTIONS: Final = """
CREATE TEMP TABLE {actions} (
    id VARCHAR, action UTINYINT, fingerprint UHUGEINT, attributes VARCHAR, tags VARCHAR[]
)
"""


@attrs.frozen(kw_only=True)
class Comparison:
    """A comparison of a source and the members of an audience, by the tasks of a cluster.

    Attributes:
        label: The name of the source.
        url: The URL of the state.
        record: The audience, whose lease this process holds.
    """

    label: str
    url: str
    record: AudienceRecord

    @property
    def folder(self) -> RunPaths:
        """Where the tasks store the actions."""
        return Place(self.record.target_digest, self.record.key).run(_NO_RUN)

    def member_files(self) -> list[tuple[str, int]]:
        """Return the paths of the files of the members, with their numbers for `MembersPart`.

        Raises:
            StateError: The store cannot be used.
        """
        place = Place(self.record.target_digest, self.record.key)
        head = HeadFile(open_store(self.url), place).read()
        if head is None:
            return []
        base = [] if head.base is None else [(head.base.path, 0)]
        return [*base, *((file.path, number) for number, file in enumerate(head.deltas, start=1))]

    def load(self, state: State, parts: Sequence[PartSummary]) -> StagedSource:
        """Load the actions into the open state.

        Args:
            state: The open state.
            parts: The summaries of all parts.

        Returns:
            The source. Its table is dropped by `discard`.

        Raises:
            SourceError: The parts do not add up.
            StateError: The actions cannot be loaded.
        """
        counts, sums = self._count(parts), _add_up(one.sums for one in parts)
        store, table = open_store(self.url), f"temp.{self._table}"
        self._drop(state)
        state.rows(_ACTIONS, actions=self._table)
        with private_directory() as directory:
            for path in (one.path for one in parts if one.path is not None):
                file = directory / "actions.parquet"
                store.download(path, file)
                _parquet.read(state, _parquet.READ_DIFF, file, actions=table)
                file.unlink()
        return StagedSource(
            table=table,
            label=self.label,
            counts=counts,
            lint=_merge_lint(parts),
            attribute_lint=_merge_attribute_lint(parts),
            sums=sums,
        )

    def discard(self, state: State) -> None:
        """Drop the table of the actions, and delete their files.

        Args:
            state: The open state.

        Raises:
            StateError: The store cannot be used.
        """
        self._drop(state)
        store = open_store(self.url)
        store.delete([one.path for one in store.list(self.folder.changes)])

    @property
    def _table(self) -> str:
        return f"compared_{self.record.key}"

    def _drop(self, state: State) -> None:
        state.rows("DROP TABLE IF EXISTS temp.{table}", table=self._table)

    def _count(self, parts: Sequence[PartSummary]) -> StageCounts:
        """Return the accounting of the source's rows. Each row and each member must have arrived once."""
        notes = [note for part in parts for note in part.notes]
        kept, read = sum(part.sums[0] for part in parts), sum(note["read"] for note in notes)
        reasons = _total(note["reasons"] for note in notes)
        members, duplicate = sum(part.members for part in parts), read - kept - reasons.total()
        if members != self.record.members:
            msg = (
                f"the tasks read {members:,} members, but the state records {self.record.members:,}. Check "
                "that all executors reach the same state"
            )
            raise SourceError(msg, location=self.label)
        if duplicate < 0:
            msg = f"the tasks read {read:,} rows and found {kept:,} IDs. Cache the source, and run again"
            raise SourceError(msg, location=self.label)
        return StageCounts(
            read=read,
            kept=kept,
            duplicate=duplicate,
            rejected=reasons.total(),
            reasons=MappingProxyType({Reason(name): count for name, count in sorted(reasons.items())}),
        )


def _add_up(sums: Iterable[tuple[int, int, int]]) -> tuple[int, int, int]:
    ids, low, high = map(sum, zip((0, 0, 0), *sums, strict=True))
    return ids, low, high


def _total(counts: Iterable[Any]) -> Counter[Any]:
    total: Counter[Any] = Counter()
    for one in counts:
        total.update(one)
    return total


def _merge_lint(parts: Sequence[PartSummary]) -> SourceLint:
    counts = _total(part.lint.counts for part in parts)
    sample = [id_ for part in parts for id_ in part.lint.sample]
    ordered = {kind: counts[kind] for kind in LintKind if counts[kind]}
    return SourceLint(MappingProxyType(ordered), tuple(sample[:_SAMPLE]))


def _merge_attribute_lint(parts: Sequence[PartSummary]) -> AttributeLint:
    counts = _total(part.attribute_lint.counts for part in parts)
    if not counts:
        return AttributeLint()
    names = sorted({name for part in parts for name in part.attribute_lint.names})
    ordered = {kind: counts[kind] for kind in AttributeLintKind if counts[kind]}
    limit = max(part.attribute_lint.limit for part in parts)
    return AttributeLint(MappingProxyType(ordered), tuple(names[:_SAMPLE]), limit)
