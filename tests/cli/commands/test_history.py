from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from aiobatch.cli import ExitCode
from aiobatch.cli.commands import _history, _status
from aiobatch.sandbox import API_KEY, API_KEY_ANDROID, Sandbox
from aiobatch.sync import default_state_path
from aiobatch.sync.state._state import State
from aiobatch.sync.state._status import read_status, write_status

from ..conftest import Result, Run, Terminal
from ..reports import REFERENCE, users, write

pytestmark = pytest.mark.usefixtures("workdir")

_SCHEMA = json.loads((REFERENCE / "history.schema.json").read_text(encoding="utf-8"))
_CONFIG = """
[defaults]
create = true
[projects.main]
rest_api_key = "${BATCH_REST_API_KEY}"
project_key = "${BATCH_PROJECT_KEY}"
[apps.android]
rest_api_key = "${BATCH_REST_API_KEY}"
api_key = "${ANDROID_KEY}"
[audiences.vip]
source = "users.csv"
apps = ["android"]
projects = ["main"]
"""


def record(result: Result) -> dict[str, Any]:
    """Return the one object that a command printed, as the schema that is published has it."""
    (values,) = records(result)
    return values


def records(result: Result) -> list[dict[str, Any]]:
    """Return the objects that a command printed, each as the schema that is published has it."""
    for values in result.objects:
        jsonschema.validate(values, _SCHEMA, cls=jsonschema.Draft7Validator)
    return result.objects


def test_runs_are_listed_newest_first(run: Run, sandbox: Sandbox) -> None:
    """A run's line has number, audience, time, outcome, counts, duration, mode, source and who."""
    run("sync", "vip", write(users(range(5))), "--create")
    run("sync", "trial", write(users(range(3)), "trial.csv"), "--create")
    rows = run("runs").rows
    assert [row[:3] for row in rows] == [["2", "trial", ""], ["1", "vip", ""]]
    assert rows[1][4:9] == ["done", "5", "0", "5", "5"]
    assert run("runs").heading == [
        *("run", "audience", "target", "started", "outcome", "to add", "to remove", "applied", "members"),
        *("seconds", "mode", "calls", "source", "who", "rejected rows"),
    ]
    assert float(rows[1][9]) >= 0
    assert rows[1][10:13] == ["mirror", "1", "users.csv"]
    assert [row[0] for row in run("runs", "vip").rows] == ["1"]
    assert run("runs", "nope").rows == []
    assert len(run("runs", "--limit", "1").rows) == 1
    for number in ("0", "-1", "9" * 20):
        assert run("runs", "--limit", number).code == ExitCode.USAGE
    (first, _) = records(run("runs", "--json"))
    assert first["audience"] == "trial"
    assert first["seconds"] >= 0
    assert first["target"].startswith("project ")


def test_plans_and_early_failures_are_no_runs(run: Run, sandbox: Sandbox) -> None:
    """A dry run, and a run that failed before it began, are no run and no audience."""
    source = write(["a"])
    run("plan", "vip", source, "--create", "--out", "plan.json")
    run("sync", "trial", source, "--create", "--dry-run")
    assert run("sync", "gone", "missing.csv", "--create").code == ExitCode.BAD_SOURCE
    assert run("runs") == Result(0, "", "No run yet.\n")
    assert run("runs", "vip").rows == []
    (gone,) = records(run("status", "--json"))
    assert (gone["audience"], gone["members"], gone["last_success"]) == ("gone", None, None)
    assert (gone["last_attempt"]["outcome"], gone["last_attempt"]["exit_code"]) == ("failed", 14)
    assert run("forget", "vip", "--yes").code == ExitCode.USAGE
    assert run("apply", "plan.json").code == ExitCode.DONE
    assert [values["audience"] for values in records(run("status", "--json"))] == ["gone", "vip"]


def test_show_has_all_fields_of_a_run(run: Run, sandbox: Sandbox) -> None:
    """Show prints all of one run, as fields or as an object."""
    run("sync", "vip", write(users(range(5000))), "--create", "--state", "my.duckdb")
    fields = dict(run("show", "1", "--state", "my.duckdb").rows)
    assert (fields["outcome"], fields["settled"], fields["mode"]) == ("done", "yes", "mirror")
    assert (fields["changes"], fields["applied"]) == ("5000 added", "5000 of 5000")
    assert (fields["source"], fields["IDs"], fields["calls"]) == ("users.csv", "5000", "1 planned, 1 sent")
    assert (fields["members before"], fields["members after"]) == ("0", "5000")
    assert fields["rows"] == "5000 rows: 5,000 kept, 0 duplicate, none rejected"
    assert fields["roll back with"] == "`aiobatch rollback vip --to 1 --state my.duckdb`"
    assert fields["started"].endswith(" UTC")
    assert fields["took"].endswith(" s")
    assert fields.keys().isdisjoint({"error", "refused by Batch", "retries"})
    values = record(run("show", "1", "--json", "--state", "my.duckdb"))
    assert (values["outcome"], values["mode"], values["adds"]) == ("done", "mirror", 5000)


def test_failed_runs_have_their_error(run: Run, slow: Sandbox) -> None:
    """The history has the error of a run, its plan, and the command that settles it."""
    run("sync", "vip", write(["a"]), "--timeout", "0.1")
    fields = dict(run("show", "1").rows)
    assert fields["outcome"] == "not_applied"
    assert "timed out" in fields["error"]
    assert "`aiobatch settle vip`" in fields["settled"]
    assert fields["changes planned"] == "1 added"
    assert fields.keys().isdisjoint({"applied", "members after", "roll back with"})
    assert record(run("show", "1", "--json"))["applied"] is None
    status = run("status")
    (row,) = status.rows
    assert [*row[:1], *row[2:4], *row[5:8]] == ["vip", "unknown", "", "not_applied", "4", "1"]
    assert "timed out" in row[8]
    assert "`aiobatch settle vip`" in status.err
    assert record(run("status", "--json"))["known"] is False


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["show", "9"], ExitCode.NOT_FOUND),
        (["show", "9", "--state", "none.duckdb"], ExitCode.FAILED),
        (["runs", "bad name"], ExitCode.USAGE),
        (["runs", "--state", "none.duckdb"], ExitCode.FAILED),
        (["status", "--state", "none.duckdb"], ExitCode.FAILED),
    ],
)
def test_missing_runs_and_states_are_errors(
    argv: list[str], code: ExitCode, run: Run, sandbox: Sandbox
) -> None:
    """A run or a state that there is not is no empty table."""
    run("sync", "vip", write(["a"]), "--create")
    assert run(*argv).code == code
    assert not Path("none.duckdb").exists()


def test_status_has_a_row_for_each_audience(run: Run, sandbox: Sandbox) -> None:
    """Status shows members, the last success and the last attempt, as plain values in a pipe."""
    run("sync", "vip", write(users(range(5))), "--create")
    found = run("status")
    assert found.heading == [
        *("audience", "target", "members", "last_success", "attempted", "outcome", "code", "open_total"),
        *("reason", "run"),
    ]
    (row,) = found.rows
    assert (row[0], row[2], row[5:]) == ("vip", "5", ["done", "0", "0", "", "1"])
    assert all(re.fullmatch(r"[0-9-]{10}T[0-9:]{8}Z", text) for text in row[3:5])
    values = record(run("status", "--json"))
    assert values["age_seconds"] < 60
    assert values["live"] is False
    assert (values["key"], values["target"]) == tuple(
        record(run("show", "1", "--json"))[name] for name in ("key", "target")
    )


def test_rows_name_their_target(run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several targets, each row names its own: by a config's name, or else by kind and digits."""
    run("sync", "vip", write(["a"]), "--create")
    Path("aiobatch.toml").write_text(_CONFIG, encoding="utf-8")
    monkeypatch.setenv("ANDROID_KEY", API_KEY_ANDROID)
    assert run("run").code == ExitCode.DONE
    monkeypatch.setenv("BATCH_API_KEY", API_KEY)
    monkeypatch.setenv("AIOBATCH_CONFIG", "")
    run("sync", "vip", write(["a", "b"]), "--create", "--api", "1.x")
    targets = [row[2] for row in run("runs", "vip").rows]
    assert re.fullmatch("app [0-9a-f]{8}", targets[0])
    assert sorted(targets[1:3]) == ["android", "main"]
    assert targets[3] == "main"  # what was done before the config was there is named as well
    assert [row[2] for row in run("runs", "--limit", "1").rows] == targets[:1]
    assert dict(run("show", "4").rows)["target"] == targets[0]
    assert {values["target"] for values in records(run("runs", "--json"))} == set(targets)
    assert {values["target"] for values in records(run("status", "--json"))} == set(targets)
    assert all(target in run("status").out for target in targets)


def test_history_is_readable_during_a_run(run: Run, sandbox: Sandbox) -> None:
    """While a run has the state open, what it wrote last is shown."""
    run("sync", "vip", write(["a"]), "--create")
    run("sync", "trial", write(["a"]), "--create")
    path = default_state_path()
    write_status(path, read_status(path))
    with State.open(path, what="sync vip"):
        status = run("status")
        assert "in progress" in status.err
        assert [values["live"] for values in records(run("status", "--json"))] == [True, True]
        assert [row[0] for row in run("runs").rows] == ["2", "1"]
        listed = run("runs", "vip")
        assert [row[0] for row in listed.rows] == ["1"]
        assert "in progress" in listed.err
        assert run("runs", "nope") == Result(0, "", listed.err)
        assert dict(run("show", "1").rows)["audience"] == "vip"
        missing = run("show", "9")
    assert missing.code == ExitCode.NOT_FOUND
    assert "not among the latest" in missing.err


def test_history_needs_no_keys(run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The history needs only the state."""
    run("sync", "vip", write(["a"]), "--create")
    monkeypatch.delenv("BATCH_REST_API_KEY")
    for argv in (["runs"], ["show", "1"], ["status"]):
        assert run(*argv).code == ExitCode.DONE


def test_terminals_show_history_as_tables(terminal: Terminal, sandbox: Sandbox) -> None:
    """At a terminal, history is tables."""
    assert terminal.run("sync", "vip", write(["a"]), "--create", "-q") == 0
    for argv in (["runs"], ["show", "1"], ["status"]):
        assert terminal.run(*argv) == 0
    assert "last success" in terminal.screen()


def test_narrow_terminals_leave_out_columns(
    terminal: Terminal, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A narrow terminal leaves out the last columns, and cuts no number."""
    assert terminal.run("sync", "vip", write(users(range(12_345))), "--create", "-q") == 0
    for width in (120, 60):
        monkeypatch.setenv("COLUMNS", str(width))
        assert terminal.run("runs") == 0
    wide, narrow = terminal.screen().split("\x1b[1mrun\x1b")[1:]
    assert "users.csv" in wide
    assert "users.csv" not in narrow
    assert "done" in narrow
    assert wide.count("12,345") == 3
    assert "12,3" not in narrow.replace("12,345", "")


@pytest.mark.parametrize(("seconds", "text"), [(0.0456, "0.0 s"), (59.94, "59.9 s"), (3_723.4, "1:02:03")])
def test_durations_have_one_decimal(seconds: float, text: str) -> None:
    """Seconds have one decimal, and longer times have hours and minutes."""
    assert _history._took(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (3_600, "1 h 0 min"),
        (90_000, "1 d 1 h"),
        (dt.timedelta(days=12, hours=5).total_seconds(), "12 d 5 h"),
    ],
)
def test_ages_have_two_units_at_most(seconds: float, text: str) -> None:
    """An age is as exact as a person needs."""
    assert _status.format_age(seconds) == text
