"""The public API: the names in `aiobatch.__all__`."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any, get_type_hints

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


# The public modules: no part of their name begins with an underscore, and they define `__all__`.
_MODULES = [
    importlib.import_module(found.name)
    for found in pkgutil.walk_packages(aiobatch.__path__, "aiobatch.")
    if not re.search(r"\._|\.cli\b|\.dialects\b|\.transport\b", found.name)
] + [aiobatch]


def _public_callables() -> dict[str, Callable[..., Any]]:
    """Return each public function, class and method of a public module, by name."""
    found: dict[str, Callable[..., Any]] = {}
    for module in _MODULES:
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if inspect.isclass(value):
                found[f"{module.__name__}.{name}"] = value
                own = (cls for cls in value.__mro__ if cls.__module__.startswith("aiobatch"))
                methods = {key for cls in own for key in vars(cls) if not key.startswith("_")}
                members = {key: getattr(value, key) for key in methods}
                found |= {
                    f"{module.__name__}.{name}.{key}": member
                    for key, member in members.items()
                    if inspect.isroutine(member)
                }
            elif inspect.isroutine(value):
                found[f"{module.__name__}.{name}"] = value
    return found


_CALLABLES = _public_callables()
# A private name, or the repr of an object with its address.
_PRIVATE = re.compile(r"(?<!\w)_\w+|object at 0x")


def test_no_signature_shows_a_private_name() -> None:
    """The signature of a public class, function or method names nothing private, as editors render it."""
    shown = {}
    for name, value in _CALLABLES.items():
        try:
            signature = str(inspect.signature(value))
        except ValueError:  # a class that inherits its constructor from Python
            assert issubclass(value, BaseException | dict)  # type: ignore[arg-type]  # it is a class
            continue
        if _PRIVATE.search(signature.replace("__", "")):
            shown[name] = signature
    assert len(_CALLABLES) > 150
    assert shown == {}


def test_interfaces_are_public() -> None:
    """The parts that a program may replace have public modules, and hints that resolve there."""
    for interface in (aiobatch.Request, aiobatch.Response, aiobatch.Transport, aiobatch.Clock):
        assert interface.__module__ == "aiobatch.interfaces"
        assert getattr(importlib.import_module(interface.__module__), interface.__name__) is interface
        get_type_hints(interface)
        get_type_hints(interface.__init__)


def _can_be_documented(value: object) -> bool:
    return inspect.isclass(value) or inspect.isfunction(value)
