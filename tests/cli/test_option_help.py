"""Help of the options: short, imperative, and declared once."""

from __future__ import annotations

import re
from typing import Any

import attrs
import pytest

from aiobatch.cli._app import app
from aiobatch.cli.options import _sync as command_options
from aiobatch.cli.options._sync import SyncCommand
from aiobatch.sync import GuardPolicy, Overrides, Source, SyncOptions
from aiobatch.sync._option_fields import option, options_of, whole_number
from aiobatch.sync.config._json_schema import config_schema, object_schema
from aiobatch.sync.config._tables import (
    AudienceTable,
    DefaultsTable,
    GuardTable,
    SourceTable,
    config_converter,
    engine_options,
)

_OPTION = re.compile(r"^\* `(-[^`]+)`: (.+)$", re.MULTILINE)
_FACTS = re.compile(r" *\*{1,2}\[.*")
_NOT_VERBS = {"A", "All", "An", "How", "Ids", "Runs", "Seconds", "The", "What", "Whether"}
_NESTED = {"guard", "overrides"}


def _help() -> list[tuple[str, str]]:
    """Return every option of the command line with its help."""
    return [(name, _FACTS.sub("", text).rstrip()) for name, text in _OPTION.findall(app.generate_docs())]


def test_help_is_one_imperative_line() -> None:
    """The help of each option has at most 72 characters and starts with a verb."""
    found = _help()
    assert len(found) > 100
    long = [(name, text) for name, text in found if len(text) > 72]
    assert long == []
    assert [one for one in found if not one[1][0].isupper() or one[1].split()[0] in _NOT_VERBS] == []


def _names(table: str | None = None) -> set[str]:
    """Return the options that a table of the config takes, or else those of the command line."""
    return {
        name
        for owner in (SyncOptions, GuardPolicy, Overrides, Source)
        for name, field in options_of(owner).items()
        if name not in _NESTED
        and (table in field.metadata["tables"] if table else field.metadata["group"] is not None)
    }


def _parameters(command: Any) -> set[str]:
    return {name for group in attrs.asdict(command).values() for name in group}


def test_the_command_line_has_every_option() -> None:
    """All options of the engine are options of `sync`. They have the engine's help."""
    assert _names() <= _parameters(SyncCommand())
    texts = {text for _, text in _help()}
    for owner in (SyncOptions, GuardPolicy, Overrides, Source):
        shown = [field.metadata for name, field in options_of(owner).items() if name not in _NESTED]
        assert {one["help"] for one in shown if one["group"]} <= texts


@pytest.mark.parametrize(("table", "cls"), [("defaults", DefaultsTable), ("audience", AudienceTable)])
def test_the_config_has_every_option(table: str, cls: type[attrs.AttrsInstance]) -> None:
    """All options of the engine that a table takes are its keys, with the engine's help in the schema."""
    tables = (cls, GuardTable, SourceTable)
    keys = {field.name for one in tables for field in attrs.fields(one)}
    assert _names(table) <= keys
    properties = object_schema(cls)["properties"]
    for name, field in options_of(SyncOptions).items():
        if table in field.metadata["tables"]:
            assert properties[name]["description"] == field.metadata["help"]
    assert (
        config_schema()["properties"]["defaults"]["properties"].keys()
        == object_schema(DefaultsTable)["properties"].keys()
    )


@attrs.frozen(kw_only=True)
class _MoreOptions(SyncOptions):
    patience: int = option(
        "Try this many times.", default=3, check=whole_number(1), unit="times", group="run"
    )


def test_a_new_option_is_one_declaration(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field that is added to the options appears in the config, its schema and the command line."""

    @attrs.frozen(kw_only=True, field_transformer=engine_options(_MoreOptions, "defaults"))
    class Defaults:
        """Defaults."""

    monkeypatch.setattr(command_options, "_OWNERS", (_MoreOptions,))

    @attrs.frozen(kw_only=True, field_transformer=command_options.engine_options("run"))
    class Run:
        """Run."""

    read: Any = config_converter().structure({"patience": 7}, Defaults)
    assert read.patience == 7
    assert object_schema(Defaults)["properties"]["patience"] == {
        "description": "Try this many times.",
        "type": "integer",
        "minimum": 1,
    }
    assert "patience" in attrs.fields_dict(Run)
    assert "    patience: Try this many times." not in (SyncOptions.__doc__ or "")
