"""Recognition of tables, records and columns of other libraries, without importing any of these libraries.

Iterating over a DataFrame yields the names of its columns. They are strings, so they would pass for IDs.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping
from typing import Any

# Elements of an Arrow column that are converted at a time.
_PORTION = 10_000
# Attributes of tables, and of rows: named tuples, and the rows of Spark, SQLAlchemy, sqlite3 and asyncpg.
_SIGNS = {
    "columns": "a table",
    "column_names": "a table",
    "__dataframe__": "a table",
    "_fields": "a record",
    "__fields__": "a record",
    "_mapping": "a record",
    "keys": "a record or mapping",
}
# The kinds of NumPy's types that are plain numbers and booleans. A datetime64 would become an integer.
_NUMBER_KINDS = frozenset("biuf")


def describe_table(items: object) -> str | None:
    """Return what *items* is, if iterating over it yields something other than its elements.

    Args:
        items: Any object.

    Returns:
        Such as "a table", for an error message. None for a list, a column or a 1-D array.
    """
    if isinstance(items, Mapping | type):
        return "a mapping" if isinstance(items, Mapping) else "a class"
    if isinstance(getattr(getattr(items, "dtype", None), "names", None), tuple):  # NumPy's structured arrays
        return "an array of records"
    dimensions = dimensions_of(items)
    if dimensions is not None:
        # A Series has one dimension. Its other attributes may be the labels of its rows.
        return None if dimensions == 1 else f"a table or array of {dimensions} dimensions"
    for name, kind in _SIGNS.items():
        # A static lookup, because Polars' lazy frames compute the names, and Spark's take any name.
        if inspect.getattr_static(items, name, None) is not None:
            return kind
    return None


def dimensions_of(items: object) -> int | None:
    """Return the number of dimensions of an array or a frame. None for any other object."""
    shape = getattr(items, "shape", None)
    if isinstance(shape, tuple):
        return len(shape)
    dimensions = getattr(items, "ndim", None)
    return dimensions if isinstance(dimensions, int) else None


def is_file(items: object) -> bool:
    """Return whether *items* is a file, or one of the wrappers that are no `io.IOBase`."""
    return callable(getattr(items, "readline", None))


def to_column(items: Any) -> Any:
    """Return *items*, or an Arrow column as a collection of Python's own values."""
    return ArrowColumn(items) if callable(getattr(items, "to_pylist", None)) else items


class ArrowColumn(Collection[Any]):
    """The values of an Arrow array. The array's own iterator yields Arrow's scalars.

    Args:
        array: An `Array` or `ChunkedArray`.
    """

    def __init__(self, array: Any) -> None:
        self._array = array

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self), _PORTION):  # a list of all values could exceed the memory
            yield from self._array.slice(start, _PORTION).to_pylist()

    def __contains__(self, value: object) -> bool:
        return any(value == item for item in self)


def to_number(value: Any) -> Any:
    """Return *value*, or Python's own number or boolean in place of one of NumPy's."""
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    if kind in _NUMBER_KINDS and dimensions_of(value) == 0 and not is_missing(value):
        number = value.item()
        return number if isinstance(number, int | float) else value  # a long double stays one
    return value


def is_missing(value: object) -> bool:
    """Return whether *value* is a mark of a missing value: pandas' NaT and NA, or NumPy's masked."""
    return type(value).__name__ in {"NaTType", "NAType", "MaskedConstant"}
