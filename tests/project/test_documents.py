"""The commands, options, files and headings that README.md and docs/ name exist."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

import aiobatch
from aiobatch import sync
from aiobatch.sync import load_config

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
KEYS = ("BATCH_REST_API_KEY", "BATCH_PROJECT_KEY", "BATCH_IOS_KEY", "PGPASSWORD")


def _help() -> dict[str, str]:
    """Return the reference of each command, with the options that all commands take."""
    text = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    common, *parts = re.split(r"^## aiobatch ([a-z]+)$", text, flags=re.MULTILINE)
    return {name: common + part for name, part in zip(parts[::2], parts[1::2], strict=True)}


def _commands(page: Path) -> list[str]:
    """Return the commands that a page shows, in a block or in a sentence."""
    text = page.read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    lines = re.findall(r"^.*?\b(aiobatch [a-z]+ ?.*)$", blocks, re.MULTILINE)
    return [line.partition(" #")[0] for line in lines] + re.findall(r"`(aiobatch [a-z]+[^`]*)`", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_and_options_exist(page: Path) -> None:
    """Each command that a page shows exists and takes the options shown."""
    known = _help()
    for shown in _commands(page):
        _, command, *words = shown.split()
        options = re.findall(r"--[a-z-]+", " ".join(words))
        assert command in known, shown
        assert [option for option in options if option not in known[command]] == [], shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_a_file_and_heading(page: Path) -> None:
    """A link to another page leads to an existing file, and to a heading if it names one."""
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text(encoding="utf-8")):
        path, _, heading = link.partition("#")
        target = page if not path else (page.parent / path).resolve()
        assert target.exists(), link
        if heading:
            titles = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def test_blocks_that_the_pages_skip_have_tests_of_their_own() -> None:
    """A page whose Python blocks are skipped there is named by a test that runs its programs elsewhere."""
    folders = (ROOT / "tests", ROOT / "providers" / "airflow" / "tests")
    runners = [path for folder in folders for path in folder.rglob("*.py") if path.parent.name != "project"]
    tests = "".join(path.read_text(encoding="utf-8") for path in runners)
    skipping = [page.stem for page in PAGES if "<!--- skip: " in page.read_text(encoding="utf-8")]
    assert len(skipping) > 5
    assert [name for name in skipping if not re.search(rf'"{name}(\.md)?"', tests)] == []


def test_config_of_the_guide_is_valid(tmp_path: Path) -> None:
    """The `aiobatch.toml` of "Run sync jobs" is valid, with its alerts, and has two audiences."""
    page = (ROOT / "docs" / "howto" / "sync-jobs.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```toml(?: skip)?\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "aiobatch.toml").write_text("\n".join(blocks), encoding="utf-8")
    config = load_config(tmp_path / "aiobatch.toml", env=dict.fromkeys(KEYS, "key"))
    targets = {audience.name: audience.targets for audience in config.audiences}
    assert targets == {"vip": ("ios", "web"), "churned": ("web",)}
    assert config.notify is not None


def test_contributing_names_existing_paths() -> None:
    """Each path that CONTRIBUTING.md names exists."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = re.findall(r"`((?:aiobatch|docs|tests|benchmarks)/[\w./]*)`", text)
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("module", [aiobatch, sync], ids=lambda module: module.__name__)
def test_reference_lists_every_error(module: ModuleType) -> None:
    """docs/reference/errors.md names each exported error."""
    text = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    exported = {name: getattr(module, name) for name in module.__all__}
    errors = {
        name for name, value in exported.items() if inspect.isclass(value) and issubclass(value, Exception)
    }
    assert errors
    assert {name for name in errors if name not in text} == set()
