"""The Python of README.md and docs/ passes a strict type check, as a reader's own code must."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# These pages need Airflow, Spark, Celery or Django. Other tests run their programs.
_UNTYPED = {"airflow.md", "spark.md", "workers.md"}
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if page.name not in _UNTYPED),
]
# Each section of these pages is a program, which may be a module that another section imports.
BY_SECTION = ("web-app.md", "testing.md", "first-web-app.md", "orchestrate.md")


def programs(page: Path) -> list[str]:
    """Return the programs of a page. The blocks of a program continue each other."""
    text = page.read_text(encoding="utf-8")
    parts = re.split(r"^## ", text, flags=re.MULTILINE) if page.name in BY_SECTION else [text]
    blocks = [re.findall(r"^```python\n(.*?)^```", part, re.MULTILINE | re.DOTALL) for part in parts]
    return [as_module("\n\n".join(found)) for found in blocks if found]


def as_module(source: str) -> str:
    """Return a module. A program that awaits at its top level becomes a coroutine function."""
    try:
        compile(source, "page", "exec")
    except SyntaxError:
        body = "".join(f"    {line}\n" if line else "\n" for line in source.splitlines())
        return f"async def main() -> None:\n{body}"
    return source


@pytest.mark.sweep
def test_programs_of_the_docs_are_typed(tmp_path: Path) -> None:
    """A strict mypy finds no error in any program of the docs."""
    pytest.importorskip("mypy", reason="mypy is not installed: make .venv/.dev")
    names = []
    for page in PAGES:
        for number, program in enumerate(programs(page)):
            # The tests of the guide import the app of the other guide as `main`.
            name = "main" if (page.name, number) == ("web-app.md", 0) else f"{page.stem}_{number}"
            names.append(name.replace("-", "_").lower())
            (tmp_path / f"{names[-1]}.py").write_text(program, encoding="utf-8")
    assert {"main", "readme_0", "web_app_1", "testing_2"} <= set(names)
    modules = [part for name in names for part in ("-m", name)]
    done = subprocess.run(
        # A page may show a package that the suite does not install.
        [
            *(sys.executable, "-m", "mypy", "--strict", "--no-error-summary"),
            *(
                "--disable-error-code",
                "import-not-found",
                "--allow-subclassing-any",
                "--allow-untyped-decorators",
            ),
            *modules,
        ],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.stdout == ""
