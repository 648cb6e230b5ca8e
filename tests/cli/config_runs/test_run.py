from __future__ import annotations

import asyncio
import signal
import threading
from pathlib import Path

import pytest

from aiobatch.cli import ExitCode
from aiobatch.sandbox import PROJECT_KEY, REST_API_KEY, Sandbox
from aiobatch.sync import StateError, SyncEngine
from aiobatch.sync.state._state import State

from ..conftest import Run, Terminal
from ..reports import report, users, write
from ..signals import signal_when
from .configs import TRIAL, VIP, configure

pytestmark = pytest.mark.usefixtures("workdir", "config_keys")


def test_one_source_fills_two_apps(run: Run, sandbox: Sandbox, readings: list[str]) -> None:
    """Each app's audience is brought in line, and the source is read once for both."""
    configure(VIP)
    write(users(range(12_000)))
    result = run("run")
    assert result.code == ExitCode.DONE
    assert [row[:4] for row in result.rows] == [
        ["vip", "ios", "done", "12000"],
        ["vip", "android", "done", "12000"],
    ]
    assert "vip → ios: done: 12,000 added" in result.err
    assert readings == ["users.csv"]
    assert len(sandbox.members("vip", scope="1.x")) == 12_000
    assert len(sandbox.members("vip", scope="1.x-android")) == 12_000


def test_one_failure_does_not_stop_the_others(run: Run, sandbox: Sandbox) -> None:
    """Every audience has its outcome, and the exit code is the most severe one."""
    configure(VIP + TRIAL + '[audiences.lost]\nsource = "lost.csv"\nprojects = ["main"]\n')
    write(users(range(200)))
    write([], "trial.csv")
    result = run("run", "aiobatch.toml", "--json", "--jobs", "3")
    summary = report(result)
    outcomes = [(one["audience"], one["target"], one["outcome"]) for one in summary["audiences"]]
    assert outcomes == [
        ("vip", "ios", "done"),
        ("vip", "android", "done"),
        ("trial", "main", "refused"),
        ("lost", "main", "failed"),
    ]
    assert summary["outcome"] == "failed"
    assert result.code == ExitCode.BAD_SOURCE
    assert "aiobatch: trial → main: Audience 'trial'" in result.err
    again = run("run", "--detailed-exitcode", "--only", "vip")
    assert again.code == ExitCode.DONE
    write(users(range(201)))
    assert run("run", "--detailed-exitcode", "--only", "vip", "--quiet").code == ExitCode.CHANGED


def test_overrides_need_one_audience(run: Run, sandbox: Sandbox) -> None:
    """An override is for one audience that is named, and for its number."""
    configure(TRIAL)
    write(users(range(200)), "trial.csv")
    run("run")
    write(users(range(10)), "trial.csv")
    assert run("run").code == ExitCode.GUARDED
    for argv in (["--allow-removals", "190"], ["--allow-empty"]):
        refused = run("run", *argv)
        assert refused.code == ExitCode.USAGE
        assert "--only" in refused.err
    assert run("run", "--only", "trial", "--allow-removals", "190").code == ExitCode.DONE


def test_the_environment_names_the_target(run: Run, sandbox: Sandbox) -> None:
    """A config without apps and projects goes where the environment's keys lead."""
    Path("aiobatch.toml").write_text('[defaults]\ncreate = true\n[audiences.vip]\nsource = "users.csv"\n')
    write(["a"])
    result = run("run", "--json", "--state", "mine.duckdb")
    assert report(result)["audiences"][0]["target"] is None
    assert set(sandbox.members("vip")) == {"a"}
    assert run("runs", "--state", "mine.duckdb").rows


def test_env_files_replace_the_environment(
    run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An env file takes the place of the environment."""
    configure(TRIAL)
    write(["a"], "trial.csv")
    lines = [
        f"BATCH_REST_API_KEY={REST_API_KEY}",
        f"BATCH_PROJECT_KEY={PROJECT_KEY}",
        f"BATCH_BASE_URL={sandbox.url}",
    ]
    Path("keys.env").write_text("\n".join(lines))
    Path("keys.env").chmod(0o600)
    for name in ("BATCH_REST_API_KEY", "BATCH_PROJECT_KEY", "BATCH_BASE_URL"):
        monkeypatch.delenv(name)
    assert run("run", "--env-file", "keys.env").code == ExitCode.DONE
    assert run("run").code == ExitCode.USAGE


# -- the state and signals ----------------------------------------------------------------------------


def test_locked_states_have_a_report(run: Run, sandbox: Sandbox) -> None:
    """A run whose state is locked has one report."""
    configure(TRIAL)
    write(["a"], "trial.csv")
    run("run")
    with State.open(Path("state.duckdb"), what="sync trial"):
        result = run("run", "--json")
    assert result.code == ExitCode.LOCKED
    assert report(result)["error_type"] == "LockedError"


def test_errors_of_the_engine_fail_each_target(
    run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that the engine raises is the outcome of each target."""

    async def fail(*_: object, **__: object) -> None:
        msg = "gone"
        raise StateError(msg, path="x", reason="failed")

    monkeypatch.setattr(SyncEngine, "sync_many", fail)
    configure(VIP)
    result = run("run", "--json")
    assert result.code == ExitCode.FAILED
    assert [one["error_type"] for one in report(result)["audiences"]] == ["StateError", "StateError"]


def test_signals_let_chunks_in_flight_finish(run: Run, slow: Sandbox) -> None:
    """After SIGTERM nothing new begins, what was sent is journaled, and the code is the signal's."""
    configure(VIP.replace('apps = ["ios", "android"]', 'projects = ["main"]') + TRIAL)
    write(["a"])
    write(["a"], "trial.csv")
    watch = signal_when(lambda: slow.operation_counts["update"], signal.SIGTERM)
    result = run("run", "--json")
    watch.join()
    assert result.code == ExitCode.TERMINATED
    outcomes = [one["outcome"] for one in report(result)["audiences"]]
    assert outcomes == ["interrupted", "interrupted"]
    assert "Stopping" in result.err


def test_second_signals_cancel(run: Run, slow: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second signal cancels everything, and the report has each audience."""

    async def hang(*_: object, **__: object) -> None:
        run_began.set()
        await asyncio.Event().wait()

    run_began = threading.Event()
    monkeypatch.setattr(SyncEngine, "sync_many", hang)

    thread = signal_when(run_began.is_set, signal.SIGINT, signal.SIGINT)
    configure(VIP + TRIAL)
    result = run("run", "--json")
    thread.join()
    assert result.code == ExitCode.INTERRUPTED
    assert [one["outcome"] for one in report(result)["audiences"]] == ["interrupted"] * 3


def test_missing_audiences_name_the_key_of_the_config(run: Run, sandbox: Sandbox) -> None:
    """The error of a missing audience names `create`, a key of the config."""
    configure('[audiences.nowhere]\nsource = "users.csv"\napps = ["ios"]\ncreate = false\n')
    write(users(range(3)))
    result = run("run")
    assert result.code == ExitCode.NOT_FOUND
    assert "nowhere → ios: " in result.err
    assert "create = true" in result.err


def test_terminals_show_a_bar_for_each_target(terminal: Terminal, sandbox: Sandbox) -> None:
    """At a terminal each audience in each target has a bar, and a table comes at the end."""
    configure(VIP + TRIAL)
    write(users(range(12_000)))
    assert terminal.run("run") == ExitCode.BAD_SOURCE
    screen = terminal.screen()
    for text in ("vip → ios", "vip → android", "trial.csv"):
        assert text in screen
    assert "seconds" in screen


def test_bars_of_failed_runs_look_unfinished(terminal: Terminal, sandbox: Sandbox) -> None:
    """A run that fails after it began does not look done."""
    configure(VIP + TRIAL)
    write(users(range(200)))
    write(users(range(200)), "trial.csv")
    assert terminal.run("run", "--quiet") == 0
    write([])
    assert terminal.run("run", "--only", "vip") == ExitCode.GUARDED
    assert "refused" in terminal.screen()


def test_wrong_keys_are_named_by_their_variables(
    run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of a key names the variables in the config, not those of the environment."""
    monkeypatch.setenv("IOS_KEY", "wrong")
    configure(VIP)
    write(["a"])
    result = run("run", "--json")
    assert result.code == ExitCode.FAILED
    ios, android = report(result)["audiences"]
    assert "Check BATCH_REST_API_KEY and IOS_KEY." in ios["error"]
    assert "Check BATCH_REST_API_KEY and IOS_KEY." in result.err
    assert android["error"] is None
    single = run("sync", "vip", "--target", "ios")
    assert "Check BATCH_REST_API_KEY and IOS_KEY." in single.err


def test_rejected_rows_are_reported_and_kept(run: Run, sandbox: Sandbox) -> None:
    """A run names the reasons of rejected rows and their file, and so do runs, show and status."""
    configure(TRIAL + 'rejects = "bad.csv"\n')
    write(["a", "b", "", "x" * 2000], "trial.csv")
    result = run("run")
    assert result.code == ExitCode.DONE
    assert "trial → main: 4 rows of trial.csv: 2 kept, 0 duplicate, 2 rejected (" in result.err
    assert "in bad.csv" in result.err
    assert result.rows[0][8] == "2"
    assert run("runs").rows[0][-1] == "2"
    assert "2 rejected" in dict(run("show", "1").rows)["rows"]
    (shown,) = run("show", "1", "--json").objects
    (status,) = run("status", "--json").objects
    for found in (shown, status["last_attempt"]):
        assert (found["read"], found["kept"], found["rejected"], found["rejects"]) == (4, 2, 2, "bad.csv")
        assert sum(found["reasons"].values()) == 2


def test_configs_without_a_state_are_recorded_in_the_own_one(run: Run, sandbox: Sandbox) -> None:
    """A config that is invalid, and names no state, leaves its attempt beside the user's own state."""
    Path("aiobatch.toml").write_text('[audiences.vip]\nsource = "a.csv"\nmoed = "add"\n')
    assert run("run").code == ExitCode.USAGE
    Path("aiobatch.toml").write_text('[audiences.vip]\nsource = "a.csv"\n')
    (found,) = run("status", "--json").objects
    assert "moed" in found["last_attempt"]["error"]
    Path("aiobatch.toml").write_text("audiences = {}\n")
    State.open(Path("empty.duckdb"), what="test").close()
    assert "No run yet." in run("status", "--config", "aiobatch.toml", "--state", "empty.duckdb").err
