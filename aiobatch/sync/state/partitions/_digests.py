"""Digests of the IDs and fingerprints of each partition. Equal ones need no comparison.

Those of the members are stored with the number of the run that made the members what they are. Numbers of
runs are never used again, so a digest is never that of other members.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Self

import attrs

from .._state import AudienceRecord, State

# DuckDB takes a thousand times as long to format 128 bits in decimal as in hexadecimal.
# A sum does not depend on the order of rows. Each half of a 128-bit hash has a sum of its own.
_LOW_HALF: Final = 2**64 - 1
_DIGEST: Final = f"""
SELECT (key & {{mask}})::INTEGER AS partition, count(*),
    sum((term & {_LOW_HALF})::UBIGINT), sum((term >> 64)::UBIGINT)
FROM (
    SELECT key,
        CASE WHEN fingerprint = 0 THEN key
            ELSE md5_number(hex(key) || ' ' || hex(fingerprint::UHUGEINT)) END AS term
    FROM {{keys}}
) GROUP BY partition
"""
# The run that made the members what they are.
_LATEST: Final = "SELECT coalesce(max(run), 0) FROM runs WHERE key = ? AND applied > 0"
_STORED: Final = f"""
SELECT partition, ids, low, high FROM digests WHERE key = ? AND partitions = ? AND run = ({_LATEST})
"""
_STORED_TOTAL: Final = f"""
SELECT sum(ids)::BIGINT, sum(low), sum(high) FROM digests WHERE key = ? AND run = ({_LATEST})
"""


@attrs.frozen
class Digests:
    """The digests of a table.

    Attributes:
        partitions: The number of partitions.
        sums: Partition -> number of IDs and the sums of both halves of their hashes. Empty ones are left out.
    """

    partitions: int
    sums: Mapping[int, tuple[int, int, int]]

    @classmethod
    def of_keys(cls, state: State, keys: str, partitions: int) -> Self:
        """Return the digests of a table or view of `key, fingerprint`."""
        rows = state.rows(_DIGEST, mask=str(partitions - 1), keys=keys)
        return cls(partitions, {partition: (ids, low, high) for partition, ids, low, high in rows})

    @property
    def ids(self) -> int:
        """Number of IDs."""
        return sum(ids for ids, _, _ in self.sums.values())

    def __str__(self) -> str:
        """Return the digest of the whole table, the same for any number of partitions."""
        _, low, high = map(sum, zip((0, 0, 0), *self.sums.values(), strict=True))
        return f"{self.ids}-{low:x}-{high:x}"

    def changed(self, other: Digests) -> list[int]:
        """Return the partitions that differ from those of *other*, which has the same number of them."""
        both = sorted({*self.sums, *other.sums})
        return [partition for partition in both if self.sums.get(partition) != other.sums.get(partition)]


def read_digests(state: State, audience: AudienceRecord, partitions: int) -> Digests | None:
    """Return the stored digests of an audience's members. None if there are none for this many partitions."""
    rows = state.rows(_STORED, [audience.key, partitions, audience.key])
    digests = Digests(partitions, {partition: (ids, low, high) for partition, ids, low, high in rows})
    return digests if digests.ids == audience.members else None


def equals_members(state: State, keys: Iterable[str], table: str) -> bool:
    """Return whether the rows of a table are the members of an audience. Then no ID is in it twice.

    Args:
        state: An open state.
        keys: The audiences' keys. Those without stored digests are ignored.
        table: A table of `key, fingerprint`.
    """
    totals = [total for key in keys if (total := state.row(_STORED_TOTAL, [key, key])) != (None, None, None)]
    if not totals:
        return False
    (count,) = state.row("SELECT count(*) FROM {table}", table=table)
    if count not in {ids for ids, _, _ in totals}:
        return False
    return Digests.of_keys(state, table, 1).sums.get(0) in totals


def store_digests(state: State, key: str, digests: Digests) -> None:
    """Store, within a transaction, the digests of an audience's members as they are now."""
    clear_digests(state, key)
    for partition, sums in digests.sums.items():
        values = [key, key, digests.partitions, partition, *sums]
        state.rows(f"INSERT INTO digests VALUES (?, ({_LATEST}), ?, ?, ?, ?, ?)", values)


def clear_digests(state: State, key: str) -> None:
    """Delete, within a transaction, the digests of an audience."""
    state.rows("DELETE FROM digests WHERE key = ?", [key])
