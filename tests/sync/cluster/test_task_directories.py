"""The private directories of tasks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aiobatch.sync.cluster._rows import private_directory

ROOT = Path(__file__).resolve().parents[3]
_KILLED_TASK = """
import os, signal
from aiobatch.sync.cluster._rows import private_directory
with private_directory() as directory:
    (directory / "rows").write_text("user-1")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_directory_of_a_killed_task_is_deleted_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed task leaves nothing behind for longer than until the next one starts."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    killed = [sys.executable, "-c", _KILLED_TASK]
    done = subprocess.run(killed, env=os.environ | {"TMPDIR": str(tmp_path)}, cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert (left / "rows").exists()
    with private_directory() as directory:
        assert list(tmp_path.iterdir()) == [directory]
    assert list(tmp_path.iterdir()) == []
