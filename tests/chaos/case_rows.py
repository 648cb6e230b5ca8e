"""The rows of all cases, read from the marks of all tests, whether they run or not."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from .result_table import Row


def case_rows() -> list[Row]:
    """Return a row without a result for each case."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("test_*.py"))
    modules = [importlib.import_module(f".{name}", __package__) for name in names]
    functions = [function for module in modules for function in vars(module).values()]
    marks = [mark for function in functions for mark in _marks(getattr(function, "pytestmark", ()))]
    return [_row(mark.kwargs) for mark in marks]


def _marks(marks: Iterable[pytest.Mark]) -> Iterator[pytest.Mark]:
    """Yield the `chaos` marks of a function and of its parameters."""
    for mark in marks:
        if mark.name == "chaos":
            yield mark
        elif mark.name == "parametrize":
            yield from _marks(one for values in mark.args[1] for one in getattr(values, "marks", ()))


def _row(texts: Mapping[str, Any]) -> Row:
    words = {name: texts[name] for name in ("part", "done", "holds")}
    return Row(**words, happened="", seconds=None, outcome="passed")
