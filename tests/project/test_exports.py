"""The public API: the names in `aiobatch.__all__`."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import pytest

import aiobatch


def test_all_is_sorted_without_duplicates() -> None:
    """`__all__` is in alphabetical order, each name once."""
    assert list(aiobatch.__all__) == sorted(set(aiobatch.__all__))


def _imported_names() -> list[str]:
    """Return the names that the package imports for type checkers."""
    tree = ast.parse(Path(aiobatch.__file__).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    return [name.asname or name.name for node in imports for name in node.names]


def test_all_names_every_public_name() -> None:
    """`__all__` names exactly what the package imports for type checkers, and each name exists."""
    assert sorted(_imported_names()) == sorted(aiobatch.__all__)
    for name in aiobatch.__all__:
        assert getattr(aiobatch, name) is vars(aiobatch)[name]
    assert set(dir(aiobatch)) >= set(aiobatch.__all__)
    public = {name for name, value in vars(aiobatch).items() if not isinstance(value, ModuleType)}
    assert {name for name in public if not name.startswith("_")} - {"annotations"} <= set(aiobatch.__all__)


@pytest.mark.parametrize(
    ("program", "lines"),
    [
        (
            "import aiobatch, sys; print('attrs' in sys.modules, 'AudienceClient' in dir(aiobatch))",
            ["False True"],
        ),
        ("from aiobatch import *; print(App.__name__, __version__ == '')", ["App False"]),
        ("import aiobatch; print(aiobatch.errors.AiobatchError is aiobatch.AiobatchError)", ["True"]),
        ("import aiobatch, pickle; print(pickle.loads(pickle.dumps(aiobatch.App)).__name__)", ["App"]),
        (
            "import aiobatch; print(hasattr(aiobatch, 'nothing'), hasattr(aiobatch, '__path__'))",
            ["False True"],
        ),
        (
            "import inspect, aiobatch; print(dict(inspect.getmembers(aiobatch))['lint_ids'].__name__)",
            ["lint_ids"],
        ),
    ],
)
def test_names_are_imported_when_they_are_used(program: str, lines: list[str]) -> None:
    """The names behave in a new process as if the package had imported them."""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == lines


def test_misspelt_name() -> None:
    """A name that does not exist has the usual error, which names the module and the name."""
    with pytest.raises(
        AttributeError, match=r"^module 'aiobatch' has no attribute 'AudienceCleint'"
    ) as caught:
        aiobatch.AudienceCleint  # type: ignore[attr-defined]  # noqa: B018 - it raises
    assert caught.value.name == "AudienceCleint"
    assert aiobatch.__getattr__("errors") is importlib.import_module("aiobatch.errors")
    with pytest.raises(ImportError, match="cannot import name 'AudienceCleint' from 'aiobatch'"):
        from aiobatch import AudienceCleint  # type: ignore[attr-defined]  # noqa: F401


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
