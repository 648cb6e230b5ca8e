"""The two forms of the suite: `make test` runs the short one, `make test-all` the long one.

    from ..helpers.sweep import examples

    @settings(max_examples=examples(50, 1_000))
    @pytest.mark.parametrize("size", SIZES[: examples(3, len(SIZES))])

`@pytest.mark.sweep` marks a test that only the long form runs. With `@pytest.mark.sample(3)` the short form
runs three of its parameters, evenly spread, and the long form all. A few tests, such as that of a hundred
kills, take minutes even there: `AIOBATCH_FULL=1 make test-all` runs them in full.

`--sweep-only` selects what differs in the long form: tests and parameters that the short form leaves out,
properties, and tests that depend on `examples`. CI runs both forms, so it need not run the other tests twice.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator

# `pytest --sweep` sets it before it imports a test module, and worker processes inherit it.
SWEEP_VARIABLE = "AIOBATCH_SWEEP"
_FULL_VARIABLE = "AIOBATCH_FULL"


def is_sweep() -> bool:
    """Return whether this process runs the long form."""
    return os.environ.get(SWEEP_VARIABLE, "") == "1"


def examples(short: int, long: int, *, full: int | None = None) -> int:
    """Return how many examples to try: *short* in the short form of the suite, *long* in the long form.

    *full* is their number in a long form that runs in full.

    It works at import time, so that decorators and parameter lists can use it.
    """
    if full is not None and os.environ.get(_FULL_VARIABLE, "") == "1":
        return full
    return long if is_sweep() else short


def dependent_names(source: str) -> frozenset[str]:
    """Return the top-level names of a test module that depend on the form of the suite.

    They use `examples` or `is_sweep`, or another name that does. A fixture that applies to all tests passes
    its dependence on to all of them.

    Args:
        source: the text of the module.
    """
    definitions = [(set(_bound(node)), set(_mentioned(node)), node) for node in ast.parse(source).body]
    found = {examples.__name__, is_sweep.__name__}
    while (
        more := {name for bound, mentioned, _ in definitions if mentioned & found for name in bound} - found
    ):
        found |= more
    if any(bound & found and _applies_to_all(bound, node) for bound, _, node in definitions):
        return frozenset().union(*(bound for bound, _, _ in definitions))
    return frozenset(found)


def _bound(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement of a module binds, other than those that it imports."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
        return
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            yield part.id


def _mentioned(node: ast.stmt) -> Iterator[str]:
    """Yield all names in a statement. An argument can be a fixture, and a text can be the name of one."""
    for part in ast.walk(node):
        match part:
            case ast.Name(id=name) | ast.arg(arg=name) | ast.Constant(value=str(name)):
                yield name


def _applies_to_all(bound: set[str], node: ast.stmt) -> bool:
    keywords = {part.arg for part in ast.walk(node) if isinstance(part, ast.keyword)}
    return "pytestmark" in bound or "autouse" in keywords
