"""docs/reference/environment.md lists every environment variable that the package names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_PAGE = (ROOT / "docs" / "reference" / "environment.md").read_text(encoding="utf-8")
_NAME = re.compile(
    r"(?:AIOBATCH|AWS|AZURE|BATCH|GOOGLE|HTTPS?|OTEL|PG|SSL|XDG)_?[A-Z][A-Z0-9_]*[A-Z0-9]"
    r"|(?:ALL|NO)_PROXY|TERM|HOME|TRACEPARENT"
)
# Names of the same form that are no variables of the environment.
_OTHERS = {"BULK_RETRY", "HTTPS"}


def _named() -> set[str]:
    """Return the strings of the package that look like a variable."""
    return {
        node.value
        for path in (ROOT / "aiobatch").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _NAME.fullmatch(node.value)
    }


def test_every_variable_is_documented() -> None:
    """The page has each variable of the code, and the code each BATCH_* variable of the page."""
    documented = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", _PAGE))
    named = _named() - _OTHERS
    assert {"BATCH_REST_API_KEY", "AIOBATCH_CONFIG", "HTTPS_PROXY", "OTEL_SDK_DISABLED"} <= named
    assert named - documented == set()
    assert {one for one in documented if one.startswith(("BATCH_", "AIOBATCH_"))} <= named
