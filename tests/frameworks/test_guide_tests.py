"""The tests that docs/howto/testing.md shows pass for the app of docs/howto/web-app.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .guide_apps import PAGE, read_programs


def test_tests_of_the_guide_pass(tmp_path: Path) -> None:
    """The programs work as printed, in an empty directory, where warnings are errors."""
    programs = read_programs(PAGE.with_name("testing.md"))
    tests = programs["A running sandbox"] + programs["The pytest plugin"]
    (tmp_path / "test_main.py").write_text(programs["A running sandbox"], encoding="utf-8")
    (tmp_path / "test_audiences.py").write_text(programs["The pytest plugin"], encoding="utf-8")
    (tmp_path / "main.py").write_text(read_programs()["FastAPI"], encoding="utf-8")
    settings = ["[pytest]", "asyncio_mode = auto", "asyncio_default_fixture_loop_scope = function"]
    (tmp_path / "pytest.ini").write_text("\n".join([*settings, "filterwarnings = error"]), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert f"{tests.count('def test_')} passed" in done.stdout
