"""The published schemas are what the program makes, and they hold."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import jsonschema
import pytest

from aiobatch.cli.commands._schema import SCHEMAS
from aiobatch.sync.config._json_schema import config_schema

from ..conftest import Run
from ..reports import REFERENCE


@pytest.mark.parametrize("what", list(SCHEMAS))
def test_the_published_schema_is_what_the_program_prints(what: str, run: Run) -> None:
    """`aiobatch schema NAME > docs/reference/NAME.schema.json` changes nothing."""
    printed = run("schema", what).out
    assert (REFERENCE / f"{what}.schema.json").read_text(encoding="utf-8") == printed
    jsonschema.Draft7Validator.check_schema(json.loads(printed))


def _described(schema: Any, path: str = "") -> list[str]:
    """Return the places of properties that nothing describes."""
    missing = []
    for name, one in schema.get("properties", {}).items():
        missing += [] if one.get("description") else [f"{path}.{name}"]
        missing += _described(one, f"{path}.{name}")
    for name, one in schema.get("definitions", {}).items():
        missing += _described(one, name)
    return missing


@pytest.mark.parametrize("what", list(SCHEMAS))
def test_every_property_is_described(what: str) -> None:
    """An editor has something to show for each key."""
    assert _described(SCHEMAS[what]()) == []


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ('[audiences.vip]\nsource = "a.csv"\n', True),
        ('[audiences.vip]\nsource = {path = "a.csv", attributes = ["city"]}\n', True),
        ('[audiences.vip]\nsource = {path = "a.csv", attributes = {city = "town"}}\n', True),
        ('[audiences.vip]\nsource = {paht = "a.csv"}\n', False),
        ("[audiences.vip]\n", False),
        ("", False),
        ('[audiences.vip]\nsource = "a.csv"\nmode = "merge"\n', False),
        ('[defaults]\njobs = 0\n[audiences.vip]\nsource = "a.csv"\n', False),
        ('[apps.ios]\nrest_api_key = "abc"\napi_key = "${A}"\n[audiences]\n', False),
        ('[apps.ios]\nrest_api_key = "${R}"\napi_key = "${A}"\n[audiences]\n', True),
    ],
)
def test_an_editor_sees_what_is_wrong(text: str, holds: bool) -> None:
    """The schema of the config takes what the program takes."""
    validator = jsonschema.Draft7Validator(config_schema())
    assert validator.is_valid(tomllib.loads(text)) is holds
