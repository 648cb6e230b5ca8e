"""The metadata, the README and the messages name one distribution and its extras."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
NAME = "aiobatch-client"
TEXTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "setup.cfg")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "aiobatch").rglob("*.py")),
    *sorted((ROOT / "benchmarks").rglob("*.py")),
]


@pytest.fixture(scope="module")
def setup_cfg() -> configparser.ConfigParser:
    """The metadata."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


def _installs(text: str) -> list[tuple[str, str]]:
    """Return the distribution and the extras of each install that a text names."""
    named: list[tuple[str, str]] = re.findall(r"pip install '?(aiobatch[\w-]*)(?:\[([\w,-]+)\])?", text)
    return named + re.findall(r"\b(aiobatch[\w-]*)\[([a-z][a-z,-]*)\]", text)


def test_installs_name_the_distribution_and_its_extras(setup_cfg: configparser.ConfigParser) -> None:
    """Every install that a text names is of this distribution, with extras that the metadata has."""
    known = set(setup_cfg["options.extras_require"])
    for path in TEXTS:
        for name, extras in _installs(path.read_text(encoding="utf-8")):
            where = f"{path.relative_to(ROOT)}: {name}[{extras}]"
            assert name == NAME, where
            assert set(extras.split(",")) - {""} <= known, where


def test_readme_and_metadata_agree(setup_cfg: configparser.ConfigParser) -> None:
    """The README names the distribution, the extras for users and the oldest Python of the metadata."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    metadata, options = setup_cfg["metadata"], setup_cfg["options"]
    assert metadata["name"] == NAME
    assert {extras for _, extras in _installs(readme)} >= {"", "sync", "cli"}
    assert f"Python {options['python_requires'].removeprefix('>=')} or later" in readme


def test_classifiers_name_the_supported_pythons(setup_cfg: configparser.ConfigParser) -> None:
    """The classifiers begin with the oldest Python that is required, and leave no version out."""
    listed = re.findall(r"Python :: 3\.(\d+)", setup_cfg["metadata"]["classifiers"])
    oldest = setup_cfg["options"]["python_requires"].removeprefix(">=3.")
    assert [int(minor) for minor in listed] == list(range(int(oldest), int(oldest) + len(listed)))


def test_project_urls_share_one_repository(setup_cfg: configparser.ConfigParser) -> None:
    """Each project URL leads into the repository of the metadata."""
    metadata = setup_cfg["metadata"]
    links = re.findall(r"= (\S+)$", metadata["project_urls"], re.MULTILINE)
    assert len(links) == 4
    assert [link for link in links if not link.startswith(metadata["url"])] == []
