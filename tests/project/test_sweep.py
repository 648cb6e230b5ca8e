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

    def __init__(self, name: str, *, marked: bool = False, module: object = None, obj: object = None) -> None:
        self.name = name
        self.marked = marked
        self.module = module
        self.obj = obj

    def get_closest_marker(self, name: str) -> object:
        """Return the marker, if the test has it."""
        return object() if self.marked and name == "sweep" else None


@given(st.integers())
def _a_property(number: int) -> None:
    """Hold for any number."""


_ITEMS = (
    _Item("plain", module=SimpleNamespace()),
    _Item("document"),
    _Item("marked", marked=True, module=SimpleNamespace()),
    _Item("property", module=SimpleNamespace(), obj=_a_property),
    _Item("with examples", module=SimpleNamespace(examples=examples)),
)


@pytest.mark.parametrize(
    ("sweep", "only", "left"),
    [
        ("", False, {"plain", "document", "property", "with examples"}),
        ("1", False, {"plain", "document", "marked", "property", "with examples"}),
        ("1", True, {"marked", "property", "with examples"}),
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
    config = SimpleNamespace(hook=hook, getoption=lambda name: only)
    pytest_collection_modifyitems(cast("pytest.Config", config), cast("list[pytest.Item]", items))
    assert {item.name for item in items} == left
    assert {item.name for item in deselected} == {item.name for item in _ITEMS} - left
