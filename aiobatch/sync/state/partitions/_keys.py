"""Keys of IDs, and the number of their hash partitions."""

from __future__ import annotations

from typing import Final

from .._state import State

_SALT_LENGTH: Final = 8
# Bytes of a row in DuckDB's hash tables. It is right for keys. IDs take more, of which a part is spilled.
_ROW_BYTES: Final = 64
# A transaction that deletes a row holds so many bytes for each row of its vector of so many rows.
_DELETION_BYTES: Final = 8
_VECTOR_ROWS: Final = 2048
# The share of the memory limit for one hash table. The rest is for buffers and uneven partitions.
_SHARE: Final = 0.4
# A comparison may spill so many times of that. To spill costs less than to read all keys more often.
_SPILLED: Final = 4
# Each partition reads all keys again. Beyond this number DuckDB spills what does not fit.
_MOST: Final = 64


def salt_of(state: State) -> str:
    """Return the salt of the keys in a state."""
    return state.state_id[:_SALT_LENGTH]


def rows_in_memory(state: State) -> int:
    """Return how many rows one statement may hold in memory."""
    return max(int(state.memory_limit * _SHARE) // _ROW_BYTES, 1)


def can_delete(state: State, *, rows: int, deleted: int) -> bool:
    """Return whether rows can be deleted from a table in one transaction.

    Until it ends, DuckDB holds in memory which rows of each vector are deleted.

    Args:
        state: An open state, with its memory limit.
        rows: The number of rows of the table.
        deleted: The number of rows to delete, each of which may be in a vector of its own.
    """
    touched = min(rows, deleted * _VECTOR_ROWS)
    return touched <= rows_in_memory(state) * _ROW_BYTES // _DELETION_BYTES


def count_partitions(state: State, rows: int) -> int:
    """Return the number of partitions, a power of two, that fit into memory one by one.

    Args:
        state: An open state, with its memory limit.
        rows: The number of rows of all partitions.
    """
    wanted = max(-(-rows // rows_in_memory(state)), 1)
    return min(1 << (wanted - 1).bit_length(), _MOST)


def count_comparisons(state: State, rows: int) -> int:
    """Return the number of partitions of a comparison, which may spill.

    Args:
        state: An open state, with its memory limit.
        rows: The number of rows of the larger side.
    """
    return count_partitions(state, -(-rows // _SPILLED))


def each_partition(state: State, rows: int) -> list[str]:
    """Return an SQL condition on the column `id` for each partition of a statement.

    Args:
        state: An open state, with its memory limit.
        rows: The number of rows of all partitions.
    """
    partitions = count_partitions(state, rows)
    if partitions == 1:
        return ["true"]
    # Nothing outside the statement depends on this hash, and it is the fastest one.
    return [f"hash(id) & {partitions - 1} = {partition}" for partition in range(partitions)]
