from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from aiobatch.cli import ExitCode
from aiobatch.cli.output import _sync_progress
from aiobatch.sandbox import Sandbox
from aiobatch.sync import Plan

from ..conftest import Run, SandboxThread, Terminal, set_keys
from ..reports import report, users, write

pytestmark = pytest.mark.usefixtures("workdir")

Typed = Callable[[str], None]


def test_second_syncs_send_only_the_difference(run: Run, sandbox: Sandbox) -> None:
    """A first sync fills an audience, a second one sends what differs, a third one nothing."""
    first = run("sync", "vip", write(users(range(12_000))), "--create")
    assert first.code == ExitCode.DONE
    assert "vip: done: 12,000 added (12,000 members, 2 calls" in first.out
    assert "vip: 12,000 rows of users.csv: 12,000 kept, 0 duplicate, none rejected" in first.out
    assert "create audience: 1 audience in " in first.err
    assert "send: 12,000 IDs" in first.err
    assert "wait until APPLIED: 12,000 IDs" in first.err
    second = report(run("sync", "vip", write(users(range(100, 12_050))), "--json"))
    assert (second["adds"], second["removes"], second["calls"], second["counted"]) == (50, 100, 1, 11_950)
    assert set(sandbox.members("vip")) == set(users(range(100, 12_050)))
    third = run("sync", "vip", "users.csv")
    assert "vip: done: nothing to do (11,950 members, 0 calls" in third.out
    assert "send" not in third.err


@pytest.mark.parametrize("mode", ["add", "remove", "replace"])
def test_modes_change_the_audience_as_named(mode: str, run: Run, sandbox: Sandbox) -> None:
    """A source may be only added, only removed, or put in the place of all members in one call."""
    run("sync", "vip", write(users(range(10))), "--create")
    result = run("sync", "vip", write(users(range(5, 15)), "more.csv"), "--mode", mode)
    assert result.code == ExitCode.DONE
    expected = {"add": range(15), "remove": range(5), "replace": range(5, 15)}
    assert set(sandbox.members("vip")) == set(users(expected[mode]))


def test_changes_have_a_code_if_requested(run: Run, sandbox: Sandbox) -> None:
    """Nothing to do is 0, and only with --detailed-exitcode a change is 10."""
    argv = ["sync", "vip", write(["a"]), "--create"]
    assert run(*argv, "--dry-run", "--detailed-exitcode").code == ExitCode.CHANGED
    assert run("plan", *argv[1:], "--detailed-exitcode").code == ExitCode.CHANGED
    assert run(*argv, "--detailed-exitcode").code == ExitCode.CHANGED
    assert run(*argv, "--detailed-exitcode").code == ExitCode.DONE


def test_quiet_prints_only_errors(run: Run, sandbox: Sandbox) -> None:
    """A cron job that went well sends no mail, and one that failed does."""
    done = run("sync", "vip", write(["a"]), "--create", "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")
    failed = run("sync", "vip", write([]), "--quiet")
    assert failed.code == ExitCode.GUARDED
    assert "--allow-empty" in failed.err


def test_rejected_rows_are_written_to_a_file(run: Run, sandbox: Sandbox) -> None:
    """Rows that are no members are counted by reason, and named in the file that was asked for."""
    path = write(["a", "a", "x" * 2000, "   "])
    result = run("sync", "vip", path, "--create", "--rejects", "bad.csv")
    assert "4 rows of users.csv: 1 kept, 1 duplicate, 2 rejected (" in result.out
    assert len(Path("bad.csv").read_text().splitlines()) == 3


def test_standard_input_is_a_source(run: Run, sandbox: Sandbox, stdin: Typed) -> None:
    """A dash reads what is piped in."""
    stdin("id\na\nb\n")
    assert run("sync", "vip", "-", "--create").code == ExitCode.DONE
    assert set(sandbox.members("vip")) == {"a", "b"}


def test_columns_become_attributes(run: Run, sandbox: Sandbox) -> None:
    """Columns become attributes under their own or another name."""
    Path("users.csv").write_text("id,city,joined\na,Paris,2026-01-02T03:04:05Z\n")
    argv = ["--attributes", "city, joined=date(joined)", "--id-column", "id", "--format", "csv"]
    assert run("sync", "vip", "users.csv", "--create", *argv).code == ExitCode.DONE
    attributes = sandbox.members("vip")["a"].attributes
    assert attributes == {"city": "Paris", "date(joined)": "2026-01-02T03:04:05Z"}


def test_databases_are_sources(run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address with a query reads a database, and ${NAME} in it stands for a variable."""
    with sqlite3.connect("crm.db") as connection:
        connection.execute("CREATE TABLE people (id TEXT)")
        connection.execute("INSERT INTO people VALUES ('a')")
    connection.close()
    monkeypatch.setenv("CRM", "crm.db")
    argv = ["sync", "vip", "sqlite:///${CRM}", "--query", "SELECT id FROM people", "--create", "--json"]
    assert report(run(*argv))["kept"] == 1
    assert set(sandbox.members("vip")) == {"a"}


def test_passwords_among_the_arguments_are_warned_of(run: Run, sandbox: Sandbox) -> None:
    """A password on the command line has a warning, and is not repeated."""
    argv = ["sync", "vip", "postgresql://me:hunter2@127.0.0.1:1/x", "--query", "SELECT 1"]
    run("create", "vip", "--wait")
    result = run(*argv, "--json")
    assert report(result)["source"] == "postgresql://me@127.0.0.1:1/x"
    assert result.code == ExitCode.BAD_SOURCE
    assert "Other users" in result.err
    assert "hunter2" not in result.out + result.err


def test_overrides_allow_one_run(run: Run, sandbox: Sandbox) -> None:
    """The flag that the guard names allows the plan once."""
    run("sync", "vip", write(users(range(200))), "--create")
    assert run("sync", "vip", write(users(range(10))), "--allow-removals", "190").code == ExitCode.DONE
    assert run("sync", "vip", write([]), "--allow-empty").code == ExitCode.DONE
    assert not sandbox.members("vip")


def test_missing_keys_have_a_report(run: Run) -> None:
    """Even what fails before there is a client prints its one object."""
    result = run("sync", "vip", write(["a"]), "--json")
    assert report(result)["error_type"] == "InvalidInputError"
    assert result.code == ExitCode.USAGE


def test_late_runs_have_their_code(run: Run, slow: Sandbox) -> None:
    """A run that times out has its own code, and its tokens are saved."""
    result = run("sync", "vip", write(["a"]), "--timeout", "0.2", "--json")
    assert result.code == ExitCode.NOT_APPLIED
    assert report(result)["outcome"] == "not_applied"
    plan = run("plan", "vip", "users.csv")
    assert plan.code == ExitCode.NOT_APPLIED
    assert "`aiobatch settle vip`" in plan.err


def test_replaced_members_have_their_code(run: Run, slow: Sandbox) -> None:
    """A token that is REPLACED ends the run with its own code, and offers resync."""
    run("sync", "vip", write(["a"]), "--no-wait")
    slow.replace_behind_back("vip", ["z"])
    result = run("sync", "vip", "users.csv", "--json")
    assert result.code == ExitCode.REPLACED
    assert report(result)["outcome"] == "replaced"
    assert "`aiobatch resync vip users.csv`" in result.err


def test_drift_is_a_warning_or_an_error(run: Run, sandbox: Sandbox) -> None:
    """A count that differs is a warning, with --strict an exit code, and within --drift nothing."""
    run("sync", "vip", write(users(range(5))), "--create")
    sandbox.write_behind_back("vip", add=["z"])
    within = report(run("sync", "vip", "users.csv", "--drift", "1", "--json"))
    # Whether the foreign write is noticed by its time depends on the second in which it happens.
    assert not any("Batch counts" in text for text in within["warnings"])
    warned = run("sync", "vip", "users.csv", "--json")
    assert any("Another writer may be active" in text for text in report(warned)["warnings"])
    assert "WARNING" in warned.err
    strict = run("sync", "vip", "users.csv", "--strict", "--json")
    assert strict.code == ExitCode.DRIFTED
    assert report(strict)["outcome"] == "drift"


def test_no_wait_leaves_the_run_open(run: Run, slow: Sandbox) -> None:
    """A run with --no-wait succeeds, and names the command that settles it."""
    result = run("sync", "vip", write(["a"]), "--no-wait")
    assert result.code == ExitCode.DONE
    assert "vip: sent: 1 added" in result.out
    assert "`aiobatch settle vip`" in result.out
    assert "wait until" not in result.err


# -- plan and apply -----------------------------------------------------------------------------------


def test_plans_show_all_fields_and_send_nothing(run: Run, sandbox: Sandbox) -> None:
    """A plan shows counts, calls, time, a sample and the guard's verdict."""
    run("sync", "vip", write(users(range(200))), "--create")
    updates = sandbox.operation_counts["update"]
    result = run("plan", "vip", write(users(range(5, 210))), "--rate", "0.5/s")
    fields = dict(result.rows)
    assert fields["members before"] == "200"
    assert fields["to add"].startswith("10: u20")
    assert fields["to add"].endswith(" …")
    assert fields["to remove"].startswith("5: u")
    assert not fields["to remove"].endswith(" …")
    assert (fields["calls"], fields["guard"]) == ("1", "allowed")
    assert fields["expected time"] == "0:00:04 (at the given rate)"
    assert "(at the speed of the last runs)" in dict(run("plan", "vip", "users.csv").rows)["expected time"]
    assert sandbox.operation_counts["update"] == updates
    dry = report(run("sync", "vip", "users.csv", "--dry-run", "--json"))
    assert (dry["outcome"], dry["adds"], dry["guard"]["allowed"]) == ("planned", 10, True)
    assert "u20" not in str(dry)


def test_plans_without_history_have_no_expected_time(run: Run, sandbox: Sandbox) -> None:
    """Without a rate and an earlier run, the expected time of a plan is unknown."""
    run("create", "vip", "--wait")
    fields = dict(run("plan", "vip", write(["a"])).rows)
    assert fields["expected time"].startswith("unknown")
    assert report(run("plan", "vip", "users.csv", "--json"))["expected_seconds"] is None


def test_plans_count_rejected_ids(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan counts the IDs that Batch rejected before."""
    with SandboxThread(indexing_delay=0, refused_ids={"u7"}) as sandbox:
        set_keys(monkeypatch, sandbox)
        run("sync", "vip", write(users(range(20))), "--create")
        result = run("plan", "vip", "users.csv")
    fields = dict(result.rows)
    assert (fields["to add"], fields["refused before"], fields["calls"]) == ("0", "1", "0")
    assert fields["expected time"] == "0:00:00"
    assert "aiobatch resync vip" in result.err


def test_resync_reports_resent_members(run: Run, sandbox: Sandbox) -> None:
    """A resync reports resent members and untracked removals."""
    run("sync", "vip", write(users(range(5))), "--create")
    run("sync", "vip", write(users(range(1, 5))), "--json")
    result = run("resync", "vip", "users.csv", "--detailed-exitcode")
    assert result.code == ExitCode.CHANGED
    assert "4 resent, 1 untracked removed" in result.out


def test_refused_plans_have_their_code(run: Run, sandbox: Sandbox) -> None:
    """The exit code of a plan shows that the guard would refuse it."""
    run("sync", "vip", write(users(range(200))), "--create")
    result = run("plan", "vip", write([]), "--json")
    assert result.code == ExitCode.GUARDED
    guard = report(result)["guard"]
    assert not guard["allowed"]
    assert guard["options"] == {"allow_empty": True, "allow_removals": 200}
    saved = run("plan", "vip", write(users(range(9))), "--out", "plan.json")
    assert "pass --allow-removals 191" in saved.out
    assert "`aiobatch apply plan.json` sends nothing without the options above." in saved.err
    assert "Run `aiobatch apply" not in saved.err


def test_terminals_show_plans_as_a_table(terminal: Terminal, sandbox: Sandbox) -> None:
    """At a terminal a plan is a table, and the guard's refusal is red."""
    assert terminal.run("plan", "vip", write([]), "--create") == ExitCode.GUARDED
    screen = terminal.screen()
    assert "expected time" in screen
    assert "\x1b[1;31mrefused" in screen


def test_saved_plans_apply_once(run: Run, sandbox: Sandbox) -> None:
    """A plan is carried out from any directory, and refused when the state has moved since."""
    write(users(range(20)))
    planned = run("plan", "vip", "users.csv", "--create", "--out", "plan.json", "--state", "my.duckdb")
    assert "aiobatch apply plan.json" in planned.err
    assert stat.S_IMODE(Path("plan.json").stat().st_mode) == 0o600
    applied = report(run("apply", "plan.json", "--json"))
    assert (applied["outcome"], applied["adds"], applied["audience"]) == ("done", 20, "vip")
    stale = run("apply", "plan.json", "--json")
    assert stale.code == ExitCode.STALE
    assert report(stale)["error_type"] == "StalePlanError"


def test_plans_of_changed_sources_are_stale(run: Run, sandbox: Sandbox) -> None:
    """A plan is refused when its source holds other ids than it was made of."""
    run("create", "vip", "--wait")
    run("plan", "vip", write(["a"]), "--out", "plan.json")
    write(["b"])
    result = run("apply", "plan.json")
    assert result.code == ExitCode.STALE
    assert "source" in result.err
    assert not sandbox.members("vip")


def test_plans_keep_their_overrides(run: Run, sandbox: Sandbox) -> None:
    """What the guard refuses in a plan is allowed when it is made or when it is applied."""
    run("sync", "vip", write(users(range(200))), "--create")
    run("plan", "vip", write([]), "--out", "plan.json", "--allow-empty")
    assert run("apply", "plan.json").code == ExitCode.GUARDED
    assert run("apply", "plan.json", "--allow-removals", "200").code == ExitCode.DONE
    run("sync", "vip", write(users(range(200))))
    run("plan", "vip", write(["u0"]), "--out", "plan.json", "--allow-removals", "199")
    assert run("apply", "plan.json").code == ExitCode.DONE


def test_plans_keep_variables_of_addresses(
    run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan holds the address as it was written, with variables that are filled in when it is applied."""
    with sqlite3.connect("crm.db") as connection:
        connection.execute("CREATE TABLE people (id TEXT)")
        connection.execute("INSERT INTO people VALUES ('a')")
    connection.close()
    monkeypatch.setenv("CRM", "sqlite:///crm.db")
    query = ["--query", "SELECT id FROM people"]
    assert run("plan", "vip", "${CRM}", *query, "--create", "--out", "plan.json").code == ExitCode.DONE
    assert orjson.loads(Path("plan.json").read_bytes())["source"]["path"] == "${CRM}"
    assert run("apply", "plan.json").code == ExitCode.DONE


@pytest.mark.parametrize(
    ("source", "noun"),
    [
        (["-"], "only once"),
        (["postgresql://me:hunter2@h/db", "--query", "SELECT 1"], "password"),
        (["postgresql://h/db?password=hunter2", "--query", "SELECT 1"], "password"),
    ],
)
def test_plans_reject_sources_that_cannot_be_kept(
    source: list[str], noun: str, run: Run, sandbox: Sandbox
) -> None:
    """A plan that could not be applied, or would hold a password, is refused before the source is read."""
    result = run("plan", "vip", *source, "--out", "plan.json")
    assert result.code == ExitCode.USAGE
    assert noun in result.err
    assert "hunter2" not in result.err
    assert not Path("plan.json").exists()
    assert sandbox.request_count == 0


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 1}', '{"format": 1, "plan": {}}', "nonsense"])
def test_other_files_are_no_plans(text: str, run: Run, sandbox: Sandbox) -> None:
    """A file that is no plan is refused, with the way to make one."""
    Path("plan.json").write_text(text)
    result = run("apply", "plan.json", "--json")
    assert result.code == ExitCode.USAGE
    assert "plan.json" in report(result)["error"]


@pytest.mark.parametrize("out", ["nowhere/plan.json", "."])
def test_unwritable_plans_send_nothing(out: str, run: Run, sandbox: Sandbox) -> None:
    """A place that cannot be written is named before the source is read, and nothing is sent."""
    result = run("plan", "vip", write(["a"]), "--create", "--out", out, "--json")
    assert result.code == ExitCode.USAGE
    assert out in report(result)["error"]
    assert sandbox.request_count == 0


def test_failed_writes_leave_no_plan(run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk is full, no partial plan is left. A pipe keeps its mode."""

    def fail(_: Plan) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    argv = ["plan", "vip", write(["a"]), "--create", "--json", "--out"]
    os.mkfifo("pipe", 0o640)
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert run(*argv, "pipe").code == ExitCode.DONE
    assert orjson.loads(os.read(reader, 100_000))["format"] == 1
    monkeypatch.setattr(Plan, "to_json", fail)
    for out in ("plan.json", "pipe"):
        result = run(*argv, out)
        assert result.code == ExitCode.USAGE
        assert "No space left on device" in report(result)["error"]
    os.close(reader)
    assert not Path("plan.json").exists()
    assert stat.S_IMODE(Path("pipe").stat().st_mode) == 0o640


# -- progress -----------------------------------------------------------------------------------------


def test_terminals_show_a_bar_for_each_step(terminal: Terminal, sandbox: Sandbox) -> None:
    """At a terminal each step has a bar, with its calls."""
    assert terminal.run("sync", "vip", write(users(range(25_000))), "--create") == 0
    screen = terminal.screen()
    assert all(step in screen for step in ("plan", "send", "wait until APPLIED", "3 of 3 calls sent"))
    assert "vip: done: 25,000 added" in screen


def test_terminals_show_pauses(terminal: Terminal, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """While Batch is down, the bar shows the reason."""
    assert terminal.run("create", "vip", "--wait", "-q") == 0
    sandbox.fail_next("503", times=2, operation="update")
    assert terminal.run("sync", "vip", write(users(range(5)))) == 0
    assert "Batch answered 503" in terminal.screen()


def test_long_steps_print_their_progress(run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without bars, a long step prints a line each minute."""
    monkeypatch.setattr(_sync_progress, "_PRINT_INTERVAL", 0.0)
    result = run("sync", "vip", write(users(range(15_000))), "--create")
    assert "send: 15,000 of 15,000, 2 of 2 calls sent so far" in result.err
    assert "plan: 15,000 so far" in result.err


def test_id_type_is_passed_on(run: Run, sandbox: Sandbox) -> None:
    """Ids may be of another type than the API's own, as far as the version takes it."""
    argv = ["sync", "vip", write(["a"]), "--create", "--id-type"]
    assert run(*argv, "custom_ids").code == ExitCode.DONE
    assert run(*argv, "install_ids").code == ExitCode.USAGE


def test_sync_supports_apps(run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The APIs 1.x have the same commands."""
    set_keys(monkeypatch, sandbox)
    monkeypatch.delenv("BATCH_PROJECT_KEY")
    monkeypatch.setenv("BATCH_API_KEY", "sandbox-api-key")
    assert run("sync", "vip", write(["a"]), "--create", "--api", "1.1").code == ExitCode.DONE
