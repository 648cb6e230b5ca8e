"""Options of a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aiobatch import InvalidInputError
from aiobatch.sync import GuardPolicy, Overrides
from airflow_provider_batchcom._options import parse_options


def test_options_have_the_names_of_the_config() -> None:
    """Options of the run, the guard and the source are in one mapping, as in `aiobatch.toml`."""
    chosen = parse_options(
        {"max_removals_percent": 5, "strict": True, "rejects": "/r.csv", "id_column": "uid"}, None, mode="add"
    )
    assert chosen.run.guard == GuardPolicy(max_removals_percent=5)
    assert (chosen.run.strict, chosen.run.mode, chosen.run.rejects) == (True, "add", Path("/r.csv"))
    assert chosen.reading == {"id_column": "uid"}


@pytest.mark.parametrize("guard", [{"max_removals": 3}, GuardPolicy(max_removals=3)])
def test_guard_may_be_nested(guard: Any) -> None:
    """The guard's options may also be together, as in the library."""
    assert parse_options({"guard": guard}, None).run.guard.max_removals == 3


@pytest.mark.parametrize(
    ("value", "parsed"),
    [("5", 5), (" 5 ", 5), ("", None), ("null", None), (7, 7), (None, None)],
)
def test_overrides_may_be_templates(value: Any, parsed: int | None) -> None:
    """A rendered template is text, and becomes the number that it shows."""
    assert parse_options(None, {"allow_removals": value}).run.overrides == Overrides(allow_removals=parsed)


@pytest.mark.parametrize("value", ["true", "TRUE", True])
def test_boolean_override_may_be_a_template(value: Any) -> None:
    """The same holds for a boolean."""
    assert parse_options(None, {"allow_empty": value}).run.overrides == Overrides(allow_empty=True)


@pytest.mark.parametrize(
    ("options", "overrides", "text"),
    [
        ({"max_removal_percent": 5}, None, "Did you mean max_removals_percent"),
        ({"zzz": 5}, None, "Known are"),
        ({"wait": False}, None, "deferrable"),
        ({"mode": "add"}, None, "argument of the operator"),
        ({"guard": {"mode": 1}}, None, "argument of the operator"),
        ({"guard": 3}, None, "options\\['guard'\\] must be a mapping"),
        ({"chunk_size": 0}, None, "chunk_size"),
        ([], {"allow_removal": 1}, "Did you mean allow_removals"),
        (None, {"allow_removals": "many"}, "allow_removals"),
        ("x", None, "options must be a mapping"),
        (None, 3, "overrides must be a mapping"),
    ],
)
def test_bad_options_are_refused(options: Any, overrides: Any, text: str) -> None:
    """An unknown or invalid option is an error that names it."""
    with pytest.raises(InvalidInputError, match=text):
        parse_options(options or None, overrides)
