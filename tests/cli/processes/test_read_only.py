"""A directory that cannot be written: each file in it is named, with why and an exit code."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiobatch.cli import ExitCode
from aiobatch.sandbox import Sandbox

from ..conftest import Run
from ..reports import write

_CONFIG = """
[defaults]
create = true
[audiences.vip]
source = "users.csv"
rejects = "{directory}/rejects.csv"
"""


@pytest.fixture
def read_only(tmp_path: Path, workdir: Path, sandbox: Sandbox, run: Run) -> Iterator[Path]:
    """Return a read-only directory with a used state. For root, it is a file system of its own."""
    directory = tmp_path / "read-only"
    directory.mkdir()
    is_root = os.geteuid() == 0
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(directory)]
    if is_root and subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("root may not mount a file system here")
    try:
        write(["u1", "", "u2"])
        assert run("sync", "old", "users.csv", "--create", "--state", f"{directory}/old.duckdb").code == 0
        if is_root:
            subprocess.run(["mount", "-o", "remount,ro", directory], check=True)
        else:
            directory.chmod(0o555)
        yield directory
    finally:
        if is_root:
            subprocess.run(["umount", directory], check=True)
        else:
            directory.chmod(0o755)


def test_files_in_a_read_only_directory_are_named(read_only: Path, run: Run, sandbox: Sandbox) -> None:
    """State, lock, plan, reject file and config are named with the reason, and nothing is sent."""
    Path("config.toml").write_text(_CONFIG.format(directory=read_only))
    writes = sandbox.operation_counts["create"], sandbox.operation_counts["update"]
    vip, old = ("vip", "users.csv", "--create"), f"{read_only}/old.duckdb"
    state = f"State '{old}.lock': this lock file cannot be opened"
    for argv, code, text in (
        (("sync", *vip, "--state", f"{read_only}/new.duckdb"), ExitCode.FAILED, "new.duckdb.lock"),
        (("sync", *vip, "--state", old), ExitCode.FAILED, state),
        (("plan", *vip, "--state", old), ExitCode.FAILED, state),
        (("run", "config.toml", "--state", old), ExitCode.FAILED, state),
        (("verify", "old", "--state", old), ExitCode.FAILED, state),
        (("settle", "--state", old), ExitCode.FAILED, state),
        (("forget", "old", "--yes", "--state", old), ExitCode.FAILED, state),
        (("status", "--state", old), ExitCode.FAILED, state),
        (("status", "--state", old, "--max-age", "26h"), ExitCode.FAILED, state),
        (("runs", "--state", old), ExitCode.FAILED, state),
        (("show", "1", "--state", old), ExitCode.FAILED, state),
        (
            ("sync", *vip, "--rejects", f"{read_only}/rejects.csv", "--state", "mine.duckdb"),
            ExitCode.FAILED,
            f"The reject file '{read_only}/rejects.csv' cannot be written (",
        ),
        (
            ("run", "config.toml", "--state", "mine.duckdb"),
            ExitCode.FAILED,
            "Name a file in a directory that you can write to. Nothing was sent.",
        ),
        (
            ("plan", *vip, "--out", f"{read_only}/plan.json", "--state", "mine.duckdb"),
            ExitCode.USAGE,
            f"{read_only}/plan.json: The plan cannot be written there",
        ),
        (
            ("plan", "--config", "config.toml", "--out", f"{read_only}/plan.json"),
            ExitCode.USAGE,
            f"{read_only}/plan.json: The plan cannot be written there",
        ),
        (("init", f"{read_only}/new.toml"), ExitCode.USAGE, f"{read_only}/new.toml: "),
    ):
        result = run(*argv)
        assert (result.code, text in result.err) == (code, True), (argv, result.err)
    assert (sandbox.operation_counts["create"], sandbox.operation_counts["update"]) == writes


def test_status_of_an_unreadable_state_has_the_last_attempt(read_only: Path, run: Run) -> None:
    """The outcome of the last attempt is known although the state cannot be read."""
    (place,) = run("status", "--state", f"{read_only}/old.duckdb").rows
    assert place[5] == "done"


def test_a_read_only_home_does_not_stop_a_named_state(
    read_only: Path, run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The locks and notes of a run are beside its state if the home cannot be written."""
    monkeypatch.setenv("XDG_DATA_HOME", f"{read_only}/home")
    assert run("sync", "vip", "users.csv", "--create", "--state", "mine.duckdb").code == ExitCode.DONE
    assert Path("mine.duckdb.locks").is_dir()
