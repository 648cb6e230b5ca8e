"""The private directories of tasks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aiobatch.sync.cluster._rows import private_directory


def test_directory_of_a_killed_task_is_deleted_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed task leaves nothing behind for longer than until the next one starts."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    child = os.fork()
    if child == 0:
        with private_directory() as directory:
            (directory / "rows").write_text("user-1", encoding="utf-8")
            os._exit(0)  # as SIGKILL does, without clean-up
    os.waitpid(child, 0)
    (left,) = tmp_path.iterdir()
    assert (left / "rows").exists()
    with private_directory() as directory:
        assert list(tmp_path.iterdir()) == [directory]
    assert list(tmp_path.iterdir()) == []
