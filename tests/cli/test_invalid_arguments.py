from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aiobatch import AudienceClient, InvalidRequestError
from aiobatch.cli import ExitCode
from aiobatch.sandbox import PROJECT_KEY, REST_API_KEY, Sandbox

from .conftest import Run
from .reports import report, users, write

pytestmark = pytest.mark.usefixtures("workdir")

PASSWORD = "hunter2"
KEY = "0123456789abcdef"


@pytest.fixture
def unsent(run: Run, sandbox: Sandbox) -> Callable[[], bool]:
    """Have an audience that was synced once; tell whether nothing was sent since then."""
    assert run("sync", "vip", write(users(range(9))), "--create").code == ExitCode.DONE
    written = ("create", "update", "replace", "delete")
    before = {name: sandbox.operation_counts[name] for name in written}
    return lambda: before == {name: sandbox.operation_counts[name] for name in written}


@pytest.mark.parametrize(
    ("name", "content", "code", "said"),
    [
        ("image.csv", b"\x89PNG\r\n\x1a\n\0\0", ExitCode.BAD_SOURCE, "line 1: it is not UTF-8"),
        ("binary.csv", b"id\0\0\n", ExitCode.BAD_SOURCE, "not a text file"),
        ("wide.csv", "id\na\n".encode("utf-16"), ExitCode.BAD_SOURCE, "'iconv -f UTF-16 -t UTF-8'"),
        ("latin.csv", "id\nJosé\n".encode("latin-1"), ExitCode.BAD_SOURCE, "'iconv -f LATIN1 -t UTF-8'"),
        ("u.parquet", b"id\na\nb\n", ExitCode.BAD_SOURCE, "too small for a Parquet file"),
        ("u.jsonl", b"id\na\nb\n", ExitCode.BAD_SOURCE, "line 1: it is not a complete JSON object"),
        ("u.xlsx", b"PK\3\4", ExitCode.BAD_SOURCE, "Set the format to one of csv, parquet, jsonl"),
        ("crm.db", b"SQLite format 3\0", ExitCode.BAD_SOURCE, "duckdb:///crm.db or sqlite:///crm.db"),
        ("empty.csv", b"", ExitCode.BAD_SOURCE, "there is no header"),
        ("empty.jsonl", b"", ExitCode.GUARDED, "--allow-empty"),
        ("decimals.jsonl", b'{"id": 1.5}\n', ExitCode.GUARDED, "1 rejected (not_text 1); name a file for"),
    ],
)
def test_a_file_of_another_kind(
    name: str, content: bytes, code: ExitCode, said: str, run: Run, unsent: Callable[[], bool]
) -> None:
    """What is no source says what it is and how to mend it, and sends nothing."""
    Path(name).write_bytes(content)
    result = run("sync", "vip", name)
    assert result.code == code
    assert said in result.err
    assert unsent()


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        ("sync vip none", ExitCode.BAD_SOURCE, "Source none: no matching files"),
        ("sync vip gl*.csv", ExitCode.BAD_SOURCE, "or the pattern matches nothing"),
        ("sync vip mixed", ExitCode.BAD_SOURCE, "mixed/notes.txt: its name has no known suffix"),
        ("sync vip .", ExitCode.BAD_SOURCE, "contains directories"),
        ("sync vip users.csv --state .", ExitCode.FAILED, "it is a directory"),
        ("sync vip users.csv --state /proc/nowhere/s", ExitCode.FAILED, "directory's permissions"),
        ("sync vip users.csv --rate 0", ExitCode.USAGE, "rate must be above 0 requests per second"),
        ("sync vip users.csv --rate 1e999/s", ExitCode.USAGE, "must be a finite number"),
        ("sync vip users.csv --timeout nan", ExitCode.USAGE, "number of seconds above 0"),
        ("sync vip users.csv --max-removals-percent nan", ExitCode.USAGE, "from 0 to 100"),
        ("rollback vip --to 99", ExitCode.NOT_FOUND, "Run `aiobatch runs vip`"),
        ("rollback vip --to 99999999999999999999999", ExitCode.NOT_FOUND, "in this state"),
        (
            "create vip",
            ExitCode.FAILED,
            "it exists already, and was left as it is; `aiobatch view vip` shows",
        ),
        ("create vip --id-type install_ids", ExitCode.USAGE, "install_ids"),
    ],
)
def test_a_wrong_word(argv: str, code: ExitCode, said: str, run: Run, unsent: Callable[[], bool]) -> None:
    """A place, a number or a name that cannot be meant says so, and sends nothing."""
    for name in ("none", "mixed"):
        Path(name).mkdir()
    write(["a"], "mixed/a.csv")
    Path("mixed/notes.txt").write_text("x")
    result = run(*argv.split())
    assert (result.code, said in result.err) == (code, True), result.err
    assert unsent() or argv == "create vip"


def test_a_name_that_batch_refuses_otherwise(
    run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Batch refuses for another reason than a name that is taken is said in its own words."""

    async def refuse(*_: object, **__: object) -> None:
        msg = "the description is too long"
        raise InvalidRequestError(msg, status=400, method="POST", path="/")

    monkeypatch.setattr(AudienceClient, "create", refuse)
    result = run("create", "vip")
    assert result.code == ExitCode.FAILED
    assert "the description is too long" in result.err
    assert "exists already" not in result.err


@pytest.mark.parametrize(
    ("variable", "value", "code", "said"),
    [
        ("BATCH_REST_API_KEY", "", ExitCode.USAGE, "BATCH_REST_API_KEY is not set or is empty"),
        ("BATCH_REST_API_KEY", f"{REST_API_KEY}\n", ExitCode.USAGE, "BATCH_REST_API_KEY must be printable"),
        ("BATCH_PROJECT_KEY", f"{PROJECT_KEY} ", ExitCode.USAGE, "BATCH_PROJECT_KEY must be printable"),
        ("BATCH_REST_API_KEY", KEY, ExitCode.FAILED, "Check rest_api_key (BATCH_REST_API_KEY)"),
        ("BATCH_API_KEY", KEY, ExitCode.USAGE, "choose with --api 1.x (the app) or --api 2.x"),
        ("BATCH_API_VERSION", "3", ExitCode.USAGE, "there is no API '3'"),
        ("BATCH_API_VERSION", "2.0", ExitCode.USAGE, "BATCH_API_VERSION must be a string"),
        ("BATCH_BASE_URL", "http://api.batch.com", ExitCode.USAGE, "BATCH_BASE_URL must use https"),
        ("BATCH_BASE_URL", "localhost:80", ExitCode.USAGE, "BATCH_BASE_URL must be an origin such as"),
    ],
)
def test_a_wrong_variable(  # noqa: PLR0913, PLR0917  # a case and its world
    variable: str,
    value: str,
    code: ExitCode,
    said: str,
    run: Run,
    unsent: Callable[[], bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A variable that cannot be meant is named, and its value is not shown."""
    monkeypatch.setenv(variable, value)
    for argv in (["list"], ["sync", "vip", "users.csv", "--json"]):
        result = run(*argv)
        assert result.code == code
        assert said in result.err
        assert KEY not in result.out + result.err
    assert unsent()


def test_words_that_are_too_many_are_not_repeated(run: Run) -> None:
    """Ids, keys and passwords among the arguments are counted and not shown, in the report neither."""
    ids = run("update", "vip", "--add", "u1", "u2", "u3")
    assert ids.err.startswith("aiobatch: 2 arguments are too many; quote those that hold spaces\n")
    address = f"postgresql://me:{PASSWORD}@127.0.0.1/db"
    for argv in (["sync", "vip", "users.csv", address], ["sync", "vip", "users.csv", "--grace", address]):
        result = run(*argv, "--json")
        assert PASSWORD not in result.out + result.err
        assert report(result)["exit_code"] == ExitCode.USAGE


def test_a_closed_standard_input(sandbox: Sandbox, run: Run) -> None:
    """A source that is piped in where nothing can be is named as that."""
    run("create", "vip", "--wait")
    root = Path(__file__).resolve().parent.parent.parent
    command = f"exec {shlex.quote(sys.executable)} -m aiobatch sync vip - --json <&-"
    done = subprocess.run(["sh", "-c", command], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.BAD_SOURCE
    assert "standard input is closed" in done.stderr
    assert json.loads(done.stdout)["error"] in done.stderr


def test_adopting_says_what_it_does(run: Run, sandbox: Sandbox) -> None:
    """Taking over compares, and plans nothing; where Batch counts others, it says what became of that."""
    run("create", "vip", "--wait")
    sandbox.write_behind_back("vip", add=["a", "b"])
    done = run("adopt", "vip", write(["a", "b"]), "--strict")
    assert "compare with what was known: 2 differences in " in done.err
    assert "plan" not in done.err


def test_a_standard_input_that_is_not_there(
    run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process without a standard input reads no source from it."""
    run("create", "vip", "--wait")
    monkeypatch.setattr(sys, "stdin", None)
    assert "standard input is closed" in run("sync", "vip", "-").err


@pytest.mark.parametrize(("option", "taken"), [([], "were recorded"), (["--strict"], "Nothing was recorded")])
def test_adopting_what_batch_does_not_count(
    option: list[str], taken: str, run: Run, sandbox: Sandbox
) -> None:
    """Where Batch counts others than the source tells, adopting says what became of the source."""
    run("create", "vip", "--wait")
    sandbox.write_behind_back("vip", add=["a", "b"])
    result = run("adopt", "vip", write(["a"]), *option)
    assert "Batch counts 2 members, but the source has 1" in result.err
    assert taken in result.err
    assert "after the run" not in result.err
