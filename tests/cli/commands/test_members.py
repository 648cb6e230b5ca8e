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
    """Write a file; return its path."""

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
    assert "send to 'vip': 25,000 ids" in result.err
    assert "wait until APPLIED: 3 updates" in result.err
    result = run("update", "vip", "--remove", write("u0\nu1\n"), "--add", write("x\n", "more"), "--json")
    (report,) = result.objects
    assert (report["applied"], report["ids"], report["audience"]["nb_ids"]) == (True, 3, 24_999)
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
def test_a_column_of_a_csv(text: str, run: Run, vip: Sandbox, write: Callable[..., str]) -> None:
    """--column takes the ids from a CSV, whatever stands between its columns."""
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
    assert "check the ids" not in run("update", "vip", "--remove", "-").err
    assert set(vip.members("vip")) == {"u2"}


def test_a_pipe_is_read_once(run: Run, vip: Sandbox, tmp_path: Path) -> None:
    """A named pipe is sent as it is read."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    if (child := os.fork()) == 0:
        pipe.write_text("u1\nu2\n")
        os._exit(0)
    assert run("update", "vip", "--add", str(pipe)).code == 0
    os.waitpid(child, 0)
    assert set(vip.members("vip")) == {"u1", "u2"}


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
    assert (report["applied"], len(report["tokens"]), report["audience"]) == (False, 2, None)


def test_what_is_not_applied_in_time_can_be_waited_for(
    run: Run, slow: Sandbox, write: Callable[..., str]
) -> None:
    """A wait that is too short exits with 4 and prints the tokens that are open."""
    result = run("update", "vip", "--add", write("u1\n"), "--timeout", "0.05")
    assert result.code == ExitCode.NOT_APPLIED
    token = result.out.strip()
    assert f"aiobatch wait {token}" in result.err
    assert "0 of 1 updates" in result.err
    many = write("".join(f"u{number}\n" for number in range(MAX_IDS + 1)))
    result = run("update", "vip", "--add", many, "--timeout", "0.05")
    assert result.code == ExitCode.NOT_APPLIED
    assert "2 updates were not APPLIED in time" in result.err
    apply_all(slow)
    assert run("wait", *result.out.split(), token).code == 0


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("u1\n" + "x" * 1025 + "\n", [], ":2: an ID must have at most"),
        ("u1\nu\0\n", [], ":2: an ID must not contain a NUL"),
        ("u1,Anna\n", [], "looks like a CSV: name the column of the ids with --column"),
        ("u1,Anna\n", ["--column", "id"], "names no column 'id'"),
        ("", ["--column", "id"], "names no column 'id'"),
        ("id,name\nu1,Anna\nu2\n", ["--column", "id"], ":3: the row has 1 columns, the header 2"),
        ("id,name\n,Anna\n", ["--column", "id"], ":2: an ID must not be empty"),
        ('id,name\nu1,"Anna\n', ["--column", "id"], ":2: not a row of a CSV"),
        ('id,"name\nu1,Anna\n', ["--column", "id"], ":2: not a row of a CSV"),
        ("", [], "no ids in "),
        ("\n \n", [], "no ids in "),
        ("u" * (1024 * 1024), [], ":1: a line of more than 1,048,576 characters"),
    ],
)
def test_a_bad_file_sends_nothing(
    text: str, options: list[str], said: str, run: Run, vip: Sandbox, write: Callable[..., str]
) -> None:
    """A file that does not hold ids is refused with the line and no id of it, before anything is sent."""
    before = vip.request_count
    for command in (["update", "vip", "--add"], ["replace", "vip", "--yes"]):
        result = run(*command, write(text), *options)
        assert (result.code, result.out) == (ExitCode.USAGE, "")
        assert said in result.err
        assert "Anna" not in result.err
    assert vip.request_count == before


def test_other_encodings_are_refused(run: Run, vip: Sandbox, tmp_path: Path) -> None:
    """A file that is no UTF-8 is refused with about the line."""
    (tmp_path / "ids").write_bytes("u1\nü2\n".encode("latin-1"))
    result = run("update", "vip", "--add", str(tmp_path / "ids"))
    assert result.code == ExitCode.USAGE
    assert "not UTF-8 from about line 1 on" in result.err


def test_files_that_cannot_be_read(run: Run, vip: Sandbox, tmp_path: Path) -> None:
    """A file that is missing, or a directory, exits with 2 and the system's own words."""
    assert "No such file" in run("update", "vip", "--add", str(tmp_path / "none")).err
    result = run("update", "vip", "--add", str(tmp_path))
    assert result.code == ExitCode.USAGE
    assert result.err.splitlines()[-1] == f"aiobatch: {tmp_path}: Is a directory"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["vip"], "nothing to do: name a file with --add or --remove"),
        (["vip", "--add", "-", "--remove", "-"], "standard input can be read once"),
        (["a/b", "--add", "-"], "audience name 'a/b'"),
    ],
)
def test_updates_that_cannot_be_meant(argv: list[str], said: str, run: Run, vip: Sandbox) -> None:
    """An update of nothing, or of standard input twice, is refused."""
    result = run("update", *argv)
    assert result.code == ExitCode.USAGE
    assert said in result.err


def test_a_stream_that_turns_bad_says_how_far_it_came(run: Run, vip: Sandbox, stdin: Run) -> None:
    """Of standard input, what was sent before a bad line is counted, and nothing is called unsent."""
    stdin("".join(f"u{number}\n" for number in range(3 * MAX_IDS)) + "x" * 1025)
    result = run("update", "vip", "--add", "-")
    assert result.code == ExitCode.FAILED
    assert "stdin:30001: an ID must" in result.err
    assert "ids that are sent twice change nothing" in result.err
    stdin("x" * 1025)
    assert run("update", "vip", "--add", "-").code == ExitCode.USAGE


def test_an_empty_stream_is_a_mistake(run: Run, vip: Sandbox, stdin: Run) -> None:
    """Nothing on standard input is refused: whatever should have written there failed."""
    stdin("")
    result = run("update", "vip", "--add", "-")
    assert result.code == ExitCode.USAGE
    assert "no ids in stdin; nothing was sent" in result.err


def test_no_such_audience(run: Run, sandbox: Sandbox, write: Callable[..., str]) -> None:
    """An update or replace of an audience that does not exist exits with 3."""
    ids = write("u1\n")
    assert run("update", "nope", "--add", ids).code == ExitCode.NOT_FOUND
    assert run("replace", "nope", ids, "--yes").code == ExitCode.NOT_FOUND


@pytest.mark.parametrize(
    "argv", [["--add", "many", "--remove", "gone"], ["--add", "gone", "--remove", "many"]]
)
def test_an_id_in_both_files_sends_nothing(
    argv: list[str], run: Run, vip: Sandbox, write: Callable[..., str]
) -> None:
    """An id that is to be added and removed is found before anything is sent, and its line is named."""
    paths = {
        "many": write("".join(f"u{number}\n" for number in range(MAX_IDS + 5)), "many"),
        "gone": write("y\nu10002\n", "gone"),
    }
    result = run("update", "vip", *(paths.get(word, word) for word in argv))
    assert result.code == ExitCode.USAGE
    assert f"{paths['many']}:10003 stands in {paths['gone']} as well" in result.err
    assert not vip.operation_counts["update"]


def test_of_large_files_as_much_is_compared_as_is_held(
    run: Run, vip: Sandbox, write: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond what memory takes, an id in both files is left to the requests that would hold it twice."""
    monkeypatch.setattr(_files, "_HELD", 1)
    result = run("update", "vip", "--add", write("a\nb\n"), "--remove", write("y\nb\n", "gone"))
    assert result.code == ExitCode.USAGE
    assert "is also in remove" in result.err
    assert not vip.operation_counts["update"]


def test_an_upload_that_stops_says_how_far_it_came(
    run: Run, vip: Sandbox, write: Callable[..., str], stdin: Run
) -> None:
    """When a chunk is refused for good after others went through, the ids that were sent are counted."""
    ids = "".join(f"u{number}\n" for number in range(MAX_IDS))
    # The second chunk holds one id in both lists, which no request may; of a stream nobody knows before.
    stdin(f"{ids}x\n")
    result = run("update", "vip", "--add", "-", "--remove", write("x\n", "gone"))
    assert result.code == ExitCode.FAILED
    assert "the upload stopped after 10,000 ids" in result.err
    assert "ids that are sent twice change nothing" in result.err


def test_all_ids_are_replaced(run: Run, vip: Sandbox, stdin: Run) -> None:
    """Replace leaves the given ids and no other."""
    stdin("u1\nu2\n")
    assert run("replace", "vip", "-", "--yes").code == 0
    stdin("id,x\nu3,\n")
    result = run("replace", "vip", "-", "--yes", "--column", "id", "--id-type", "custom_ids")
    assert result.rows[0][:4] == ["vip", "custom_ids", "1", "APPLIED"]
    assert set(vip.members("vip")) == {"u3"}


def test_replace_is_one_request(run: Run, vip: Sandbox, write: Callable[..., str]) -> None:
    """More ids than one request takes are refused, with what to use instead."""
    many = write("".join(f"u{number}\n" for number in range(MAX_IDS + 1)))
    result = run("replace", "vip", many, "--yes")
    assert result.code == ExitCode.USAGE
    assert "more than 10,000 ids" in result.err
    assert "use update" in result.err


def test_replace_asks(run: Run, vip: Sandbox, terminal: Terminal, write: Callable[..., str]) -> None:
    """At a terminal, replace asks; where the ids come from standard input, nobody can answer."""
    ids = write("u1\n")
    terminal.type("y\n")
    assert terminal.run("replace", "vip", ids) == 0
    assert terminal.run("replace", "vip", "-") == ExitCode.USAGE
    screen = terminal.screen()
    assert "Remove every id of audience 'vip'" in screen
    assert "say so with --yes" in screen


def test_a_terminal_gets_bars_and_a_table(
    run: Run, vip: Sandbox, terminal: Terminal, write: Callable[..., str]
) -> None:
    """At a terminal, bars show each stage, and the audience is a table."""
    many = write("".join(f"u{number}\n" for number in range(12_000)))
    assert terminal.run("update", "vip", "--add", many) == 0
    screen = terminal.screen()
    for text in ("✓", "check the ids", "send to 'vip'", "12,000 ids", "wait until APPLIED", "2 updates"):
        assert text in screen
    assert "12,000" in screen.split("updated (UTC)")[1]


def test_a_terminal_shows_a_stream(run: Run, vip: Sandbox, terminal: Terminal) -> None:
    """At a terminal, ids whose number nobody knows are counted as they are sent."""
    terminal.type("u1\nu2\n\x04")
    assert terminal.run("update", "vip", "--add", "-") == 0
    assert "2 ids" in terminal.screen()


def test_a_dumb_terminal_gets_lines(
    terminal: Terminal, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the cursor cannot be moved there are lines."""
    monkeypatch.setenv("TERM", "dumb")
    assert terminal.run("create", "vip", "--wait") == 0
    assert "wait until APPLIED: 1 update in " in terminal.screen()
