"""docs/reference/support.md is true, as far as one machine can check it."""

from __future__ import annotations

import configparser
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import aiobatch
from aiobatch import App, InvalidInputError, Project

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "reference" / "support.md").read_text(encoding="utf-8")
#: Standard modules that Windows does not have.
POSIX = ("curses", "fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty")


def cells(row: str) -> list[str]:
    """Return the cells of a row of the page."""
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| {row}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_pythons_are_those_of_the_metadata() -> None:
    """The page lists the Python versions of the classifiers."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    versions = re.findall(r"Python :: (3\.\d+)", config["metadata"]["classifiers"])
    assert cells("Python |")[1] == ", ".join(versions)
    assert cells("Python |")[3] == f"3.{int(versions[0].removeprefix('3.')) - 1} and older"


def test_versions_of_an_app_are_all_that_exist() -> None:
    """An App accepts the versions of the page, and no other."""
    supported = cells("Custom Audience API")[1].split(", ")
    for version in ("0.9", "1.0", "1.1", "1.2", "2.11"):
        try:
            App(rest_api_key="k", api_key="k", version=version)
        except InvalidInputError:
            assert version not in supported
        else:
            assert version in supported


def test_version_of_a_project_is_the_default() -> None:
    """A Project uses the version of the page by default."""
    assert cells("Audience API")[1] == Project(rest_api_key="k", project_key="k").version


def run_like_windows(program: str) -> subprocess.CompletedProcess[str]:
    """Run Python without the modules that Windows does not have."""
    hide = f"import sys; sys.modules.update(dict.fromkeys({POSIX}))\n"
    return subprocess.run(
        [sys.executable, "-c", hide + program], capture_output=True, text=True, timeout=60, check=False
    )


def test_windows_imports_all_but_sync_and_the_command_line() -> None:
    """The client, its test doubles and the sandbox need nothing of POSIX."""
    names = [each.name for each in pkgutil.iter_modules(aiobatch.__path__) if not each.name.startswith("_")]
    portable = sorted({*names} - {"sync", "cli", "spark"})
    assert {"testing", "sandbox", "options"} <= {*portable}
    imports = "".join(f"import aiobatch.{name}\n" for name in portable)
    done = run_like_windows(f"import aiobatch\n{imports}print('imported')")
    assert (done.stdout, done.stderr) == ("imported\n", "")


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("import aiobatch.sync", 1),
        ("from aiobatch.__main__ import main; sys.exit(main(['sync', '--help']))", 2),
    ],
    ids=["sync", "command"],
)
def test_windows_gets_a_clear_error(program: str, code: int) -> None:
    """The sync engine and the command line report what they need."""
    done = run_like_windows(program)
    assert done.returncode == code
    assert done.stderr.splitlines()[-1].endswith("of POSIX. On Windows, use it in WSL.")
