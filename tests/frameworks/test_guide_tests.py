"""The tests that the pages for web apps show pass for the apps that they show."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .guide_apps import PAGE, read_programs


def _count_passed(directory: Path) -> int:
    """Run the tests of a directory, in which warnings are errors, and return how many passed. None failed."""
    settings = ["[pytest]", "asyncio_mode = auto", "asyncio_default_fixture_loop_scope = function"]
    (directory / "pytest.ini").write_text("\n".join([*settings, "filterwarnings = error"]), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    (passed,) = re.findall(r"(\d+) passed", done.stdout)
    return int(passed)


@pytest.mark.sweep
def test_tests_of_the_tutorial_pass(tmp_path: Path) -> None:
    """The app of the tutorial and its tests work as printed."""
    programs = read_programs(PAGE.parents[1] / "tutorials" / "first-web-app.md")
    (tmp_path / "main.py").write_text(programs["Write the app"], encoding="utf-8")
    (tmp_path / "test_main.py").write_text(programs["Test it"], encoding="utf-8")
    assert _count_passed(tmp_path) == programs["Test it"].count("def test_")


def test_tests_of_the_guide_pass(tmp_path: Path) -> None:
    """The programs work as printed, in an empty directory, where warnings are errors."""
    programs = read_programs(PAGE.with_name("testing.md"))
    tests = programs["A running sandbox"] + programs["The pytest plugin"]
    (tmp_path / "test_main.py").write_text(programs["A running sandbox"], encoding="utf-8")
    (tmp_path / "test_audiences.py").write_text(programs["The pytest plugin"], encoding="utf-8")
    (tmp_path / "main.py").write_text(read_programs()["FastAPI"], encoding="utf-8")
    assert _count_passed(tmp_path) == tests.count("def test_")
