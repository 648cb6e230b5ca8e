"""The config that `aiobatch init` writes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import attrs

from aiobatch.sync import SyncOptions, load_config
from aiobatch.sync.config import config_template
from aiobatch.sync.config._tables import AudienceTable, DefaultsTable, GuardTable, SourceTable

_ENV = {
    "BATCH_REST_API_KEY": "r",
    "BATCH_PROJECT_KEY": "p",
    "BATCH_IOS_KEY": "i",
    "PGPASSWORD": "s",
    "REDIS_URL": "redis://localhost",
}


def test_a_new_config_is_valid(tmp_path: Path) -> None:
    """As it is written, it has one audience with the engine's own options."""
    path = tmp_path / "aiobatch.toml"
    path.write_text(config_template(), encoding="utf-8")
    config = load_config(path, env=_ENV)
    (vip,) = config.audiences
    assert (vip.label, vip.targets, vip.options) == ("vip", ("web",), SyncOptions())
    assert config.state is None


def test_every_option_can_be_uncommented(tmp_path: Path) -> None:
    """It shows each key that a config takes, with a value that is valid."""
    text = re.sub(r"^#(?=[\[a-z])", "", config_template(), flags=re.MULTILINE)
    path = tmp_path / "aiobatch.toml"
    path.write_text(text, encoding="utf-8")
    config = load_config(path, env=_ENV)
    assert [one.label for one in config.audiences] == ["vip", "churned"]
    assert config.audiences[1].options == attrs.evolve(
        SyncOptions(),
        id_type=config.audiences[1].options.id_type,
        max_spill=config.audiences[1].options.max_spill,
        guard=config.audiences[1].options.guard,
    )
    document = tomllib.loads(text)
    tables: tuple[tuple[type[attrs.AttrsInstance], dict[str, object], set[str]], ...] = (
        (DefaultsTable, document["defaults"], {"apps", "projects"}),
        (GuardTable, document["defaults"]["guard"], set()),
        (SourceTable, document["audiences"]["churned"]["source"], {"format", "header", "delimiter"}),
    )
    for table, found, left_out in tables:
        assert {field.name for field in attrs.fields(table)} - found.keys() == left_out
    known = document["defaults"].keys() | document["audiences"]["vip"].keys()
    assert {field.name for field in attrs.fields(AudienceTable)} - known == {"apps"}
