from __future__ import annotations

import pytest

from aiobatch.cli import ExitCode
from aiobatch.sandbox import API_KEY, Sandbox

from ..conftest import Run, SandboxThread, Terminal, set_keys

FIELDS = {"audience", "id_type", "description", "nb_ids", "indexing_state", "created", "updated"}


def test_audiences_are_created_and_deleted(run: Run, sandbox: Sandbox) -> None:
    """An audience is created, viewed, listed and deleted."""
    created = run("create", "vip", "--description", "Very important", "--wait")
    assert created.code == 0
    assert created.rows[0][:4] == ["vip", "custom_ids", "0", "APPLIED"]
    assert created.rows[0][5] == "Very important"
    assert "'vip'" in created.err
    assert run("view", "vip").rows == created.rows
    assert run("list").rows[0][0] == "vip"
    deleted = run("delete", "vip", "--yes", "--wait")
    assert (deleted.code, deleted.out) == (0, "")
    assert "'vip'" in deleted.err
    assert run("list").out == ""


def test_commands_without_wait_print_a_token(run: Run, sandbox: Sandbox) -> None:
    """Create and delete print the token of 2.x unless they wait, and wait takes it."""
    token = run("create", "vip").out.strip()
    assert token.startswith("vip:create:")
    assert run("wait", token).code == 0
    token = run("delete", "vip", "-y").out.strip()
    assert token.startswith("vip:delete:")
    assert run("wait", token).code == 0


def test_json_has_every_field(run: Run, sandbox: Sandbox) -> None:
    """With --json each audience is an object with every field that it has."""
    (report,) = run("create", "vip", "--wait", "--json").objects
    assert {key: report[key] for key in ("audience", "operation", "applied", "tokens", "ids")} == {
        "audience": "vip",
        "operation": "create",
        "applied": True,
        "tokens": [],
        "ids": None,
    }
    (audience,) = run("view", "vip", "--json").objects
    assert audience == report["result"]
    assert set(audience) == FIELDS
    assert audience["created"].endswith("Z")
    (listed,) = run("--json", "list").objects
    assert listed["audience"] == "vip"


def test_missing_audiences_hide_no_others(run: Run, sandbox: Sandbox) -> None:
    """View shows the existing audiences, names each missing one, and exits with 3."""
    run("create", "vip", "--wait")
    result = run("view", "vip", "nope", "nada")
    assert result.code == ExitCode.NOT_FOUND
    assert [row[0] for row in result.rows] == ["vip"]
    assert "'nope'" in result.err
    assert "'nada'" in result.err


def test_many_missing_audiences_are_counted(run: Run, sandbox: Sandbox) -> None:
    """Of many failures, some are named and the rest counted."""
    result = run("view", *(f"nope{number}" for number in range(25)))
    assert result.code == ExitCode.NOT_FOUND
    assert len(result.err.splitlines()) == 21
    assert "5 more audiences" in result.err


def test_names_come_from_standard_input(run: Run, sandbox: Sandbox, stdin: Run) -> None:
    """`-` reads names from standard input, and a repeated name is viewed once."""
    run("create", "vip", "--wait")
    stdin("vip\nvip\n")
    assert [row[0] for row in run("view", "-").rows] == ["vip"]


@pytest.mark.parametrize(
    ("argv", "noun"),
    [
        (["view"], "audience"),
        (["view", "a/b"], "'a/b'"),
        (["create", ".."], "'..'"),
        (["create", ""], "''"),
        (["delete", "a b"], "'a b'"),
        (["delete", "vip"], "--yes"),
        (["create", "vip", "--id-type", "install ids"], "id_type must be a name"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_invalid_arguments_send_nothing(argv: list[str], noun: str, run: Run, sandbox: Sandbox) -> None:
    """Invalid arguments are rejected with 2 before anything is sent."""
    result = run(*argv)
    assert (result.code, result.out) == (ExitCode.USAGE, "")
    assert noun in result.err
    assert sandbox.request_count == 0


def test_deleting_a_missing_audience_has_its_code(run: Run, sandbox: Sandbox) -> None:
    """Deleting an audience that does not exist exits with 3."""
    assert run("delete", "nope", "--yes").code == ExitCode.NOT_FOUND


def test_apps_have_no_tokens_for_create_and_delete(
    run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In 1.x create and delete take effect at once: nothing is printed but a message."""
    monkeypatch.delenv("BATCH_PROJECT_KEY")
    monkeypatch.setenv("BATCH_API_KEY", API_KEY)
    created = run("create", "vip", "--description", "-", "--id-type", "advertising_ids")
    assert (created.code, created.out, created.err) == (0, "", "Created audience 'vip'.\n")
    assert run("view", "vip").rows[0][5] == "-"
    assert run("delete", "vip", "--yes", "--json").objects[0]["applied"] is True


def test_wrong_keys_name_the_variable(run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that Batch does not know exits with 1 and names the variable."""
    monkeypatch.setenv("BATCH_REST_API_KEY", "wrong-key-of-mine")
    result = run("list")
    assert result.code == ExitCode.FAILED
    assert "BATCH_REST_API_KEY" in result.err
    assert "wrong-key-of-mine" not in result.err


def test_plain_http_is_only_for_loopback(run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that would carry the keys unencrypted is refused."""
    monkeypatch.setenv("BATCH_BASE_URL", "http://example.org")
    result = run("list")
    assert result.code == ExitCode.USAGE
    assert "BATCH_BASE_URL" in result.err


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("YES\n", 0), ("n\n", 2), ("\n", 2), ("\x04", 2)])
def test_delete_asks_for_confirmation(answer: str, code: int, terminal: Terminal, sandbox: Sandbox) -> None:
    """At a terminal, delete asks, and only yes is yes."""
    assert terminal.run("create", "vip", "--wait", "--quiet") == 0
    before = sandbox.request_count
    terminal.type(answer)
    assert terminal.run("delete", "vip") == code
    assert "Delete audience 'vip' with all its IDs? [y/N]" in terminal.screen()
    assert (sandbox.request_count == before) == bool(code)


def test_terminals_show_a_table(terminal: Terminal, sandbox: Sandbox) -> None:
    """At a terminal there is a table with headings, and columns that are empty are left out."""
    assert terminal.run("create", "vip", "--wait") == 0
    assert terminal.run("create", "gold", "--wait", "--quiet") == 0
    assert terminal.run("view", "gold", "vip") == 0
    screen = terminal.screen()
    assert "wait until APPLIED" in screen
    assert "━━━" in screen
    assert "audience" in screen
    assert "updated (UTC)" in screen
    assert "description" not in screen
    assert "\x1b[32mAPPLIED" in screen


def test_empty_tables_print_nothing(terminal: Terminal, sandbox: Sandbox) -> None:
    """At a terminal, no audiences are no table."""
    assert terminal.run("list", "--quiet") == 0
    assert terminal.screen() == ""


def test_control_characters_never_reach_the_terminal(terminal: Terminal, sandbox: Sandbox) -> None:
    """Control characters of a description do not reach the terminal."""
    assert terminal.run("create", "vip", "--quiet", "--wait", "--description", "a\x1b]0;b\x07\tc") == 0
    screen = terminal.screen()
    assert "\x1b]0;" not in screen
    assert "\x07" not in screen


def test_maintenance_is_retried(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures of the service are retried, and appear only in the log."""
    with SandboxThread(indexing_delay=0.0, faults={"503": 0.3}, seed=1) as sandbox:
        set_keys(monkeypatch, sandbox)
        result = run("create", "vip", "--wait", "-v", "--log-format", "json")
    assert result.code == 0
    assert '"logger":"aiobatch.' in result.err


def test_create_with_a_wrong_key_says_nothing_about_the_name(
    run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a refusal that may mean a taken name makes the command look for the audience."""
    monkeypatch.setenv("BATCH_REST_API_KEY", "wrong")
    result = run("create", "vip")
    assert result.code != ExitCode.DONE
    assert sandbox.operation_counts["view"] == 0
