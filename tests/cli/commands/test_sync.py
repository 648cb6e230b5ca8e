from __future__ import annotations

import errno
import gzip
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from aiobatch.cli import ExitCode
from aiobatch.cli.output import _sync_progress as _sync_show
from aiobatch.sandbox import Sandbox
from aiobatch.sync import Plan, default_state_path
from aiobatch.sync.state._state import State

from ..conftest import Run, SandboxThread, Terminal, set_keys
from ..reports import report, users, write

pytestmark = pytest.mark.usefixtures("workdir")

Typed = Callable[[str], None]


def test_a_second_sync_sends_only_the_difference(run: Run, sandbox: Sandbox) -> None:
    """A first sync fills an audience, a second one sends what differs, a third one nothing."""
    first = run("sync", "vip", write(users(range(12_000))), "--create")
    assert first.code == ExitCode.DONE
    assert "vip: done: 12,000 added; 12,000 members; 2 calls" in first.out
    assert "vip: 12,000 rows of users.csv: 12,000 kept, 0 duplicate, none rejected" in first.out
    assert "make the audience: 1 audience in " in first.err
    assert "send: 12,000 ids" in first.err
    assert "wait until APPLIED: 12,000 ids" in first.err
    second = report(run("sync", "vip", write(users(range(100, 12_050))), "--json"))
    assert (second["adds"], second["removes"], second["calls"], second["counted"]) == (50, 100, 1, 11_950)
    assert set(sandbox.members("vip")) == set(users(range(100, 12_050)))
    third = run("sync", "vip", "users.csv")
    assert "vip: done: nothing to do; 11,950 members; 0 calls" in third.out
    assert "send" not in third.err


@pytest.mark.parametrize("mode", ["add", "remove", "replace"])
def test_other_modes(mode: str, run: Run, sandbox: Sandbox) -> None:
    """A source may be only added, only removed, or put in the place of all members in one call."""
    run("sync", "vip", write(users(range(10))), "--create")
    result = run("sync", "vip", write(users(range(5, 15)), "more.csv"), "--mode", mode)
    assert result.code == ExitCode.DONE
    expected = {"add": range(15), "remove": range(5), "replace": range(5, 15)}
    assert set(sandbox.members("vip")) == set(users(expected[mode]))


def test_a_changed_audience_has_a_code_where_it_is_asked_for(run: Run, sandbox: Sandbox) -> None:
    """Nothing to do is 0, and only with --detailed-exitcode a change is 10."""
    argv = ["sync", "vip", write(["a"]), "--create"]
    assert run(*argv, "--dry-run", "--detailed-exitcode").code == ExitCode.CHANGED
    assert run("plan", *argv[1:], "--detailed-exitcode").code == ExitCode.CHANGED
    assert run(*argv, "--detailed-exitcode").code == ExitCode.CHANGED
    assert run(*argv, "--detailed-exitcode").code == ExitCode.DONE


def test_quiet_says_nothing(run: Run, sandbox: Sandbox) -> None:
    """A cron job that went well sends no mail, and one that failed does."""
    done = run("sync", "vip", write(["a"]), "--create", "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")
    failed = run("sync", "vip", write([]), "--quiet")
    assert failed.code == ExitCode.GUARDED
    assert "the source is empty" in failed.err


def test_rejected_rows_go_to_a_file(run: Run, sandbox: Sandbox) -> None:
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


def test_attributes_of_columns(run: Run, sandbox: Sandbox) -> None:
    """Columns become attributes under their own or another name."""
    Path("users.csv").write_text("id,city,joined\na,Paris,2026-01-02T03:04:05Z\n")
    argv = ["--attributes", "city, joined=date(joined)", "--id-column", "id", "--format", "csv"]
    assert run("sync", "vip", "users.csv", "--create", *argv).code == ExitCode.DONE
    attributes = sandbox.members("vip")["a"].attributes
    assert attributes == {"city": "Paris", "date(joined)": "2026-01-02T03:04:05Z"}


def test_a_database_is_a_source(run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address with a query reads a database, and ${NAME} in it stands for a variable."""
    with sqlite3.connect("crm.db") as connection:
        connection.execute("CREATE TABLE people (id TEXT)")
        connection.execute("INSERT INTO people VALUES ('a')")
    connection.close()
    monkeypatch.setenv("CRM", "crm.db")
    argv = ["sync", "vip", "sqlite:///${CRM}", "--query", "SELECT id FROM people", "--create", "--json"]
    assert report(run(*argv))["kept"] == 1
    assert set(sandbox.members("vip")) == {"a"}


def test_a_password_among_the_arguments_is_warned_of(run: Run, sandbox: Sandbox) -> None:
    """Whoever writes a password on the command line is told who can read it, and it is not repeated."""
    argv = ["sync", "vip", "postgresql://me:hunter2@127.0.0.1:1/x", "--query", "SELECT 1"]
    run("create", "vip", "--wait")
    result = run(*argv, "--json")
    assert report(result)["source"] == "postgresql://me@127.0.0.1:1/x"
    assert result.code == ExitCode.BAD_SOURCE
    assert "other users of this machine can read the password" in result.err
    assert "hunter2" not in result.out + result.err


# -- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["bad name", "users.csv"], ExitCode.USAGE, "'bad name'"),
        (["vip", "users.csv", "--query", "SELECT 1"], ExitCode.USAGE, "a query needs a database"),
        (["vip", "ftp://x/y"], ExitCode.USAGE, "ftp:// is not supported"),
        (["vip", "sqlite:///${NOPE}"], ExitCode.USAGE, "NOPE is not set"),
        (["vip", "users.csv", "--rate", "fast"], ExitCode.USAGE, "rate such as"),
        (["vip", "users.csv", "--tags-column", "tags"], ExitCode.USAGE, "does not accept tags"),
        (["nobody", "users.csv"], ExitCode.NOT_FOUND, "made with --create"),
        (["vip", "nowhere.csv"], ExitCode.BAD_SOURCE, "No such file"),
        (["vip", "users.csv", "--id-column", "nope"], ExitCode.BAD_SOURCE, "no column 'nope'"),
        (["vip", "users.csv", "--attributes", "city"], ExitCode.BAD_SOURCE, "no column 'city'"),
        (["vip", "gone*.csv"], ExitCode.BAD_SOURCE, "the pattern matches nothing"),
        (["vip", "users.csv", "--rejects", "nowhere/r.csv"], ExitCode.FAILED, "nowhere/r.csv"),
        (["vip", "users.csv", "--state", "users.csv"], ExitCode.FAILED, "not a readable DuckDB file"),
        (["vip", "cut.csv.gz"], ExitCode.BAD_SOURCE, "truncated or damaged"),
        (["vip", "bad.csv"], ExitCode.BAD_SOURCE, "bad.csv"),
        (["vip", "empty.csv"], ExitCode.GUARDED, "--allow-empty"),
        (["vip", "few.csv"], ExitCode.GUARDED, "--allow-removals 190"),
        (["vip", "most.csv", "--max-removals", "4"], ExitCode.GUARDED, "the limit of 4"),
        (["vip", "most.csv", "--max-removals-percent", "1"], ExitCode.GUARDED, "above the limit of 1 %"),
        (["vip", "few.csv", "--allow-removals", "189"], ExitCode.GUARDED, "more than the 189"),
        (["other", "users.csv"], ExitCode.UNKNOWN_MEMBERS, "aiobatch adopt other FILE"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_refused_sends_nothing(
    argv: list[str], code: ExitCode, said: str, run: Run, sandbox: Sandbox
) -> None:
    """Each bad name, flag, source and plan has its message, its code, a valid report, and no write call."""
    run("sync", "vip", write(users(range(200))), "--create")
    run("create", "other", "--wait")
    sandbox.write_behind_back("other", add=["z"])
    write([], "empty.csv")
    write(users(range(10)), "few.csv")
    write(users(range(195)), "most.csv")
    Path("bad.csv").write_text('user_id\n"a\n')
    Path("cut.csv.gz").write_bytes(gzip.compress(b"user_id\nu1\n" * 9)[:-9])
    before = {name: sandbox.operation_counts[name] for name in ("update", "replace", "create")}
    result = run("sync", *argv, "--json")
    assert result.code == code
    assert said in result.err
    values = report(result)
    assert values["outcome"] == ("refused" if code is ExitCode.GUARDED else "failed")
    assert values["error"] in result.err
    assert {name: sandbox.operation_counts[name] for name in before} == before
    assert set(sandbox.members("vip")) == set(users(range(200)))


@pytest.mark.parametrize(
    "option",
    [
        ["--timeout", "0"],
        ["--mode", "merge"],
        ["--format", "xls"],
        ["--memory-limit", "lots"],
        ["--max-removals", "-1"],
        ["--max-removals-percent", "200"],
        ["--allow-removals", "-1"],
        ["--drift", "-1"],
        ["--grace", "-1"],
    ],
)
def test_a_bad_option_is_wrong_usage(option: list[str], run: Run, sandbox: Sandbox) -> None:
    """An option that the parser refuses is wrong usage, before anything is asked."""
    result = run("sync", "vip", "users.csv", *option)
    assert result.code == ExitCode.USAGE
    assert "see: aiobatch sync --help" in result.err
    assert sandbox.request_count == 0


def test_an_override_is_for_one_run_and_its_number(run: Run, sandbox: Sandbox) -> None:
    """What the guard refused goes through with the flag that it named, once."""
    run("sync", "vip", write(users(range(200))), "--create")
    assert run("sync", "vip", write(users(range(10))), "--allow-removals", "190").code == ExitCode.DONE
    assert run("sync", "vip", write([]), "--allow-empty").code == ExitCode.DONE
    assert not sandbox.members("vip")


def test_another_run_holds_the_state(run: Run, sandbox: Sandbox) -> None:
    """A second run is refused at once, and told who holds it."""
    run("sync", "vip", write(["a"]), "--create")
    with State.open(default_state_path(), what="sync vip"):
        result = run("sync", "vip", "users.csv", "--json")
    assert report(result)["error_type"] == "LockedError"
    assert result.code == ExitCode.LOCKED
    assert "(sync vip)" in result.err


def test_a_missing_key_is_reported_too(run: Run) -> None:
    """Even what fails before there is a client prints its one object."""
    result = run("sync", "vip", write(["a"]), "--json")
    assert report(result)["error_type"] == "InvalidInputError"
    assert result.code == ExitCode.USAGE


def test_not_applied_in_time(run: Run, slow: Sandbox) -> None:
    """A run whose time runs out has its own code; its tokens are journaled."""
    result = run("sync", "vip", write(["a"]), "--timeout", "0.2", "--json")
    assert result.code == ExitCode.NOT_APPLIED
    assert report(result)["outcome"] == "not_applied"
    plan = run("plan", "vip", "users.csv")
    assert plan.code == ExitCode.NOT_APPLIED
    assert "Run `aiobatch wait vip --state`" in plan.err


def test_somebody_else_replaces_the_members(run: Run, slow: Sandbox) -> None:
    """A token that is REPLACED ends the run with its own code, and offers resync."""
    run("sync", "vip", write(["a"]), "--no-wait")
    slow.replace_behind_back("vip", ["z"])
    result = run("sync", "vip", "users.csv", "--json")
    assert result.code == ExitCode.REPLACED
    assert report(result)["outcome"] == "replaced"
    assert "resync" in result.err


def test_drift_warns_or_fails(run: Run, sandbox: Sandbox) -> None:
    """A count that differs is a warning, with --strict an exit code, and within --drift nothing."""
    run("sync", "vip", write(users(range(5))), "--create")
    sandbox.write_behind_back("vip", add=["z"])
    within = report(run("sync", "vip", "users.csv", "--drift", "1", "--json"))
    assert within["warnings"] == []
    warned = run("sync", "vip", "users.csv", "--json")
    assert "Another writer may be active" in report(warned)["warnings"][0]
    assert "WARNING" in warned.err
    strict = run("sync", "vip", "users.csv", "--strict", "--json")
    assert strict.code == ExitCode.DRIFTED
    assert report(strict)["outcome"] == "drift"


def test_no_wait_journals_the_tokens(run: Run, slow: Sandbox) -> None:
    """A run that does not wait ends well, and says who will."""
    result = run("sync", "vip", write(["a"]), "--no-wait")
    assert result.code == ExitCode.DONE
    assert "vip: sent: 1 added" in result.out
    assert "`aiobatch wait vip --state` does" in result.out
    assert "wait until" not in result.err


# -- plan and apply -----------------------------------------------------------------------------------


def test_a_plan_sends_nothing_and_names_everything(run: Run, sandbox: Sandbox) -> None:
    """A plan shows counts, calls, time, a sample and the guard's decision."""
    run("sync", "vip", write(users(range(200))), "--create")
    updates = sandbox.operation_counts["update"]
    result = run("plan", "vip", write(users(range(5, 210))), "--rate", "0.5/s")
    facts = dict(result.rows)
    assert facts["members now"] == "200"
    assert facts["to add"].startswith("10: u20")
    assert facts["to add"].endswith(" …")
    assert facts["to remove"].startswith("5: u")
    assert not facts["to remove"].endswith(" …")
    assert (facts["calls"], facts["guard"]) == ("1", "allowed")
    assert facts["expected time"] == "0:00:04 (at the rate allowed)"
    assert "(as the last runs went)" in dict(run("plan", "vip", "users.csv").rows)["expected time"]
    assert sandbox.operation_counts["update"] == updates
    dry = report(run("sync", "vip", "users.csv", "--dry-run", "--json"))
    assert (dry["outcome"], dry["adds"], dry["guard"]["allowed"]) == ("planned", 10, True)
    assert "u20" not in str(dry)


def test_a_plan_whose_time_nothing_tells(run: Run, sandbox: Sandbox) -> None:
    """Before the first run, without a rate, nobody knows how long it takes: the plan says so."""
    run("create", "vip", "--wait")
    facts = dict(run("plan", "vip", write(["a"])).rows)
    assert facts["expected time"] == "unknown: no rate given (--rate), and no run yet"
    assert report(run("plan", "vip", "users.csv", "--json"))["expected_seconds"] is None


def test_a_plan_names_what_batch_refused_before(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids that are not sent again are no secret of the engine's."""
    with SandboxThread(indexing_delay=0, refused_ids={"u7"}) as sandbox:
        set_keys(monkeypatch, sandbox)
        run("sync", "vip", write(users(range(20))), "--create")
        result = run("plan", "vip", "users.csv")
    facts = dict(result.rows)
    assert (facts["to add"], facts["refused before"], facts["calls"]) == ("0", "1", "0")
    assert facts["expected time"] == "0:00:00"
    assert "aiobatch resync vip" in result.err


def test_a_plan_of_a_resync_names_what_is_sent_again(run: Run, sandbox: Sandbox) -> None:
    """Members that are sent again, and strays, are in the plan of whoever asks for them."""
    run("sync", "vip", write(users(range(5))), "--create")
    run("sync", "vip", write(users(range(1, 5))), "--json")
    result = run("resync", "vip", "users.csv", "--detailed-exitcode")
    assert result.code == ExitCode.CHANGED
    assert "4 sent again, 1 strays removed" in result.out


def test_a_plan_that_the_guard_refuses_exits_so(run: Run, sandbox: Sandbox) -> None:
    """A pipeline sees from the plan's code that a person has to look at it."""
    run("sync", "vip", write(users(range(200))), "--create")
    result = run("plan", "vip", write([]), "--json")
    assert result.code == ExitCode.GUARDED
    guard = report(result)["guard"]
    assert not guard["allowed"]
    assert guard["options"] == {"allow_empty": True, "allow_removals": 200}


def test_a_plan_at_a_terminal(terminal: Terminal, sandbox: Sandbox) -> None:
    """At a terminal a plan is a table, and the guard's refusal is red."""
    assert terminal.run("plan", "vip", write([]), "--create") == ExitCode.GUARDED
    screen = terminal.screen()
    assert "expected time" in screen
    assert "\x1b[1;31mrefused: the source is empty" in screen


def test_a_saved_plan_is_applied_once(run: Run, sandbox: Sandbox) -> None:
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


def test_a_plan_whose_source_has_moved(run: Run, sandbox: Sandbox) -> None:
    """A plan is refused when its source holds other ids than it was made of."""
    run("create", "vip", "--wait")
    run("plan", "vip", write(["a"]), "--out", "plan.json")
    write(["b"])
    result = run("apply", "plan.json")
    assert result.code == ExitCode.STALE
    assert "the source's digest" in result.err
    assert not sandbox.members("vip")


def test_the_override_of_a_plan(run: Run, sandbox: Sandbox) -> None:
    """What the guard refuses in a plan is allowed when it is made or when it is applied."""
    run("sync", "vip", write(users(range(200))), "--create")
    run("plan", "vip", write([]), "--out", "plan.json", "--allow-empty")
    assert run("apply", "plan.json").code == ExitCode.GUARDED
    assert run("apply", "plan.json", "--allow-removals", "200").code == ExitCode.DONE
    run("sync", "vip", write(users(range(200))))
    run("plan", "vip", write(["u0"]), "--out", "plan.json", "--allow-removals", "199")
    assert run("apply", "plan.json").code == ExitCode.DONE


def test_a_database_of_a_plan_keeps_its_variables(
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
    ("source", "said"),
    [
        (["-"], "can be read only once"),
        (["postgresql://me:hunter2@h/db", "--query", "SELECT 1"], "holds no password"),
        (["postgresql://h/db?password=hunter2", "--query", "SELECT 1"], "holds no password"),
    ],
)
def test_a_source_that_no_plan_can_hold_is_refused(
    source: list[str], said: str, run: Run, sandbox: Sandbox
) -> None:
    """A plan that could not be applied, or would hold a password, is refused before the source is read."""
    result = run("plan", "vip", *source, "--out", "plan.json")
    assert result.code == ExitCode.USAGE
    assert said in result.err
    assert "hunter2" not in result.err
    assert not Path("plan.json").exists()
    assert sandbox.request_count == 0


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 1}', '{"format": 1, "plan": {}}', "nonsense"])
def test_a_file_that_is_no_plan_is_refused(text: str, run: Run, sandbox: Sandbox) -> None:
    """A file that is no plan is refused, with the way to make one."""
    Path("plan.json").write_text(text)
    result = run("apply", "plan.json", "--json")
    assert result.code == ExitCode.USAGE
    assert "plan.json: It is not a saved plan" in report(result)["error"]


def test_a_plan_of_another_format_is_refused(run: Run, sandbox: Sandbox) -> None:
    """A plan that another version wrote says so."""
    Path("plan.json").write_text('{"format": 2, "plan": {}}')
    result = run("apply", "plan.json", "--json")
    assert result.code == ExitCode.USAGE
    assert "a plan of format 2" in report(result)["error"]
    assert sandbox.request_count == 0


@pytest.mark.parametrize("out", ["nowhere/plan.json", "."])
def test_a_plan_needs_a_writable_directory(out: str, run: Run, sandbox: Sandbox) -> None:
    """A place that cannot be written is named before the source is read, and nothing is sent."""
    result = run("plan", "vip", write(["a"]), "--create", "--out", out, "--json")
    assert result.code == ExitCode.USAGE
    assert "cannot be written there" in report(result)["error"]
    assert sandbox.request_count == 0


def test_a_full_disk_leaves_no_half_plan(run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk is full, half a plan is not left behind; a pipe is no file, and keeps its mode."""

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
        assert f"{out}: The plan cannot be written (No space left on device)" in report(result)["error"]
    os.close(reader)
    assert not Path("plan.json").exists()
    assert stat.S_IMODE(Path("pipe").stat().st_mode) == 0o640


def test_a_missing_plan_file_is_named(run: Run, sandbox: Sandbox) -> None:
    """A file that cannot be read is named."""
    result = run("apply", "plan.json")
    assert result.code == ExitCode.USAGE
    assert "plan.json: No such file" in result.err


# -- progress -----------------------------------------------------------------------------------------


def test_steps_at_a_terminal(terminal: Terminal, sandbox: Sandbox) -> None:
    """At a terminal each step has a bar, with its calls."""
    assert terminal.run("sync", "vip", write(users(range(25_000))), "--create") == 0
    screen = terminal.screen()
    assert all(step in screen for step in ("plan", "send", "wait until APPLIED", "3 of 3 calls"))
    assert "vip: done: 25,000 added" in screen


def test_a_pause_at_a_terminal(terminal: Terminal, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """While Batch is down, the bar says so and why."""
    assert terminal.run("create", "vip", "--wait", "-q") == 0
    sandbox.fail_next("503", times=2, operation="update")
    assert terminal.run("sync", "vip", write(users(range(5)))) == 0
    assert "Batch answers 503" in terminal.screen()


def test_a_long_step_says_so_now_and_then(
    run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are no bars, a step that goes on writes a line each minute."""
    monkeypatch.setattr(_sync_show, "_SAY_EVERY", 0.0)
    result = run("sync", "vip", write(users(range(15_000))), "--create")
    assert "send: 15,000 of 15,000, 2 of 2 calls so far" in result.err
    assert "plan: 15,000 so far" in result.err


def test_the_type_of_the_ids(run: Run, sandbox: Sandbox) -> None:
    """Ids may be of another type than the API's own, as far as the version takes it."""
    argv = ["sync", "vip", write(["a"]), "--create", "--id-type"]
    assert run(*argv, "custom_ids").code == ExitCode.DONE
    assert run(*argv, "install_ids").code == ExitCode.USAGE


def test_the_keys_of_an_app(run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The APIs 1.x have the same commands."""
    set_keys(monkeypatch, sandbox)
    monkeypatch.delenv("BATCH_PROJECT_KEY")
    monkeypatch.setenv("BATCH_API_KEY", "sandbox-api-key")
    assert run("sync", "vip", write(["a"]), "--create", "--api", "1.1").code == ExitCode.DONE
