"""The files around the package agree with each other."""

from __future__ import annotations

import configparser
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import aiobatch

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {
    ".ci",
    ".editorconfig",
    ".github",
    ".gitignore",
    ".pre-commit-config.yaml",
    ".readthedocs.yaml",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "MANIFEST.in",
    "Makefile",
    "README.md",
    "aiobatch",
    "benchmarks",
    "constraints.txt",
    "docs",
    "providers",
    "pyproject.toml",
    "setup.cfg",
    "tests",
}
# setuptools adds these to a source distribution by itself.
PACKED = {"LICENSE", "MANIFEST.in", "README.md", "aiobatch", "pyproject.toml", "setup.cfg"}


def _setup_cfg() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


def _recipes() -> list[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    return str(phony).split()


def test_version_is_the_newest_of_the_changelog() -> None:
    """The first section of the changelog has the version of the package."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \[(.+?)\]", changelog, re.MULTILINE)[0] == aiobatch.__version__


def test_installed_version_is_the_package_version() -> None:
    """The installed distribution has the package's version."""
    try:
        installed = importlib.metadata.version(_setup_cfg()["metadata"]["name"])
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("aiobatch-client is not installed: the tests run on the source tree")
    assert installed == aiobatch.__version__


def test_top_level_holds_agreed_files_only() -> None:
    """The top level holds the agreed files and folders only."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this tree is not a git checkout")
    assert {path.split("/")[0] for path in listed.stdout.splitlines()} - ALLOWED == set()


def test_source_distribution_is_complete() -> None:
    """MANIFEST.in names everything that the suite needs and setuptools would leave out."""
    manifest = (ROOT / "MANIFEST.in").read_text(encoding="utf-8")
    named = re.findall(r"^(?:include|graft) (.+)$", manifest, re.MULTILINE)
    assert set(" ".join(named).split()) == ALLOWED - PACKED


@pytest.mark.parametrize("recipe", _recipes())
def test_every_recipe_is_documented(recipe: str) -> None:
    """`make help` and CONTRIBUTING.md name every recipe of the Makefile."""
    command = ["make", "--no-print-directory", "help"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.search(rf"^make {recipe} +\S", listed, re.MULTILINE)
    assert f"`make {recipe}`" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_check_script_runs_the_recipes_of_a_developer() -> None:
    """`.ci/run` can be executed, calls the recipes, and ends with the suite as README.md shows it."""
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    steps = re.findall(r"^(?:step| {3}) make ([a-z-]+)", script.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(steps) >= {"lint", "types", "imports", "test-all", "demo"}
    assert steps[-1] == "test"


@pytest.mark.sweep
@pytest.mark.parametrize("name", ["Airflow", "Spark"])
def test_what_cannot_be_installed_is_skipped_in_one_line(name: str, tmp_path: Path) -> None:
    """Where Airflow or Spark cannot be installed, the recipe prints one line, and names the log."""
    folder, recipe = tmp_path / "venv", f"test-{name.lower()}"
    command = ["make", "--no-print-directory", recipe, f"{name.upper()}={folder}"]
    offline = os.environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}
    made = subprocess.run(command, cwd=ROOT, env=offline, capture_output=True, text=True, check=True)
    installing, skipped = (made.stdout + made.stderr).splitlines()
    assert installing.startswith("Installing ")
    assert skipped == f"{recipe}: skipped, because {name} cannot be installed. See {folder}/install.log"
    assert (folder / "install.log").stat().st_size


def test_samples_equal_the_generator_output(tmp_path: Path) -> None:
    """The committed samples equal the output of the generator, byte for byte."""
    generator = ROOT / "docs" / "samples" / "make_samples.py"
    subprocess.run([sys.executable, generator, tmp_path], check=True, capture_output=True)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_bytes() for path in generator.parent.iterdir() if path != generator}


def test_sample_ids_are_many_and_unique() -> None:
    """The sample of users has at least 25,000 unique IDs for three audiences."""
    header, *rows = (ROOT / "docs" / "samples" / "users.csv").read_text(encoding="ascii").splitlines()
    ids, segments = zip(*(row.split(",") for row in rows), strict=True)
    assert header == "user_id,segment"
    assert len(set(ids)) == len(ids) >= 25_000
    assert len(set(segments)) == 3
