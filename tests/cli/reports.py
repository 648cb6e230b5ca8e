"""Sources for syncs, and their reports, each checked against the schema that is published."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jsonschema

from .conftest import Result

REFERENCE = Path(__file__).resolve().parent.parent.parent / "docs" / "reference"
_SCHEMA = json.loads((REFERENCE / "report.schema.json").read_text(encoding="utf-8"))


def write(ids: Iterable[str], name: str = "users.csv", column: str = "user_id") -> str:
    """Write a source to the working directory and return its path."""
    Path(name).write_text("\n".join([column, *ids, ""]), encoding="utf-8")
    return name


def users(*numbers: Iterable[int]) -> list[str]:
    """Name users."""
    return [f"u{number}" for some in numbers for number in some]


def report(result: Result) -> dict[str, Any]:
    """Return the one object that a command printed, valid and with the exit code that it had."""
    (values,) = result.objects
    jsonschema.validate(values, _SCHEMA, cls=jsonschema.Draft7Validator)
    assert values["exit_code"] == result.code
    assert (values["error"] is None) == (values["error_type"] is None)
    return dict(values)
