"""The import contract of setup.cfg holds, and every module can be imported alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import aiobatch

from ..helpers.sweep import examples

PACKAGE = Path(aiobatch.__file__).parent
ROOT = Path(__file__).resolve().parents[2]
LINT_IMPORTS = "from importlinter.cli import lint_imports_command as run; run(['--no-cache', '--no-logo'])"

# One violation for each contract: the file that gets it, the line, and the contract that it breaks.
FAULTS = [
    ("models.py", "from ._backoff import *", "Each layer imports only the layers below it"),
    ("_backoff.py", "import aiobatch", "No module imports the public API from the package root"),
    (
        "__init__.py",
        "import aiobatch.testing",
        "Importing aiobatch loads no extra and nothing above the client",
    ),
    ("errors/_base.py", "import logging", "Values and dialects do no I/O"),
    ("_client/_create.py", "from ._audience_client import *", "The client class sits above the parts"),
    ("_client/_upload.py", "import aiohttp", "Only one transport and the sandbox import aiohttp"),
    ("sync/_errors.py", "from .run import _context", "The sync engine: operations"),
    ("cli/_exit_codes.py", "from .output import _tables", "The command line: commands, session"),
    ("sandbox/__init__.py", "from ..dialects import mep", "The sandbox shares no code with the dialects"),
    ("dialects/mep.py", "from . import cep", "Dialects do not import each other"),
    ("dialects/cep.py", "from . import mep", "Packages have no import cycles"),
    ("testing.py", "import rich", "Only the command line imports the terminal packages"),
    ("options.py", "import duckdb", "Only the sync engine imports DuckDB"),
]


def _python(code: str, cwd: Path = ROOT, arguments: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run *code* in a fresh interpreter that finds the package under *cwd*."""
    env = os.environ | {"PYTHONPATH": str(cwd), "COLUMNS": "200", "NO_COLOR": "1"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=120)


def _modules() -> list[str]:
    """Return all packages, and all modules in them or some."""
    packages = sorted(path.parent for path in PACKAGE.rglob("__init__.py"))
    modules = sorted(path.with_suffix("") for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
    paths = packages + modules[:: examples(4, 1)]
    return [".".join(path.relative_to(PACKAGE.parent).parts) for path in paths]


def test_command_line_imports_no_private_part_of_sync() -> None:
    """The command line uses the public names of the engine, and the declarations of its options."""
    imported = re.compile(r"^\s*from \.+sync((?:\.\w+)*) import", re.MULTILINE)
    parts = {
        part
        for path in (PACKAGE / "cli").rglob("*.py")
        for dotted in imported.findall(path.read_text(encoding="utf-8"))
        for part in dotted.split(".")
        if part.startswith("_")
    }
    assert parts <= {"_option_fields"}


def test_import_contract_is_kept() -> None:
    """Every contract of setup.cfg is kept."""
    result = _python(LINT_IMPORTS)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def verdict(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The output of the linter for a copy of the package with all of the faults."""
    copy = tmp_path_factory.mktemp("faulty")
    shutil.copytree(PACKAGE, copy / "aiobatch", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "setup.cfg", copy)
    for name, line, _ in FAULTS:
        with (copy / "aiobatch" / name).open("a") as file:
            file.write(f"\n{line}\n")
    return _python(LINT_IMPORTS, copy).stdout


@pytest.mark.parametrize(("name", "line", "contract"), FAULTS, ids=[fault[0] for fault in FAULTS])
def test_import_contract_can_break(name: str, line: str, contract: str, verdict: str) -> None:
    """Each contract breaks on an import that it forbids."""
    broken = [row for row in verdict.splitlines() if row.startswith(contract) and " BROKEN" in row]
    assert len(broken) == 1, verdict


def test_unlisted_root_module_breaks_the_contract(tmp_path: Path) -> None:
    """A root module that the contract does not list breaks it."""
    shutil.copytree(PACKAGE, tmp_path / "aiobatch", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    (tmp_path / "aiobatch" / "utils.py").touch()
    result = _python(LINT_IMPORTS, tmp_path)
    assert result.returncode == 1
    assert "aiobatch.utils" in result.stdout


# Python imports a package before its modules. So a process that has imported the package only, and then one
# of its modules, does what a fresh interpreter does. A fork costs far less than an interpreter.
_IMPORT_ALONE = """
import gc, importlib, os, sys, traceback, warnings
import aiohttp.web, attrs, backoff, cattrs.preconf.orjson, cyclopts, duckdb, orjson, platformdirs
import rich.progress
warnings.simplefilter("error")
gc.disable()

def visit(name):
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        importlib.import_module(name)
    except BaseException:
        traceback.print_exc()
        print(name, flush=True)
    else:
        for module in sys.argv[1:]:
            if module.rpartition(".")[0] == name:
                visit(module)
    os._exit(0)

visit("aiobatch")
"""


def test_every_module_imports_alone() -> None:
    """Each module can be the first one imported, without a warning and without an import cycle."""
    result = _python(_IMPORT_ALONE, arguments=_modules())
    assert (result.returncode, result.stdout) == (0, ""), result.stderr


def test_importing_the_package_stays_light() -> None:
    """`import aiobatch` loads no extra, no server, and neither the engine nor the command line."""
    result = _python("import aiobatch, sys; print(*sys.modules, sep='\\n')")
    heavy = {"aiohttp.web", "cyclopts", "duckdb", "platformdirs", "rich"}
    upper = {f"aiobatch.{part}" for part in ("cli", "sandbox", "sync", "testing")}
    assert result.returncode == 0, result.stderr
    assert set(result.stdout.split()) & (heavy | upper) == set()
