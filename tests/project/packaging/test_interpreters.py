"""The package under `python -OO`, and in a frozen program: without docstrings, sources and metadata."""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import aiobatch

PACKAGE = Path(aiobatch.__file__).parent

# What each of them has to do: import every module, print help, write, wait and sync.
# No `assert`, which -O removes.
_USE = """
import asyncio, importlib, inspect, pkgutil, pydoc
import aiobatch, aiobatch.sync
from aiobatch.__main__ import main
from aiobatch.sandbox import PROJECT_KEY, REST_API_KEY
from aiobatch.testing import running_sandbox

for found in pkgutil.walk_packages(aiobatch.__path__, "aiobatch."):
    importlib.import_module(found.name)
for public in (aiobatch, aiobatch.sync):
    for name in public.__all__:
        if inspect.isclass(value := getattr(public, name)) or inspect.isroutine(value):
            pydoc.render_doc(value)
for words in (["--version"], ["--help"], ["view", "--help"], ["sync", "--help"], ["runs", "--help"]):
    if main(words) != 0:
        raise SystemExit(f"failed: {words}")

async def use():
    project = aiobatch.Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY)
    options = aiobatch.sync.SyncOptions(create=True)
    async with running_sandbox(indexing_delay=0) as sandbox:
        async with aiobatch.AudienceClient(project, base_url=sandbox.url) as client:
            await client.await_applied(await client.create("vip"))
            await client.await_applied(await client.update("vip", add=["u1"]))
            ids = ["u1", "u2"]
            report = await aiobatch.sync.sync_audience(client, "all", ids, state="s.duckdb", options=options)
            if report.adds != 2:
                raise SystemExit(f"failed: {report}")
            try:
                await client.view("none")
            except aiobatch.AudienceNotFoundError as error:
                print(error)

asyncio.run(use())
print("all done")
"""

# A frozen program: compiled modules in an archive, and no metadata of this distribution.
_FREEZE = """
import importlib.metadata, sys
sys.frozen = True
archive, package = sys.argv[1:]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.path[:] = [archive, *(path for path in sys.path if path and path != package)]
distribution = importlib.metadata.distribution

def find(name):
    if name.startswith("aiobatch"):
        raise importlib.metadata.PackageNotFoundError(name)
    return distribution(name)

importlib.metadata.distribution = find
import aiobatch
if not aiobatch.__file__.startswith(archive):
    raise SystemExit(aiobatch.__file__)
"""


def _run(tmp_path: Path, program: str, flags: Sequence[str] = (), arguments: Sequence[str] = ()) -> str:
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("BATCH_", "COV"))}
    env |= {
        "PYTHONPATH": str(PACKAGE.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "NO_COLOR": "1",
        "HOME": str(tmp_path),
    }
    command = [sys.executable, *flags, "program.py", *arguments]
    result = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stderr == ""
    assert result.stdout.endswith("all done\n")
    return result.stdout


@pytest.mark.sweep
def test_package_works_without_docstrings_and_asserts(tmp_path: Path) -> None:
    """Everything works under -OO. The help explains why the descriptions of commands are missing."""
    shown = _run(tmp_path, _USE, ["-OO"])
    assert shown.count("Python runs with -OO, which removes the descriptions.") == 4
    assert "Audience 'none' does not exist." in shown


def test_package_works_in_a_frozen_program(tmp_path: Path) -> None:
    """Neither a source file nor the metadata of the distribution is needed."""
    shutil.copytree(PACKAGE, tmp_path / "app" / "aiobatch", ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(tmp_path / "app", quiet=2, legacy=True)
    for source in (tmp_path / "app").rglob("*.py"):
        source.unlink()
    archive = shutil.make_archive(str(tmp_path / "app"), "zip", tmp_path / "app")
    shown = _run(tmp_path, _FREEZE + _USE, arguments=[archive, str(PACKAGE.parent)])
    assert f"aiobatch {aiobatch.__version__}" in shown
    assert "Python runs with -OO" not in shown
