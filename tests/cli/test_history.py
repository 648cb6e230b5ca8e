from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from aiobatch.cli import ExitCode, _history
from aiobatch.sandbox import Sandbox
from aiobatch.sync import State, default_state_path, read_status
from aiobatch.sync._status import write_status

from .conftest import Result, Run, Terminal, set_keys
from .reports import users, write

pytestmark = pytest.mark.usefixtures("workdir")


def test_runs_are_listed_the_latest_first(run: Run, sandbox: Sandbox) -> None:
    """A run's line has number, audience, time, mode, outcome, counts, who and source."""
    run("sync", "vip", write(users(range(5))), "--create")
    run("sync", "trial", write(users(range(3)), "trial.csv"), "--create")
    rows = run("runs").rows
    assert [row[:2] for row in rows] == [["2", "trial"], ["1", "vip"]]
    assert rows[1][3:9] == ["mirror", "done", "5", "0", "5", "1"]
    assert rows[1][10] == "users.csv"
    assert [row[0] for row in run("runs", "vip").rows] == ["1"]
    assert run("runs", "nobody").rows == []
    assert len(run("runs", "--limit", "1").rows) == 1
    (first, _) = run("runs", "--json").objects
    assert first["audience"] == "trial"
    assert first["seconds"] >= 0


def test_no_run_is_said(run: Run, sandbox: Sandbox) -> None:
    """Where there is nothing to list, a line on stderr says so."""
    run("plan", "vip", write(["a"]), "--create")
    assert run("runs").err == "no run yet\n"
    assert run("runs", "vip") == Result(0, "", "no run of audience 'vip' yet\n")


def test_one_run_with_all_that_is_known(run: Run, sandbox: Sandbox) -> None:
    """Show tells all of one run, as pairs or as an object."""
    run("sync", "vip", write(users(range(5000))), "--create")
    facts = dict(run("show", "1").rows)
    assert facts["adds"] == "5,000"
    assert facts["settled"] == "yes"
    assert facts["kept"] == "yes"
    assert facts["error"] == ""
    assert facts["started"].endswith(" UTC")
    (values,) = run("show", "1", "--json").objects
    assert (values["outcome"], values["mode"], values["adds"]) == ("done", "mirror", 5000)


def test_a_run_that_failed(run: Run, slow: Sandbox) -> None:
    """The history tells what went wrong."""
    run("sync", "vip", write(["a"]), "--timeout", "0.1")
    facts = dict(run("show", "1").rows)
    assert facts["outcome"] == "not_applied"
    assert "APPLIED in time" in facts["error"]
    assert facts["settled"] == "no"
    assert run("status").rows[0][:6] == ["vip", "0", "no", "", "", "1"]


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
def test_what_is_not_there(argv: list[str], code: ExitCode, run: Run, sandbox: Sandbox) -> None:
    """A run or a state that there is not is no empty table."""
    run("sync", "vip", write(["a"]), "--create")
    assert run(*argv).code == code
    assert not Path("none.duckdb").exists()


def test_how_audiences_stand(run: Run, sandbox: Sandbox) -> None:
    """Status shows members and the age of the last success."""
    run("sync", "vip", write(users(range(5))), "--create")
    ((name, members, known, _, age, open_run, open_ids, target),) = run("status").rows
    assert (name, members, known, open_run, open_ids, target) == ("vip", "5", "yes", "", "", "")
    assert age.endswith(" s")
    (values,) = run("status", "--json").objects
    assert values["age_seconds"] < 60
    assert values["live"] is False


def test_two_audiences_of_one_name(run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where two targets have an audience of one name, the digest of its target tells which is which."""
    run("sync", "vip", write(["a"]), "--create")
    set_keys(monkeypatch, sandbox)
    monkeypatch.setenv("BATCH_API_KEY", "sandbox-api-key")
    run("sync", "vip", write(["a", "b"]), "--create", "--api", "1.x")
    rows = run("status").rows
    assert len({row[7] for row in rows}) == 2
    assert [row[0] for row in run("runs", "vip").rows] == ["2", "1"]


def test_history_while_a_run_goes_on(run: Run, sandbox: Sandbox) -> None:
    """While a run has the state open, what it wrote last is shown."""
    run("sync", "vip", write(["a"]), "--create")
    run("sync", "trial", write(["a"]), "--create")
    path = default_state_path()
    write_status(path, read_status(path))
    with State.open(path, what="sync vip"):
        status = run("status")
        assert "a run is going on" in status.err
        assert [row[0] for row in status.rows] == ["trial", "vip"]
        assert [row[0] for row in run("runs").rows] == ["2", "1"]
        assert [row[0] for row in run("runs", "vip").rows] == ["1"]
        assert dict(run("show", "1").rows)["audience"] == "vip"
        missing = run("show", "9")
    assert missing.code == ExitCode.NOT_FOUND
    assert "while a run goes on" in missing.err


def test_history_needs_no_keys(run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state alone tells the history."""
    run("sync", "vip", write(["a"]), "--create")
    monkeypatch.delenv("BATCH_REST_API_KEY")
    for argv in (["runs"], ["show", "1"], ["status"]):
        assert run(*argv).code == ExitCode.DONE


def test_a_run_at_a_terminal(terminal: Terminal, sandbox: Sandbox) -> None:
    """At a terminal, history is tables."""
    assert terminal.run("sync", "vip", write(["a"]), "--create", "-q") == 0
    for argv in (["runs"], ["show", "1"], ["status"]):
        assert terminal.run(*argv) == 0
    assert "last success (UTC)" in terminal.screen()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (3_600, "1 h 0 min"),
        (90_000, "1 d 1 h"),
        (dt.timedelta(days=12, hours=5).total_seconds(), "12 d 5 h"),
    ],
)
def test_an_age_has_two_units_at_most(seconds: float, said: str) -> None:
    """An age is as exact as a person needs."""
    assert _history._age(seconds) == said
