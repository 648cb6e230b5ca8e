from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from aiobatch.cli import ExitCode
from aiobatch.cli.inputs import _id_files as _files
from aiobatch.models import MAX_IDS
from aiobatch.sandbox import Sandbox

from ..conftest import Run, Terminal, apply_all


@pytest.fixture
def vip(run: Run, sandbox: Sandbox) -> Sandbox:
    """A sandbox with an audience `vip`."""
    assert run("create", "vip", "--wait").code == 0
    return sandbox


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Write a file and return its path."""

    def write_file(text: str, name: str = "ids.txt") -> str:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write_file


def test_ids_are_added_and_removed(run: Run, vip: Sandbox, write: Callable[..., str]) -> None:
    """Update adds one file and removes another, waits, and shows the audience."""
    many = write("".join(f"u{number}\n" for number in range(25_000)))
    result = run("update", "vip", "--add", many)
    assert result.code == 0
    assert result.rows[0][:4] == ["vip", "custom_ids", "25000", "APPLIED"]
    assert "send to 'vip': 25,000 IDs" in result.err
    assert "wait until APPLIED: 3 updates" in result.err
    result = run("update", "vip", "--remove", write("u0\nu1\n"), "--add", write("x\n", "more"), "--json")
    (report,) = result.objects
    assert (report["applied"], report["ids"], report["result"]["nb_ids"]) == (True, 3, 24_999)
    members = vip.members("vip")
    assert "x" in members
    assert "u0" not in members


@pytest.mark.parametrize(
    "text",
    [
        'name,id\nAnna,u1\n\n"Bo, the second",u2\n',
        "id;name\nu1;Anna\n u2 ;Bo\n",
        '\ufeffid\tname\r\nu1\tAnna\r\nu2\t"B\r\no"\r\n',
    ],
    ids=["comma", "semicolon", "tab and BOM"],
)
def test_column_option_reads_a_csv(text: str, run: Run, vip: Sandbox, write: Callable[..., str]) -> None:
    """--column takes the ids from a CSV, whatever the delimiter."""
    assert run("update", "vip", "--add", write(text, "ids.csv"), "--column", "id").code == 0
    assert set(vip.members("vip")) == {"u1", "u2"}


def test_ids_from_standard_input(
    run: Run, vip: Sandbox, stdin: Callable[[str], None], write: Callable[..., str]
) -> None:
    """`-` reads ids from standard input, beside a file or alone."""
    stdin("u1\n\n  u2\n")
    result = run("update", "vip", "--add", "-", "--remove", write("u3\n"))
    assert result.code == 0
    assert set(vip.members("vip")) == {"u1", "u2"}
    stdin("u1\n")
    assert "check the IDs" not in run("update", "vip", "--remove", "-").err
    assert set(vip.members("vip")) == {"u2"}


def test_pipes_are_read_once(run: Run, vip: Sandbox, tmp_path: Path) -> None:
    """A named pipe is sent as it is read."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    if (child := os.fork()) == 0:
        pipe.write_text("u1\nu2\n")
        os._exit(0)
    assert run("update", "vip", "--add", str(pipe)).code == 0
    os.waitpid(child, 0)
    assert set(vip.members("vip")) == {"u1", "u2"}


@pytest.mark.parametrize("good", [0, 200_000])
def test_pipe_that_breaks_off_claims_nothing(good: int, run: Run, vip: Sandbox, tmp_path: Path) -> None:
    """If chunks went out before the source broke, no line claims that nothing was sent."""
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    if (child := os.fork()) == 0:
        try:
            with pipe.open("wb") as file:
                file.write(
                    b"user_id\n" + b"".join(b"u%d\n" % number for number in range(good)) + b"\xff\xfe\n"
                )
        finally:
            os._exit(0)
    result = run("update", "vip", "--add", str(pipe), "--column", "user_id")
    os.waitpid(child, 0)
    assert result.code != 0
    sent = vip.operation_counts["update"]
    assert bool(sent) is bool(good)
    assert not (sent and "Nothing was sent" in result.err)


def test_without_waiting_there_are_tokens(
    run: Run, vip: Sandbox, stdin: Run, write: Callable[..., str]
) -> None:
    """--no-wait prints a token for each request, and `wait -` takes them."""
    many = write("".join(f"u{number}\n" for number in range(12_000)))
    result = run("update", "vip", "--add", many, "--no-wait")
    assert len(result.out.splitlines()) == 2
    stdin(result.out)
    assert run("wait", "-").code == 0
    (report,) = run("update", "vip", "--add", many, "--no-wait", "--json").objects
    assert (report["applied"], len(report["tokens"]), report["result"]) == (False, 2, None)


def test_late_updates_can_be_waited_for(run: Run, slow: Sandbox, write: Callable[..., str]) -> None:
    """A wait that is too short exits with 4 and prints the tokens that are open."""
    result = run("update", "vip", "--add", write("u1\n"), "--timeout", "0.05")
    assert result.code == ExitCode.NOT_APPLIED
    token = result.out.strip()
    assert f"aiobatch wait {token}" in result.err
    assert "0 of 1 updates" in result.err
    many = write("".join(f"u{number}\n" for number in range(MAX_IDS + 1)))
    result = run("update", "vip", "--add", many, "--timeout", "0.05")
    assert result.code == ExitCode.NOT_APPLIED
    assert "2 updates were not APPLIED" in result.err
    apply_all(slow)
    assert run("wait", *result.out.split(), token).code == 0


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("text", "options", "noun"),
    [
        ("u1\n" + "x" * 1025 + "\n", [], "line 2"),
        ("u1\nu\0\n", [], "line 2"),
        ("u1,Anna\n", [], "column"),
        ("u1,Anna\n", ["--column", "id"], "column 'id'"),
        ("", ["--column", "id"], "header"),
        ("id,name\nu1,Anna\nu2\n", ["--column", "id"], "line 3"),
        ("id,name\n,Anna\n", ["--column", "id"], "row 1"),
        ('id,name\nu1,"Anna\n', ["--column", "id"], "line 2"),
        ("", [], "No IDs"),
        ("\n \n", [], "No IDs"),
        ("u" * (1024 * 1024), [], "line 1"),
    ],
)
def test_invalid_files_send_nothing(
    text: str, options: list[str], noun: str, run: Run, vip: Sandbox, write: Callable[..., str]
) -> None:
    """An invalid file is rejected with the line, and with none of its IDs, before anything is sent."""
    before = vip.request_count
    for command in (["update", "vip", "--add"], ["replace", "vip", "--yes"]):
        result = run(*command, write(text), *options)
        assert (result.code, result.out) == (ExitCode.USAGE, "")
        assert noun in result.err
        assert "Anna" not in result.err
    assert vip.request_count == before


def test_other_encodings_are_rejected(run: Run, vip: Sandbox, tmp_path: Path) -> None:
    """A file that is not UTF-8 is rejected with the line."""
    (tmp_path / "ids").write_bytes("u1\nü2\n".encode("latin-1"))
    result = run("update", "vip", "--add", str(tmp_path / "ids"))
    assert result.code == ExitCode.USAGE
    assert "line 2" in result.err


def test_unreadable_files_are_named(run: Run, vip: Sandbox, tmp_path: Path) -> None:
    """A missing file or an empty directory exits with 2 and is named."""
    assert "No such file" in run("update", "vip", "--add", str(tmp_path / "none")).err
    (tmp_path / "empty").mkdir()
    result = run("update", "vip", "--add", str(tmp_path / "empty"))
    assert result.code == ExitCode.USAGE
    assert str(tmp_path / "empty") in result.err


@pytest.mark.parametrize(
    ("argv", "noun"),
    [
        (["vip"], "--add"),
        (["vip", "--add", "-", "--remove", "-"], "Standard input"),
        (["a/b", "--add", "-"], "'a/b'"),
    ],
)
def test_invalid_updates_are_rejected(argv: list[str], noun: str, run: Run, vip: Sandbox) -> None:
    """An update without a file, or with standard input twice, is rejected."""
    result = run("update", *argv)
    assert result.code == ExitCode.USAGE
    assert noun in result.err


def test_invalid_ids_on_standard_input_stop_the_upload(run: Run, vip: Sandbox, stdin: Run) -> None:
    """IDs that were sent before an invalid line are counted."""
    stdin("".join(f"u{number}\n" for number in range(3 * MAX_IDS)) + "x" * 1025)
    result = run("update", "vip", "--add", "-")
    assert result.code == ExitCode.FAILED
    assert "line 30001" in result.err
    assert "the same command again" in result.err
    stdin("x" * 1025)
    assert run("update", "vip", "--add", "-").code == ExitCode.USAGE


def test_empty_standard_input_is_rejected(run: Run, vip: Sandbox, stdin: Run) -> None:
    """Empty standard input is rejected, because its writer has probably failed."""
    stdin("")
    result = run("update", "vip", "--add", "-")
    assert result.code == ExitCode.USAGE
    assert "No IDs in stdin" in result.err


def test_missing_audiences_have_their_code(run: Run, sandbox: Sandbox, write: Callable[..., str]) -> None:
    """An update or replace of an audience that does not exist exits with 3."""
    ids = write("u1\n")
    assert run("update", "nope", "--add", ids).code == ExitCode.NOT_FOUND
    assert run("replace", "nope", ids, "--yes").code == ExitCode.NOT_FOUND


@pytest.mark.parametrize(
    "argv", [["--add", "many", "--remove", "gone"], ["--add", "gone", "--remove", "many"]]
)
def test_ids_in_both_files_send_nothing(
    argv: list[str], run: Run, vip: Sandbox, write: Callable[..., str]
) -> None:
    """An ID in both files is found before anything is sent, and its position is named."""
    paths = {
        "many": write("".join(f"u{number}\n" for number in range(MAX_IDS + 5)), "many"),
        "gone": write("y\nu10002\n", "gone"),
    }
    result = run("update", "vip", *(paths.get(word, word) for word in argv))
    assert result.code == ExitCode.USAGE
    assert f"ID 10,003 of {paths['many']}" in result.err
    assert not vip.operation_counts["update"]


def test_ids_beyond_the_comparison_are_found_by_the_upload(
    run: Run, vip: Sandbox, write: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a file has too many IDs to compare, a request with an ID in both lists is rejected."""
    monkeypatch.setattr(_files, "_HELD", 1)
    result = run("update", "vip", "--add", write("a\nb\n"), "--remove", write("y\nb\n", "gone"))
    assert result.code == ExitCode.USAGE
    assert "add[1]" in result.err
    assert not vip.operation_counts["update"]


def test_stopped_uploads_report_what_was_sent(
    run: Run, vip: Sandbox, write: Callable[..., str], stdin: Run
) -> None:
    """If a chunk fails after others were sent, the IDs of those are counted."""
    ids = "".join(f"u{number}\n" for number in range(MAX_IDS))
    # The second chunk has an ID in both lists. With standard input, this is not checked before.
    stdin(f"{ids}x\n")
    result = run("update", "vip", "--add", "-", "--remove", write("x\n", "gone"))
    assert result.code == ExitCode.FAILED
    assert "10,000 IDs" in result.err
    assert "the same command again" in result.err


def test_all_ids_are_replaced(run: Run, vip: Sandbox, stdin: Run) -> None:
    """Replace leaves the given ids and no other."""
    stdin("u1\nu2\n")
    assert run("replace", "vip", "-", "--yes").code == 0
    stdin("id,x\nu3,\n")
    result = run("replace", "vip", "-", "--yes", "--column", "id", "--id-type", "custom_ids")
    assert result.rows[0][:4] == ["vip", "custom_ids", "1", "APPLIED"]
    assert set(vip.members("vip")) == {"u3"}


def test_replace_is_one_request(run: Run, vip: Sandbox, write: Callable[..., str]) -> None:
    """More IDs than one request takes are rejected."""
    many = write("".join(f"u{number}\n" for number in range(MAX_IDS + 1)))
    result = run("replace", "vip", many, "--yes")
    assert result.code == ExitCode.USAGE
    assert "10,000 IDs" in result.err


def test_replace_asks_for_confirmation(
    run: Run, vip: Sandbox, terminal: Terminal, write: Callable[..., str]
) -> None:
    """In a terminal, replace asks, unless the IDs come from standard input."""
    ids = write("u1\n")
    terminal.type("y\n")
    assert terminal.run("replace", "vip", ids) == 0
    assert terminal.run("replace", "vip", "-") == ExitCode.USAGE
    screen = terminal.screen()
    assert "Replace all IDs of audience 'vip'" in screen
    assert "--yes" in screen


def test_terminals_show_bars_and_a_table(
    run: Run, vip: Sandbox, terminal: Terminal, write: Callable[..., str]
) -> None:
    """At a terminal, bars show each stage, and the audience is a table."""
    many = write("".join(f"u{number}\n" for number in range(12_000)))
    assert terminal.run("update", "vip", "--add", many) == 0
    screen = terminal.screen()
    for text in ("✓", "check the IDs", "send to 'vip'", "12,000 IDs", "wait until APPLIED", "2 updates"):
        assert text in screen
    assert "12,000" in screen.split("updated (UTC)")[1]


def test_terminals_count_ids_of_unknown_number(run: Run, vip: Sandbox, terminal: Terminal) -> None:
    """In a terminal, IDs of unknown number are counted while they are sent."""
    terminal.type("u1\nu2\n\x04")
    assert terminal.run("update", "vip", "--add", "-") == 0
    assert "2 IDs" in terminal.screen()


def test_dumb_terminals_show_lines(
    terminal: Terminal, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the cursor cannot be moved there are lines."""
    monkeypatch.setenv("TERM", "dumb")
    assert terminal.run("create", "vip", "--wait") == 0
    assert "wait until APPLIED: 1 update in " in terminal.screen()
