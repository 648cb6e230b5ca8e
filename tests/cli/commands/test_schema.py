"""The published schemas are what the program makes, and they hold."""

from __future__ import annotations

import json
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from aiobatch.cli import ExitCode
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


@pytest.mark.sample(1)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_command(shell: str, run: Run) -> None:
    """The completion of a shell has the commands and their options. Bash offers what fits the words."""
    result = run("completion", shell)
    assert (result.code, result.err) == (ExitCode.DONE, "")
    for word in ("resync", "max-age", "adopt"):
        assert word in result.out
    assert len(result.out.splitlines()) > 100  # a script of one line is a comment
    if shell == "bash":
        _complete_in_bash(result.out)


def _complete_in_bash(script: str) -> None:
    """Assert that bash offers what the words begin with."""
    for words, offered in (("sy", {"sync"}), ("status --max", {"--max-age"})):
        count = len(words.split())
        line = f"COMP_WORDS=(aiobatch {words}) COMP_CWORD={count}\n_aiobatch\necho ${{COMPREPLY[@]}}"
        done = subprocess.run(["bash", "-c", f"{script}\n{line}"], capture_output=True, text=True, check=True)
        assert set(done.stdout.split()) == offered, done


@pytest.mark.usefixtures("workdir")
def test_init_writes_a_config_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new config passes the check, and an existing one is kept."""
    monkeypatch.setenv("BATCH_REST_API_KEY", "r")
    monkeypatch.setenv("BATCH_PROJECT_KEY", "p")
    assert run("init").code == ExitCode.DONE
    assert run("run", "--check").code == ExitCode.DONE
    Path("aiobatch.toml").write_text("mine")
    again = run("init")
    assert (again.code, Path("aiobatch.toml").read_text()) == (ExitCode.USAGE, "mine")
    assert "exists already" in again.err
    assert run("init", "no/where.toml").code == ExitCode.USAGE
