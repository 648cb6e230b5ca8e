"""docs/tutorials/first-nightly-job.md as printed: a script of its shell blocks prints its text blocks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorials" / "first-nightly-job.md"
_BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.sweep
def test_the_tutorial_runs_as_printed(tmp_path: Path) -> None:
    """Each block that shows output shows lines that the script prints, in this order."""
    blocks = _BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    script = "\n".join(
        ["set -u", "trap 'kill $(jobs -p)' EXIT", *(text for kind, text in blocks if kind == "sh")]
    )
    commands = tmp_path / "bin"
    commands.mkdir()
    program = commands / "aiobatch"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m aiobatch "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    environment = {"HOME": str(tmp_path), "PATH": f"{commands}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    printed = done.stdout + done.stderr
    for line in (line for kind, text in blocks if kind == "text" for line in text.splitlines()):
        assert line in printed, printed
