from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from aiobatch.cli import ExitCode
from aiobatch.sandbox import Sandbox
from aiobatch.sync import SyncEngine, SyncOptions

from ..conftest import Run
from ..reports import report, users, write
from ..signals import signal_when
from .configs import TRIAL, VIP, configure

pytestmark = pytest.mark.usefixtures("workdir", "config_keys")


def test_check_needs_no_network(run: Run, sandbox: Sandbox) -> None:
    """--check reads only the config, and names missing sources."""
    configure(VIP + TRIAL + '[audiences.glob]\nsource = "x*.csv"\napps = ["ios"]\n')
    write(["a"])
    result = run("run", "--check")
    assert result.code == ExitCode.DONE
    assert result.err.splitlines() == [
        "audiences.trial: trial.csv does not exist yet.",
        "aiobatch.toml: 3 audiences in 4 places, no problem found.",
    ]
    assert sandbox.request_count == 0
    assert not Path("state.duckdb").exists()
    Path("aiobatch.toml").write_text('[audiences.vip]\nsource = "users.csv"\n')
    assert "1 audience in 1 place" in run("run", "--check").err


def test_dry_runs_plan_everything_and_send_nothing(run: Run, sandbox: Sandbox, readings: list[str]) -> None:
    """A dry run shows the plan of each audience in each target, reads each source once, and sends nothing."""
    configure(VIP + TRIAL)
    write(users(range(12_000)))
    write(["a"], "trial.csv")
    result = run("run", "--dry-run")
    assert result.code == ExitCode.DONE
    assert [row[:4] + row[7:8] for row in result.rows] == [
        ["vip", "ios", "planned", "12000", "2"],
        ["vip", "android", "planned", "12000", "2"],
        ["trial", "main", "planned", "1", "1"],
    ]
    assert result.heading[9] == "expected_seconds"
    assert float(result.rows[1][9]) >= 0
    assert "vip → ios: planned: 12,000 added" in result.err
    assert sorted(readings) == ["trial.csv", "users.csv"]
    assert set(sandbox.operation_counts) == {"view"}
    assert run("run", "--dry-run", "--detailed-exitcode").code == ExitCode.CHANGED
    assert run("runs", "--state", "state.duckdb").rows == []


def test_dry_runs_report_refused_plans(run: Run, sandbox: Sandbox) -> None:
    """A plan that the guard refuses has its code and its numbers in a dry run, and the others are shown."""
    configure(VIP + TRIAL)
    write(users(range(200)))
    write(["a"], "trial.csv")
    assert run("run").code == ExitCode.DONE
    write([])
    updates = sandbox.operation_counts["update"]
    result = run("run", "--dry-run", "--json")
    assert result.code == ExitCode.GUARDED
    outcomes = [(one["outcome"], one["removes"], one["exit_code"]) for one in report(result)["audiences"]]
    assert outcomes == [("refused", 200, 11), ("refused", 200, 11), ("planned", 0, 0)]
    assert sandbox.operation_counts["update"] == updates


def test_dry_runs_settle_nothing(run: Run, slow: Sandbox) -> None:
    """A dry run reports an open run, and does not settle it."""
    configure(TRIAL.replace("trial", "vip"))
    write(["a"], "vip.csv")
    watch = signal_when(lambda: slow.operation_counts["update"], signal.SIGTERM)
    run("run")
    watch.join()
    result = run("run", "--dry-run", "--json")
    assert result.code == ExitCode.NOT_APPLIED
    assert "`aiobatch settle vip --config aiobatch.toml --target main`" in result.err


def test_grace_applies_to_all_audiences(run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """--grace replaces the grace of each audience."""
    graces: list[float] = []
    sync_many = SyncEngine.sync_many

    async def note(*args: Any, options: SyncOptions, **kwargs: Any) -> Any:
        graces.append(options.grace)
        return await sync_many(*args, options=options, **kwargs)

    monkeypatch.setattr(SyncEngine, "sync_many", note)
    configure(VIP + TRIAL)
    write(["a"])
    write(["a"], "trial.csv")
    assert run("run", "--grace", "45").code == ExitCode.DONE
    assert graces == [45.0, 45.0]
    assert run("run", "--grace", "-1").code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("text", "argv", "noun"),
    [
        (
            '[audiences.x]\nsource = "a"\napps = ["oss"]\nmoed = "add"\n',
            [],
            "aiobatch.toml: audiences.x.apps[0]",
        ),
        (
            '[audiences.x]\nsource = "a"\napps = ["ios"]\nmoed = "add"\n',
            [],
            "aiobatch.toml: audiences.x.moed",
        ),
        ("[audiences\n", [], "aiobatch.toml: is not TOML"),
        (TRIAL, ["--only", "trail"], "Did you mean 'trial'?"),
    ],
)
@pytest.mark.parametrize("check", [["--check"], []])
def test_invalid_configs_send_nothing(
    text: str, argv: list[str], noun: str, check: list[str], run: Run, sandbox: Sandbox
) -> None:
    """Each problem has its file, line and key, also in the report, and nothing is sent."""
    configure(text)
    result = run("run", *argv, *check, "--json")
    assert result.code == ExitCode.USAGE
    assert noun in result.err
    summary = report(result)
    assert noun in summary["error"]
    assert summary["audiences"] == []
    assert sandbox.request_count == 0


def test_missing_configs_are_named(run: Run) -> None:
    """A config or an env file that cannot be read is named."""
    assert "aiobatch.toml: No such file" in run("run").err
    configure(TRIAL)
    assert "nope.env: No such file" in run("run", "--env-file", "nope.env").err


def test_empty_configs_succeed(run: Run, sandbox: Sandbox) -> None:
    """A config without audiences is done at once."""
    Path("aiobatch.toml").write_text("audiences = {}\n")
    result = run("run", "--json")
    assert report(result)["audiences"] == []
    assert result.code == ExitCode.DONE
