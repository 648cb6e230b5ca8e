"""Writes outside a run: they exclude runs, and the state of the audience follows them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from aiobatch import App, Project
from aiobatch.cli import ExitCode
from aiobatch.cli.inputs._credentials import choose_target
from aiobatch.sandbox import Sandbox
from aiobatch.sync.state._lock import audience_lock
from aiobatch.sync.state._targets import TargetKey

from ..conftest import Run
from ..reports import report, users, write

pytestmark = pytest.mark.usefixtures("workdir")

STATE = ["--state", "my state.duckdb"]


def _ids(name: str, ids: list[str]) -> str:
    Path(name).write_text("".join(f"{one}\n" for one in ids))
    return name


def _lock(sandbox: Sandbox) -> Any:
    target: App | Project = choose_target(os.environ, None)
    return audience_lock(TargetKey.of(target).audience_key("vip"), sandbox.url)


def test_writes_are_refused_while_a_run_holds_the_audience(run: Run, sandbox: Sandbox) -> None:
    """Update, replace and delete exit with 12, and send nothing."""
    run("sync", "vip", write(users(range(5))), "--create", *STATE)
    _ids("new.txt", ["n"])
    before = dict(sandbox.operation_counts)
    with _lock(sandbox).acquire("sync vip"):
        for argv in (
            ["update", "vip", "--add", "new.txt"],
            ["replace", "vip", "new.txt", "--yes"],
            ["delete", "vip", "--yes"],
        ):
            result = run(*argv)
            assert result.code == ExitCode.LOCKED, argv
            assert "(sync vip)" in result.err
    assert dict(sandbox.operation_counts) == before


def test_update_is_recorded(run: Run, sandbox: Sandbox) -> None:
    """The next sync plans with what an update changed, removes what is not in its source, and warns not."""
    run("sync", "vip", write(users(range(20))), "--create", *STATE)
    added, removed = _ids("new.txt", ["n1", "n2", "u7"]), _ids("gone.txt", ["u1", "stranger"])
    assert run("update", "vip", "--add", added, "--remove", removed).code == ExitCode.DONE
    assert report(run("plan", "vip", "users.csv", "--json", *STATE))["members_before"] == 21
    done = report(run("sync", "vip", "users.csv", "--json", *STATE))
    assert (done["adds"], done["removes"], done["warnings"]) == (1, 2, [])
    assert set(sandbox.members("vip")) == set(users(range(20)))
    assert report(run("sync", "vip", "users.csv", "--json", *STATE))["calls"] == 0


def test_update_that_does_not_wait_is_recorded(run: Run, sandbox: Sandbox) -> None:
    """Without waiting, the time of the change is unknown, and no warning follows."""
    run("sync", "vip", write(users(range(20))), "--create", *STATE)
    assert run("update", "vip", "--add", _ids("new.txt", ["n1"]), "--no-wait").code == ExitCode.DONE
    done = report(run("sync", "vip", "users.csv", "--json", *STATE))
    assert (done["removes"], done["warnings"]) == (1, [])


def test_update_without_effect_records_no_run(run: Run, sandbox: Sandbox) -> None:
    """Members that are added again change nothing in the state."""
    run("sync", "vip", write(users(range(20))), "--create", *STATE)
    run("update", "vip", "--add", _ids("new.txt", ["u1"]))
    assert len(run("runs", "vip", "--json", *STATE).objects) == 1


def test_replace_is_recorded(run: Run, sandbox: Sandbox) -> None:
    """After a replace, a sync sends the difference to its IDs."""
    run("sync", "vip", write(users(range(20))), "--create", *STATE)
    assert run("replace", "vip", _ids("all.txt", ["u1", "w"]), "--yes").code == ExitCode.DONE
    done = report(run("sync", "vip", "users.csv", "--json", *STATE))
    assert (done["adds"], done["removes"], done["warnings"]) == (19, 1, [])
    assert set(sandbox.members("vip")) == set(users(range(20)))


def test_delete_is_recorded(run: Run, sandbox: Sandbox) -> None:
    """A deleted audience has no members, so a sync can create it again."""
    run("sync", "vip", write(users(range(20))), "--create", *STATE)
    assert run("delete", "vip", "--yes").code == ExitCode.DONE
    assert run("sync", "vip", "users.csv", "--create", *STATE).code == ExitCode.DONE
    assert set(sandbox.members("vip")) == set(users(range(20)))


def test_write_waits_for_an_open_run_to_be_settled(run: Run, sandbox: Sandbox) -> None:
    """While chunks of a run are open, they could undo the write."""
    run("sync", "vip", write(users(range(20))), "--create", "--no-wait", *STATE)
    result = run("update", "vip", "--add", _ids("new.txt", ["n1"]))
    assert result.code == ExitCode.NOT_APPLIED
    assert "aiobatch settle vip" in result.err
    run("settle", "vip", *STATE)
    assert run("update", "vip", "--add", "new.txt").code == ExitCode.DONE


@pytest.mark.sample(1)
@pytest.mark.parametrize("note", [None, "", "{}", '{"state": "gone.duckdb"}'])
def test_writes_need_no_state(note: str | None, run: Run, sandbox: Sandbox, home: Path) -> None:
    """Without a state, or with one that does not know the audience or its members, a write just sends."""
    run("sync", "other", write(users(range(3))), "--create")
    assert run("create", "vip", "--wait").code == ExitCode.DONE
    if note is not None:
        (path,) = (home / "data").glob("**/locks")
        (path / _lock(sandbox).path.with_suffix(".json").name).write_text(note)
    assert run("update", "vip", "--add", _ids("new.txt", ["n1"])).code == ExitCode.DONE
    assert run("sync", "vip", "users.csv").code == ExitCode.UNKNOWN_MEMBERS
    assert run("update", "vip", "--add", _ids("new.txt", ["n2"])).code == ExitCode.DONE
    assert run("delete", "vip", "--yes").code == ExitCode.DONE
