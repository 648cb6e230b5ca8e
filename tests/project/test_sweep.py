"""The short and the long form of the suite."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ..conftest import pytest_collection_modifyitems
from ..helpers.sweep import SWEEP_VARIABLE, examples


@pytest.mark.parametrize(("value", "count"), [("", 10), ("0", 10), ("1", 1_000)])
def test_form_decides_the_number_of_examples(value: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`examples()` returns its second number in the long form only."""
    monkeypatch.setenv(SWEEP_VARIABLE, value)
    assert examples(10, 1_000) == count


class _Item:
    """A collected test: perhaps marked, or in a module with examples, or a property."""

    def __init__(self, name: str, *, mark: str = "", module: object = None, obj: object = None) -> None:
        self.name = self.nodeid = name
        self.mark = mark
        self.module = module
        self.obj = obj

    def get_closest_marker(self, name: str) -> object:
        """Return the marker, if the test has it."""
        return SimpleNamespace(args=[2]) if self.mark == name else None


@given(st.integers())
def _a_property(number: int) -> None:
    """Hold for any number."""


_ITEMS = (
    _Item("plain", module=SimpleNamespace()),
    _Item("document"),
    _Item("marked", mark="sweep", module=SimpleNamespace()),
    _Item("property", module=SimpleNamespace(), obj=_a_property),
    _Item("with examples", module=SimpleNamespace(examples=examples)),
    *(_Item(f"sampled[{number}]", mark="sample") for number in range(5)),
)
_SHORT = {"plain", "document", "property", "with examples", "sampled[0]", "sampled[2]"}
_LONG = {"marked", "sampled[1]", "sampled[3]", "sampled[4]"}


@pytest.mark.parametrize(
    ("sweep", "only", "left"),
    [
        ("", False, _SHORT),
        ("1", False, _SHORT | _LONG),
        ("1", True, _LONG | {"property", "with examples"}),
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
