"""The public API: the names in `aiobatch.__all__`."""

from __future__ import annotations

import inspect
from types import ModuleType

import aiobatch


def test_all_is_sorted_without_duplicates() -> None:
    """`__all__` is in alphabetical order, each name once."""
    assert list(aiobatch.__all__) == sorted(set(aiobatch.__all__))


def test_all_names_every_public_name() -> None:
    """`__all__` names exactly the public names of the package."""
    public = {
        name
        for name, value in vars(aiobatch).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and name != "annotations"
    }
    assert public == {name for name in aiobatch.__all__ if not name.startswith("_")}


def test_every_export_is_documented() -> None:
    """Every exported class and function has a docstring of its own."""
    exported = {name: getattr(aiobatch, name) for name in aiobatch.__all__}
    assert [name for name, value in exported.items() if _can_be_documented(value) and not value.__doc__] == []


def _can_be_documented(value: object) -> bool:
    return inspect.isclass(value) or inspect.isfunction(value)
