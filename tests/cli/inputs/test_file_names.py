"""Names of files that are not UTF-8, as older systems wrote them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aiobatch.cli import ExitCode
from aiobatch.sandbox import Sandbox

from ..conftest import Run
from ..reports import report, users, write

pytestmark = pytest.mark.usefixtures("workdir")
NAME = os.fsdecode(b"caf\xe9")


@pytest.mark.parametrize(
    ("argv", "code", "text"),
    [
        (["sync", "vip", f"{NAME}.csv"], ExitCode.BAD_SOURCE, "Source caf\\xe9.csv: its name is not UTF-8."),
        (
            ["sync", "vip", "users.csv", "--rejects", NAME],
            ExitCode.USAGE,
            "rejects: the name of 'caf\\udce9'",
        ),
        (["sync", "vip", "users.csv", "--state", NAME], ExitCode.FAILED, "its path is not UTF-8."),
        (["sync", NAME, "users.csv"], ExitCode.USAGE, "The audience name"),
        (["update", "vip", "--add", f"{NAME}.csv"], ExitCode.USAGE, "its name is not UTF-8."),
    ],
)
def test_names_that_are_not_utf_8_are_refused(
    argv: list[str], code: ExitCode, text: str, run: Run, sandbox: Sandbox
) -> None:
    """The name is in the error, and nothing is sent. The attempt is recorded, and JSON has a report."""
    write(users(range(3)))
    write(users(range(3)), f"{NAME}.csv")
    create = ["--create"] if argv[0] == "sync" else []
    result = run(*argv, *create)
    assert result.code == code
    assert text in result.err
    assert sandbox.operation_counts["create"] == sandbox.operation_counts["update"] == 0
    if argv[0] == "sync" and argv[1] != NAME:
        assert "UTF-8" in report(run(*argv, *create, "--json"))["error"]
        state = argv[-2:] if "--state" in argv else []
        assert "UTF-8" in run("status", *state).rows[0][8]


def test_config_may_have_any_name(run: Run, sandbox: Sandbox) -> None:
    """A config whose name is not UTF-8 is used, and its attempts are in `status`."""
    write(users(range(3)))
    Path(f"{NAME}.toml").write_text('[audiences.vip]\nsource = "users.csv"\ncreate = true\n')
    assert run("run", f"{NAME}.toml").code == ExitCode.DONE
    assert len(sandbox.members("vip")) == 3
    (row,) = run("status", "--config", f"{NAME}.toml").rows
    assert row[0] == "vip"
    assert row[5] == "done"
