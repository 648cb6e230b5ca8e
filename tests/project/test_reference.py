"""The generated reference pages are up to date."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aiobatch.cli._app import app
from aiobatch.cli.commands._schema import SCHEMAS

from ..cli.reports import REFERENCE

GENERATOR = REFERENCE / "make_reference.py"
ROOT = REFERENCE.parent.parent


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every page, generated now."""
    directory: Path = tmp_path_factory.mktemp("reference")
    command = [sys.executable, str(GENERATOR), str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": "."})
    return {path.name: path.read_text(encoding="utf-8") for path in directory.iterdir()}


@pytest.mark.parametrize(
    "page", ["cli.md", "config.md", "exit-codes.md", *(f"{name}.schema.json" for name in SCHEMAS)]
)
def test_reference_is_up_to_date(page: str, made: dict[str, str]) -> None:
    """Each committed page equals the generated one. `make reference` updates it."""
    assert (REFERENCE / page).read_text(encoding="utf-8") == made[page]


def test_every_command_has_one_section(made: dict[str, str]) -> None:
    """Each command has one section, and each link of the lists leads to a section."""
    commands = sorted(name for name in app if not name.startswith("-"))
    assert sorted(re.findall(r"^## aiobatch ([a-z]+)$", made["cli.md"], re.MULTILINE)) == commands
    assert sorted(re.findall(r"\(#aiobatch-([a-z]+)\)", made["cli.md"])) == commands
    assert made["cli.md"].count("--log-format") == 1
