"""Doubles of the tables, records and columns of other libraries, with the same protocols."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import attrs

_IDS = ["u1", "u2"]


class Frame:
    """A DataFrame of pandas: iterating it yields the names of its columns."""

    columns = ("user_id", "plan")
    shape = (2, 2)

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


class ArrowTable:
    """A table of pyarrow."""

    column_names = ("user_id", "plan")

    def __iter__(self) -> Iterator[list[str]]:
        return iter([_IDS, _IDS])

    def to_pylist(self) -> list[dict[str, str]]:
        """Return the rows."""
        return [{"user_id": value} for value in _IDS]


class SparkFrame:
    """A DataFrame of Spark, which cannot be iterated. A missing attribute is a column's name."""

    columns = ("user_id",)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


class InterchangeFrame:
    """A frame of any library with the interchange protocol."""

    def __dataframe__(self) -> None:
        """Return nothing."""

    def __iter__(self) -> Iterator[str]:
        return iter(["user_id"])


class Row:
    """A row of sqlite3 or asyncpg: iterating it yields its values."""

    def keys(self) -> list[str]:
        """Return the names of the columns."""
        return ["user_id", "plan"]

    def __iter__(self) -> Iterator[str]:
        return iter(["u1", "gold"])


@attrs.frozen
class Array(Collection[Any]):
    """An array of NumPy or a Series, of any number of dimensions, of any type."""

    items: tuple[Any, ...]
    ndim: int
    dtype: Any = None

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __contains__(self, value: object) -> bool:
        return value in self.items


@attrs.frozen
class Dtype:
    """A type of NumPy."""

    kind: str = "U"
    names: tuple[str, ...] | None = None


class Series(Array):
    """A Series of pandas, whose attributes can be the labels of its rows."""

    columns = keys = _fields = "u1"


@attrs.frozen
class ArrowArray:
    """An array of pyarrow, whose iterator yields no strings."""

    items: list[Any]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[object]:
        return iter([object()] * len(self.items))

    def slice(self, start: int, count: int) -> ArrowArray:
        """Return a part."""
        return ArrowArray(self.items[start : start + count])

    def to_pylist(self) -> list[Any]:
        """Return the values."""
        return self.items


@attrs.frozen
class Scalar:
    """A number of NumPy."""

    value: Any
    dtype: Dtype
    shape: tuple[int, ...] = ()

    def item(self) -> Any:
        """Return Python's own value."""
        return self.value


class NaTType:
    """The mark of a missing time of pandas."""

    def __repr__(self) -> str:
        return "NaT"


class NAType:
    """The mark of a missing value of pandas, which has no truth value."""

    def __bool__(self) -> bool:
        raise TypeError

    def __eq__(self, other: object) -> Any:
        return self

    __hash__ = None  # type: ignore[assignment]  # as in no library, but harder


class MaskedConstant(Scalar):
    """The mark of a masked value of NumPy, whose value is a zero."""


class UncollectedColumn:
    """A column of Spark, which has the method of an iterable but no values."""

    def __iter__(self) -> Iterator[str]:
        msg = "Column is not iterable"
        raise TypeError(msg)


class File:
    """A temporary file, which is no `io.IOBase`."""

    def readline(self) -> str:
        """Return a line."""
        return "u1\n"

    def __iter__(self) -> Iterator[str]:
        return iter(["u1\n"])


Record = namedtuple("Record", ["user_id", "plan"])  # noqa: PYI024 - as database drivers create it

TABLES: Mapping[str, Any] = {
    "pandas frame": Frame(),
    "arrow table": ArrowTable(),
    "spark frame": SparkFrame(),
    "interchange frame": InterchangeFrame(),
    "mapping": {"user_id": _IDS},
    "named tuple": Record("u1", "gold"),
    "row": Row(),
    "2-D array": Array(("a", "b"), ndim=2),
    "0-D array": Array(("a",), ndim=0),
    "structured array": Array(("a", "b"), ndim=1, dtype=Dtype("V", ("user_id", "plan"))),
    "class": type("Plan", (), {}),
}
COLUMNS: Mapping[str, Any] = {
    "tuple": tuple(_IDS),
    "1-D array": Array(tuple(_IDS), ndim=1, dtype=Dtype()),
    "series": Series(tuple(_IDS), ndim=1),
    "arrow array": ArrowArray(_IDS),
    "keys": {"u1": 1, "u2": 2}.keys(),
    "values": {1: "u1", 2: "u2"}.values(),
}
MISSING: Mapping[str, Any] = {
    "NaT": NaTType(),
    "NA": NAType(),
    "NaN": float("nan"),
    "None": None,
    "masked": MaskedConstant(0.0, Dtype("f")),
}
