from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aiobatch.cli import ExitCode
from aiobatch.sandbox import Sandbox

from ..conftest import Run
from ..reports import report, users, write
from .configs import TRIAL, VIP, configure

pytestmark = pytest.mark.usefixtures("workdir", "config_keys")


def _outcomes(values: dict[str, Any]) -> list[tuple[str, str, str, int]]:
    return [(one["audience"], one["target"], one["outcome"], one["exit_code"]) for one in values["audiences"]]


def test_all_plans_of_a_config_are_saved_and_applied(
    run: Run, sandbox: Sandbox, readings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file keeps the plan of each place. It can be applied once, from any directory."""
    configure(VIP + TRIAL)
    write(users(range(3)))
    write(["a"], "trial.csv")
    planned = run("plan", "--out", "plans.json")
    assert planned.code == ExitCode.DONE
    assert [row[:4] for row in planned.rows] == [
        ["vip", "ios", "planned", "3"],
        ["vip", "android", "planned", "3"],
        ["trial", "main", "planned", "1"],
    ]
    assert (
        "Saved 3 plans to plans.json. Run `aiobatch apply plans.json --config aiobatch.toml`." in planned.err
    )
    assert set(sandbox.operation_counts) == {"view"}
    home = Path.cwd()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    applied = report(run("apply", str(home / "plans.json"), "--json"))
    assert _outcomes(applied) == [
        ("vip", "ios", "done", 0),
        ("vip", "android", "done", 0),
        ("trial", "main", "done", 0),
    ]
    assert sorted(Path(label).name for label in readings) == ["trial.csv"] * 2 + ["users.csv"] * 2
    assert set(sandbox.members("vip", scope="1.x-android")) == {"u0", "u1", "u2"}
    again = run("apply", str(home / "plans.json"), "--json")
    assert again.code == ExitCode.STALE
    assert {one[2:] for one in _outcomes(report(again))} == {("failed", ExitCode.STALE)}
    monkeypatch.chdir(home)
    attempts = [one["last_attempt"] for one in run("status", "--json").objects]
    assert [(one["command"], one["exit_code"]) for one in attempts] == [("apply", ExitCode.STALE)] * 3


def test_places_that_cannot_be_planned_do_not_stop_the_others(run: Run, sandbox: Sandbox) -> None:
    """Only the plans that could be made are in the file, and the exit code is the most severe one."""
    configure(VIP + TRIAL)
    write(users(range(3)))
    planned = run("plan", "--config", "aiobatch.toml", "--out", "plans.json", "--json")
    assert planned.code == ExitCode.BAD_SOURCE
    assert _outcomes(report(planned))[2] == ("trial", "main", "failed", ExitCode.BAD_SOURCE)
    assert "Saved 2 of 3 plans to plans.json." in planned.err
    assert [row[:3] for row in run("apply", "plans.json").rows] == [
        ["vip", "ios", "done"],
        ["vip", "android", "done"],
    ]


def test_a_stale_plan_does_not_stop_the_others(run: Run, sandbox: Sandbox) -> None:
    """Of the plans of a config, those whose source has not changed are applied."""
    configure(VIP + TRIAL)
    write(users(range(3)))
    write(["a"], "trial.csv")
    assert run("plan", "--out", "plans.json").code == ExitCode.DONE
    write(["a", "b"], "trial.csv")
    applied = run("apply", "plans.json", "--jobs", "2", "--json")
    assert applied.code == ExitCode.STALE
    assert [one[2] for one in _outcomes(report(applied))] == ["done", "done", "failed"]
    assert "trial → main: Audience 'trial': the plan is stale" in applied.err
    assert "trial" not in [audience.name for audience in sandbox.audiences()]


def test_refused_plans_are_saved_and_allowed_one_by_one(run: Run, sandbox: Sandbox) -> None:
    """A plan that the guard refuses is in the file, and `apply --only` allows it."""
    configure(VIP + TRIAL)
    for name in ("users.csv", "trial.csv"):
        write(users(range(200)), name)
    assert run("run").code == ExitCode.DONE
    write(users(range(10)), "trial.csv")
    planned = run("plan", "--only", "tri*", "--target", "ma*", "--out", "plans.json")
    assert planned.code == ExitCode.GUARDED
    assert "Saved 1 plan to plans.json." in planned.err
    assert run("apply", "plans.json").code == ExitCode.GUARDED
    refused = run("apply", "plans.json", "--allow-removals", "190")
    assert refused.code == ExitCode.USAGE
    assert "--only" in refused.err
    assert run("plan", "--allow-removals", "190").code == ExitCode.USAGE
    assert len(sandbox.members("trial", scope="2.x")) == 200
    allowed = run("apply", "plans.json", "--only", "trial", "--allow-removals", "190", "--detailed-exitcode")
    assert allowed.code == ExitCode.CHANGED
    assert len(sandbox.members("trial", scope="2.x")) == 10


def test_plans_of_a_config_without_targets(run: Run, sandbox: Sandbox) -> None:
    """A config without apps and projects goes where the environment's keys lead, with changed limits."""
    Path("aiobatch.toml").write_text('[defaults]\ncreate = true\n[audiences.vip]\nsource = "users.csv"\n')
    write(["a", "b"])
    argv = ["--state", "mine.duckdb"]
    planned = run("plan", *argv, "--detailed-exitcode", "--out", "plans.json", "--max-additions-percent", "5")
    assert planned.code == ExitCode.CHANGED
    assert run("plan", *argv).rows[0][:4] == planned.rows[0][:4]
    assert run("apply", "plans.json").rows[0][:4] == ["vip", "", "done", "2"]
    assert run("runs", *argv).rows


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["plan", "vip", "--only", "vip"], "--only and --jobs are for a plan of a whole config"),
        (["plan", "--config", "none.toml"], "none.toml: No such file"),
        (["plan", "--id-column", "x", "--rate", "5/s"], "--id-column, --rate: The config has this"),
        (["plan", "--mode", "remove"], "--mode: The config has this for each audience"),
        (["plan", "--only", "pip"], "Did you mean 'vip'?"),
        (["plan", "--out", "no/where.json"], "no/where.json: The plan cannot be written there"),
        (["apply", "one.json", "--only", "vip"], "one.json is the plan of one audience"),
        (["apply", "plans.json", "--only", "none"], "The file has no plan of such an audience"),
        (["apply", "plans.json", "--target", "android"], "The file has no plan of such"),
        (["apply", "empty.json"], "The file has no plan. Plan again."),
        (["apply", "users.csv"], "users.csv: It is not a saved plan"),
        (["apply", "odd.json"], "odd.json: It is not a saved plan"),
        (["apply", "odder.json"], "odder.json: It is not a saved plan"),
        (["apply", "sourceless.json"], "The plan of audience 'vip' keeps no source"),
    ],
)
def test_invalid_arguments_of_a_config_send_nothing(
    argv: list[str], text: str, run: Run, sandbox: Sandbox
) -> None:
    """Each mistake is named, with a report, and nothing is sent."""
    configure(VIP.replace('"ios", "android"', '"ios"') + '[audiences.other]\nsource = "x"\napps = ["ios"]\n')
    write(["a"])
    run("plan", "vip", "--out", "one.json")
    run("plan", "--only", "vip", "--out", "plans.json")
    saved = json.loads(Path("plans.json").read_text())
    Path("empty.json").write_text(json.dumps({**saved, "places": []}))
    Path("odd.json").write_text(json.dumps({**saved, "more": 1}))
    Path("odder.json").write_text(json.dumps({**saved, "places": [1]}))
    (place,) = saved["places"]
    sourceless = {**saved, "places": [{**place, "plan": {**place["plan"], "source": None}}]}
    Path("sourceless.json").write_text(json.dumps(sourceless))
    result = run(*argv, "--json")
    assert result.code == ExitCode.USAGE
    assert text in result.err
    assert report(result)["outcome"] == "failed"
    assert set(sandbox.operation_counts) <= {"view"}


def test_without_a_config_a_name_is_needed(run: Run, sandbox: Sandbox) -> None:
    """Without NAME and config, `plan` names what to pass."""
    result = run("plan")
    assert result.code == ExitCode.USAGE
    assert "There is no config. Pass NAME and SOURCE, or --config FILE" in result.err


def test_places_that_left_the_config_are_named(run: Run, sandbox: Sandbox) -> None:
    """A plan for an app that the audience no longer goes to is refused, and nothing is sent."""
    configure(VIP + TRIAL)
    write(["a"])
    assert run("plan", "--only", "vip", "--out", "plans.json").code == ExitCode.DONE
    configure(VIP.replace('"ios", "android"', '"ios"') + '[audiences.z]\nsource = "x"\napps = ["android"]\n')
    result = run("apply", "plans.json")
    assert result.code == ExitCode.USAGE
    assert "android" in result.err
    assert set(sandbox.operation_counts) == {"view"}
