"""The short and the long form of the suite."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from ..conftest import pytest_collection_modifyitems
from ..helpers.sweep import SWEEP_VARIABLE, examples


@pytest.mark.parametrize(("value", "count"), [("", 10), ("0", 10), ("1", 1_000)])
def test_form_decides_the_number_of_examples(value: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`examples()` returns its second number in the long form only."""
    monkeypatch.setenv(SWEEP_VARIABLE, value)
    assert examples(10, 1_000) == count


class _Item:
    """A collected test, with or without the marker."""

    def __init__(self, *, marked: bool) -> None:
        self.marked = marked

    def get_closest_marker(self, name: str) -> bool:
        """Return whether the test has the marker."""
        return self.marked and name == "sweep"


@pytest.mark.parametrize(("value", "left"), [("", [False]), ("1", [True, False])])
def test_short_form_leaves_marked_tests_out(
    value: str, left: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test that is marked `sweep` is deselected in the short form only."""
    monkeypatch.setenv(SWEEP_VARIABLE, value)
    items = [_Item(marked=True), _Item(marked=False)]
    config = SimpleNamespace(hook=SimpleNamespace(pytest_deselected=lambda items: None))
    pytest_collection_modifyitems(cast("pytest.Config", config), cast("list[pytest.Item]", items))
    assert [item.marked for item in items] == left
