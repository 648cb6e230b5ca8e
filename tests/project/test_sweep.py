"""The short and the long form of the suite."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ..conftest import pytest_collection_modifyitems
from ..helpers.sweep import SWEEP_VARIABLE, dependent_names, examples


@pytest.mark.parametrize(("value", "count"), [("", 10), ("0", 10), ("1", 1_000)])
def test_form_decides_the_number_of_examples(value: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`examples()` returns its second number in the long form only."""
    monkeypatch.setenv(SWEEP_VARIABLE, value)
    assert examples(10, 1_000) == count


class _Item:
    """A collected test: perhaps marked, or a property, or one that depends on `examples`."""

    def __init__(self, name: str, *, mark: str = "", module: object = None, obj: object = None) -> None:
        self.name = name
        self.nodeid = f"test_module.py::{name}"
        self.mark = mark
        self.module = module
        self.obj = obj

    def get_closest_marker(self, name: str) -> object:
        """Return the marker, if the test has it."""
        return SimpleNamespace(args=[2]) if self.mark == name else None


@given(st.integers())
def _a_property(number: int) -> None:
    """Hold for any number."""


_SIZES = range(examples(1, 3))


@pytest.fixture
def size() -> int:
    """A fixture that depends on the form."""
    return len(_SIZES)


def _needs_examples(size: int) -> None:
    """Depend on the form through a fixture."""


_HERE = SimpleNamespace(__file__=__file__)
_ITEMS = (
    _Item("plain", module=_HERE),
    _Item("document"),
    _Item("marked", mark="sweep", module=_HERE),
    _Item("property", module=_HERE, obj=_a_property),
    _Item("_needs_examples[1]", module=_HERE),
    *(_Item(f"sampled[{number}]", mark="sample") for number in range(5)),
)
_SHORT = {"plain", "document", "property", "_needs_examples[1]", "sampled[0]", "sampled[2]"}
_LONG = {"marked", "sampled[1]", "sampled[3]", "sampled[4]"}


@pytest.mark.parametrize(
    ("sweep", "only", "left"),
    [
        ("", False, _SHORT),
        ("1", False, _SHORT | _LONG),
        ("1", True, _LONG | {"property", "_needs_examples[1]"}),
    ],
)
def test_forms_select_their_tests(
    sweep: str, only: bool, left: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The short form has no marked test, and `--sweep-only` none that is equal in both forms."""
    monkeypatch.setenv(SWEEP_VARIABLE, sweep)
    items = list(_ITEMS)
    deselected: list[_Item] = []

    def pytest_deselected(items: list[_Item]) -> None:
        deselected.extend(items)

    hook = SimpleNamespace(pytest_deselected=pytest_deselected)
    config = SimpleNamespace(hook=hook, getoption=lambda name, _=None: only and name == "sweep_only")
    pytest_collection_modifyitems(cast("pytest.Config", config), cast("list[pytest.Item]", items))
    assert {item.name for item in items} == left
    assert {item.name for item in deselected} == {item.name for item in _ITEMS} - left


@pytest.mark.parametrize(
    ("source", "dependent"),
    [
        ("def test(): examples(1, 2)\ndef test_other(): pass", {"test"}),
        ("@settings(max_examples=examples(1, 2))\ndef test(): pass", {"test"}),
        ("class Test:\n  async def test(self): return is_sweep()\nclass Other: pass", {"Test"}),
        ("N = examples(1, 2)\ndef helper(): return N\ndef test(): helper()", {"N", "helper", "test"}),
        ("N: int = examples(1, 2)\nfor M in range(N): pass\ndef test(): M", {"N", "M", "test"}),
        ("def server(): examples(1, 2)\n@usefixtures('server')\ndef test(): pass", {"server", "test"}),
        ("from .sweep import examples\ndef test(): pass", set()),
        ("@fixture(autouse=True)\ndef all_(): examples(1, 2)\ndef test(): pass", {"all_", "test"}),
        ("@fixture(autouse=True)\ndef all_(): pass\ndef test(): examples(1, 2)\ndef no(): pass", {"test"}),
        ("pytestmark = mark(examples(1, 2))\ndef test(): pass", {"pytestmark", "test"}),
    ],
)
def test_dependence_on_examples_is_found(source: str, dependent: set[str]) -> None:
    """A test depends on `examples` directly, or through a constant, a helper or a fixture of its module."""
    assert dependent_names(source) - {"examples", "is_sweep"} == dependent
