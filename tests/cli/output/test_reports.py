from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from aiobatch.cli import ExitCode
from aiobatch.cli.output._sync_report import describe_kept
from aiobatch.sandbox import Sandbox
from aiobatch.sync import SyncReport, default_state_path
from aiobatch.sync.state._state import State

from ..conftest import Result, Run
from ..reports import report, users, write

pytestmark = pytest.mark.usefixtures("workdir")

CONFIG = '[defaults]\ncreate = true\n[audiences.vip]\nsource = "users.csv"\n'
# Commands that print one report object, also when they fail.
REPORTING = {
    "sync": "sync vip users.csv",
    "plan": "plan vip users.csv",
    "apply": "apply plan.json",
    "run": "run aiobatch.toml",
    "resync": "resync vip users.csv",
    "adopt": "adopt vip users.csv",
    "rollback": "rollback vip --to 1",
}
# All others print nothing when they fail.
OTHERS = {
    "view": "view vip",
    "list": "list",
    "create": "create vip",
    "delete": "delete vip --yes",
    "update": "update vip --add ids",
    "replace": "replace vip ids --yes",
    "wait": "wait vip:update:x",
    "settle": "settle",
    "verify": "verify vip",
    "forget": "forget vip --yes",
}

COMMANDS = {**REPORTING, **OTHERS}


def check(command: str, result: Result) -> None:
    """Check that a command that promises a report printed one, and others nothing."""
    assert result.err.removeprefix("Using the config aiobatch.toml.\n").startswith("aiobatch: ")
    if command not in REPORTING:
        assert result.out == ""
        return
    values = report(result)
    assert values["outcome"] == "failed"
    failed = values if values["error"] else values["audiences"][0]
    assert failed["error"].partition(" See `")[0] in result.err


WRONG = {
    "unknown option": ["--frobnicate"],
    "bad value": ["--log-level", "chatty"],
    "key": ["--api-key=hunter2"],
    "too many words": ["--", *["hunter2"] * 3],
    "no keys": [],
}
# Errors of the parser.
PARSED = {"unknown option", "bad value", "key"}
# Commands that read a file before they need a key.
LOOKING = {"apply", "forget", "settle"}


@pytest.mark.sample(20)
@pytest.mark.parametrize(
    ("wrong", "command"),
    [
        (wrong, command)
        for wrong in WRONG
        for command in COMMANDS
        if wrong in PARSED or command not in LOOKING
    ],
)
def test_invalid_usage_has_a_report(wrong: str, command: str, run: Run) -> None:
    """A command that promises a report prints one for invalid usage, and the others print nothing."""
    Path("ids").write_text("a\n", encoding="utf-8")
    write(["a"])
    Path("aiobatch.toml").write_text(CONFIG, encoding="utf-8")
    result = run(*COMMANDS[command].split(), "--json", *WRONG[wrong])
    assert result.code == ExitCode.USAGE
    assert "hunter2" not in result.out + result.err
    check(command, result)


# -- unusable files --------------------------------------------------------------------------

Trouble = Callable[[], contextlib.AbstractContextManager[object]]


def _no_source() -> contextlib.AbstractContextManager[object]:
    for name in ("users.csv", "ids", "plan.json"):
        Path(name).unlink()
    return contextlib.nullcontext()


def _held_state() -> contextlib.AbstractContextManager[object]:
    return State.open(default_state_path(), what="sync vip")


def _ruined_state() -> contextlib.AbstractContextManager[object]:
    default_state_path().write_bytes(b"no state" * 1000)
    default_state_path().with_name("state.duckdb.status.json").unlink()
    return contextlib.nullcontext()


FAILED = ExitCode.FAILED
TROUBLES: dict[Trouble, dict[str, ExitCode]] = {
    _no_source: {
        **dict.fromkeys(["sync", "plan", "run", "resync", "adopt"], ExitCode.BAD_SOURCE),
        **dict.fromkeys(["apply", "update", "replace"], ExitCode.USAGE),
    },
    _held_state: dict.fromkeys([*REPORTING, "forget"], ExitCode.LOCKED),
    _ruined_state: dict.fromkeys([*REPORTING, "settle", "verify", "forget"], FAILED),
}


@pytest.fixture
def synced(run: Run, sandbox: Sandbox) -> Callable[[], int]:
    """Sync an audience and write a plan, a config and IDs. Return a function that counts writes since."""
    assert run("sync", "vip", write(users(range(9))), "--create").code == ExitCode.DONE
    assert run("plan", "vip", "users.csv", "--out", "plan.json").code == ExitCode.DONE
    Path("aiobatch.toml").write_text(CONFIG, encoding="utf-8")
    Path("ids").write_text("a\n", encoding="utf-8")
    written = ("create", "update", "replace", "delete")
    before = sum(sandbox.operation_counts[name] for name in written)
    return lambda: sum(sandbox.operation_counts[name] for name in written) - before


@pytest.mark.sample(6)
@pytest.mark.parametrize(
    ("trouble", "command"),
    [(trouble, command) for trouble, codes in TROUBLES.items() for command in codes],
    ids=lambda value: value if isinstance(value, str) else value.__name__.strip("_"),
)
def test_failures_have_a_report(trouble: Trouble, command: str, run: Run, synced: Callable[[], int]) -> None:
    """An unusable source or state has a report, and nothing is sent."""
    with trouble():
        result = run(*COMMANDS[command].split(), "--json")
    assert result.code == TROUBLES[trouble][command]
    assert synced() == 0
    check(command, result)


def test_run_without_reasons_has_no_text_about_rows() -> None:
    """A run of an older state does not record why rows were rejected."""
    assert describe_kept(cast("SyncReport", SimpleNamespace(reasons=None))) == ""
