"""Invalid arguments, files and variables have a message and an exit code, and send nothing."""

from __future__ import annotations

import gzip
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from aiobatch import AudienceClient, InvalidRequestError
from aiobatch.cli import ExitCode, main
from aiobatch.sandbox import PROJECT_KEY, REST_API_KEY, Sandbox
from aiobatch.sync import default_state_path
from aiobatch.sync.state._state import State

from .conftest import Run, SandboxThread, set_keys
from .reports import report, users, write

PASSWORD = "hunter2"
KEY = "0123456789abcdef"
CONFIG = '[defaults]\ncreate = true\n[audiences.vip]\nsource = "users.csv"\n'
WRITES = ("create", "update", "replace", "delete")
FILES: dict[str, bytes] = {
    "bad.csv": b'user_id\n"a\n',
    "binary.csv": b"id\0\0\n",
    "crm.db": b"SQLite format 3\0",
    "cut.csv.gz": gzip.compress(b"user_id\nu1\n" * 9)[:-9],
    "decimals.jsonl": b'{"id": 1.5}\n',
    "empty.csv": b"user_id\n",
    "empty.jsonl": b"",
    "few.csv": "\n".join(["user_id", *users(range(10))]).encode(),
    "image.csv": b"\x89PNG\r\n\x1a\n\0\0",
    "keys.toml": b'[projects.p]\nrest_api_key = "${NOPE}"\nproject_key = "${NOPE}"\n' + CONFIG.encode(),
    "latin.csv": "id\nJosé\n".encode("latin-1"),
    "mixed/a.csv": b"user_id\na\n",
    "mixed/notes.txt": b"x",
    "most.csv": "\n".join(["user_id", *users(range(195))]).encode(),
    "nothing.csv": b"",
    "twice.toml": b'[audiences.vip]\nsource = "users.csv"\nsource = "more.csv"\n',
    "u.jsonl": b"id\na\nb\n",
    "u.parquet": b"id\na\nb\n",
    "u.xlsx": b"PK\3\4",
    "wide.csv": "id\na\n".encode("utf-16"),
    "wrong.toml": b'[audiences.vip]\nsource = "users.csv"\nmoed = "add"\n',
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sandbox, Path]]:
    """A synced audience `vip`, an audience `other` with unknown members, a plan, a config and odd files.

    All tests of this module share them, because none of them writes.
    """
    directory = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch, SandboxThread(indexing_delay=0) as sandbox:
        patch.setenv("XDG_DATA_HOME", str(directory / "data"))
        patch.chdir(directory)
        set_keys(patch, sandbox)
        for name, content in FILES.items():
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).write_bytes(content)
        Path("none").mkdir()
        Path("aiobatch.toml").write_text(CONFIG, encoding="utf-8")
        assert main(["sync", "vip", write(users(range(200))), "--create", "-q"]) == 0
        assert main(["plan", "vip", "users.csv", "--out", "plan.json", "-q"]) == 0
        assert main(["create", "other", "--wait", "-q"]) == 0
        sandbox.write_behind_back("other", add=["z"])
        document = orjson.loads(Path("plan.json").read_bytes())
        Path("other.json").write_bytes(orjson.dumps(document | {"format": 7}))
        yield sandbox, directory


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, prepared: tuple[Sandbox, Path]) -> Path:
    """Work in the shared directory."""
    _, directory = prepared
    monkeypatch.setenv("XDG_DATA_HOME", str(directory / "data"))
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch, prepared: tuple[Sandbox, Path]) -> Sandbox:
    """The shared sandbox, whose keys are in the environment."""
    sandbox, _ = prepared
    set_keys(monkeypatch, sandbox)
    return sandbox


@pytest.fixture
def sent(sandbox: Sandbox) -> Callable[[], int]:
    """Return a function that counts write requests from now on."""
    before = sum(sandbox.operation_counts[name] for name in WRITES)
    return lambda: sum(sandbox.operation_counts[name] for name in WRITES) - before


@pytest.mark.sample(20)
@pytest.mark.parametrize(
    ("argv", "code", "noun"),
    [
        # names and options
        ("sync 'bad name' users.csv", ExitCode.USAGE, "'bad name'"),
        ("sync vip users.csv --query 'SELECT 1'", ExitCode.USAGE, "query"),
        ("sync vip ftp://x/y", ExitCode.USAGE, "ftp://"),
        ("status --state ftp://x/y", ExitCode.USAGE, "cannot be at ftp://"),
        ("sync vip 'sqlite:///${NOPE}'", ExitCode.USAGE, "NOPE"),
        ("sync vip users.csv --max-removals -1", ExitCode.USAGE, "removals"),
        ("sync vip users.csv --max-removals-percent 200", ExitCode.USAGE, "percent"),
        ("sync vip users.csv --max-removals-percent nan", ExitCode.USAGE, "percent"),
        ("sync vip users.csv --allow-removals -1", ExitCode.USAGE, "removals"),
        ("sync vip users.csv --allow-removals many", ExitCode.USAGE, '"many"'),
        ("sync vip users.csv --drift -1", ExitCode.USAGE, "drift"),
        ("sync vip users.csv --grace -1", ExitCode.USAGE, "grace"),
        ("sync vip users.csv --grace soon", ExitCode.USAGE, '"soon"'),
        ("sync vip users.csv --timeout 0", ExitCode.USAGE, "--timeout"),
        ("sync vip users.csv --timeout -1", ExitCode.USAGE, "--timeout"),
        ("sync vip users.csv --timeout nan", ExitCode.USAGE, "--timeout"),
        ("sync vip users.csv --mode merge", ExitCode.USAGE, '"merge"'),
        ("sync vip users.csv --format xls", ExitCode.USAGE, '"xls"'),
        ("sync vip users.csv --memory-limit lots", ExitCode.USAGE, "lots"),
        ("sync vip users.csv --memory-limit 99MB", ExitCode.USAGE, "at least 100MB"),
        ("sync vip users.csv --rate fast", ExitCode.USAGE, "'fast'"),
        ("sync vip users.csv --rate 0", ExitCode.USAGE, "rate"),
        ("sync vip users.csv --rate 1e999/s", ExitCode.USAGE, "rate"),
        ("sync vip users.csv --tags-column tags", ExitCode.USAGE, "tags"),
        ("sync vip users.csv --id-type 'e mails'", ExitCode.USAGE, "id_type"),
        ("sync vip users.csv --env-file nope.env", ExitCode.USAGE, "nope.env"),
        ("sync vip users.csv --api 3", ExitCode.USAGE, "'3'"),
        ("sync vip users.csv --rejects nowhere/r.csv", ExitCode.FAILED, "nowhere/r.csv"),
        ("create ios --id-type 'install ids'", ExitCode.USAGE, "id_type"),
        ("create vip", ExitCode.FAILED, "already exists"),
        ("update vip --add nope.txt", ExitCode.USAGE, "nope.txt"),
        ("replace vip users.csv --column user_id", ExitCode.USAGE, "--yes"),
        ("settle vpi", ExitCode.USAGE, "'vpi'"),
        ("rollback vip --to 99", ExitCode.NOT_FOUND, "`aiobatch runs vip --config aiobatch.toml`"),
        ("rollback vip --to 99999999999999999999999", ExitCode.NOT_FOUND, "run"),
        # audiences and sources
        ("sync nope users.csv", ExitCode.NOT_FOUND, "--create"),
        ("sync other users.csv", ExitCode.UNKNOWN_MEMBERS, "`aiobatch adopt other FILE`"),
        ("sync vip nope.csv", ExitCode.BAD_SOURCE, "nope.csv"),
        ("adopt vip nope.csv", ExitCode.BAD_SOURCE, "nope.csv"),
        ("resync vip nope.csv", ExitCode.BAD_SOURCE, "nope.csv"),
        ("sync vip none", ExitCode.BAD_SOURCE, "none"),
        ("sync vip gl*.csv", ExitCode.BAD_SOURCE, "pattern"),
        ("sync vip mixed", ExitCode.BAD_SOURCE, "mixed/notes.txt"),
        ("sync vip .", ExitCode.BAD_SOURCE, "directories"),
        ("sync vip users.csv --id-column nope", ExitCode.BAD_SOURCE, "'nope'"),
        ("sync vip users.csv --attributes city", ExitCode.BAD_SOURCE, "'city'"),
        ("sync vip image.csv", ExitCode.BAD_SOURCE, "line 1"),
        ("sync vip binary.csv", ExitCode.BAD_SOURCE, "text file"),
        ("sync vip wide.csv", ExitCode.BAD_SOURCE, "'iconv -f UTF-16 -t UTF-8'"),
        ("sync vip latin.csv", ExitCode.BAD_SOURCE, "'iconv -f LATIN1 -t UTF-8'"),
        ("sync vip u.parquet", ExitCode.BAD_SOURCE, "Parquet"),
        ("sync vip u.jsonl", ExitCode.BAD_SOURCE, "line 1"),
        ("sync vip u.xlsx", ExitCode.BAD_SOURCE, "csv, parquet, jsonl"),
        ("sync vip crm.db", ExitCode.BAD_SOURCE, "sqlite:///crm.db"),
        ("sync vip nothing.csv", ExitCode.BAD_SOURCE, "header"),
        ("sync vip cut.csv.gz", ExitCode.BAD_SOURCE, "cut.csv.gz"),
        ("sync vip bad.csv", ExitCode.BAD_SOURCE, "bad.csv"),
        # the guard
        ("sync vip empty.csv", ExitCode.GUARDED, "--allow-empty"),
        ("sync vip empty.jsonl", ExitCode.GUARDED, "--allow-empty"),
        ("sync vip decimals.jsonl", ExitCode.GUARDED, "not_text 1"),
        ("sync vip few.csv", ExitCode.GUARDED, "--allow-removals 190"),
        ("sync vip most.csv --max-removals 4", ExitCode.GUARDED, "limit of 4"),
        ("sync vip most.csv --max-removals-percent 1", ExitCode.GUARDED, "1 %"),
        ("sync vip few.csv --allow-removals 189", ExitCode.GUARDED, "189"),
        # the state
        ("sync vip users.csv --state .", ExitCode.FAILED, "directory"),
        ("sync vip users.csv --state /proc/nowhere/s", ExitCode.FAILED, "/proc/nowhere/s"),
        ("sync vip users.csv --state users.csv", ExitCode.FAILED, "DuckDB"),
        ("sync vip users.csv --state users.csv/state", ExitCode.FAILED, "users.csv/state"),
        # configs and plans
        ("run --jobs 0", ExitCode.USAGE, "--jobs"),
        ("run --only vpi", ExitCode.USAGE, "'vip'"),
        ("run --grace -1", ExitCode.USAGE, "grace"),
        ("run --allow-removals 5", ExitCode.USAGE, "--only"),
        ("run nope.toml", ExitCode.USAGE, "nope.toml"),
        ("run keys.toml", ExitCode.USAGE, "projects.p.rest_api_key"),
        ("run wrong.toml", ExitCode.USAGE, "audiences.vip.moed"),
        ("run twice.toml", ExitCode.USAGE, "twice.toml"),
        ("apply users.csv", ExitCode.USAGE, "plan"),
        ("apply nope.json", ExitCode.USAGE, "nope.json"),
        ("apply other.json", ExitCode.USAGE, "format 7"),
        ("apply plan.json --state other.duckdb", ExitCode.STALE, "state"),
    ],
)
def test_invalid_arguments_send_nothing(
    argv: str, code: ExitCode, noun: str, run: Run, sent: Callable[[], int]
) -> None:
    """Each invalid argument has its exit code and is named, and a sync has a report with the same error."""
    words = shlex.split(argv)
    result = run(*words)
    assert (result.code, noun in result.err) == (code, True), result.err
    if words[0] == "sync":
        values = report(run(*words, "--json"))
        assert values["outcome"] == ("refused" if code is ExitCode.GUARDED else "failed")
        assert values["error"].partition(" See `")[0] in result.err
    assert sent() == (words[0] == "create" and code is ExitCode.FAILED)


@pytest.mark.parametrize(
    ("variable", "value", "code", "noun"),
    [
        ("BATCH_REST_API_KEY", "", ExitCode.USAGE, "BATCH_REST_API_KEY"),
        ("BATCH_REST_API_KEY", f"{REST_API_KEY}\n", ExitCode.USAGE, "BATCH_REST_API_KEY"),
        ("BATCH_PROJECT_KEY", f"{PROJECT_KEY} ", ExitCode.USAGE, "BATCH_PROJECT_KEY"),
        ("BATCH_REST_API_KEY", KEY, ExitCode.FAILED, "BATCH_REST_API_KEY"),
        ("BATCH_API_KEY", KEY, ExitCode.USAGE, "--api 1.x"),
        ("BATCH_API_VERSION", "3", ExitCode.USAGE, "'3'"),
        ("BATCH_API_VERSION", "2.01", ExitCode.USAGE, "BATCH_API_VERSION"),
        ("BATCH_BASE_URL", "http://api.batch.com", ExitCode.USAGE, "BATCH_BASE_URL"),
        ("BATCH_BASE_URL", "localhost:80", ExitCode.USAGE, "BATCH_BASE_URL"),
    ],
)
def test_invalid_variables_are_named(  # noqa: PLR0913, PLR0917  # a case and its fixtures
    variable: str,
    value: str,
    code: ExitCode,
    noun: str,
    run: Run,
    sent: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An invalid variable is named, and its value is not shown."""
    monkeypatch.setenv(variable, value)
    for argv in (["list"], ["sync", "vip", "users.csv", "--json"]):
        result = run(*argv)
        assert result.code == code
        assert noun in result.err
        assert KEY not in result.out + result.err
    assert sent() == 0


def test_other_rejections_of_a_create_keep_their_text(
    run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If Batch rejects a create for another reason than an existing audience, that reason is printed."""

    async def reject(*_: object, **__: object) -> None:
        msg = "the description is too long"
        raise InvalidRequestError(msg, status=400, method="POST", path="/")

    monkeypatch.setattr(AudienceClient, "create", reject)
    result = run("create", "new")
    assert result.code == ExitCode.FAILED
    assert "the description is too long" in result.err
    assert "already exists" not in result.err


def test_extra_arguments_with_secrets_are_not_repeated(run: Run, sandbox: Sandbox) -> None:
    """IDs, keys and passwords among extra arguments are shown neither on stderr nor in the report."""
    ids = run("update", "vip", "--add", "u1", "u2", "u3")
    assert ids.code == ExitCode.USAGE
    assert "u2" not in ids.err
    address = f"postgresql://me:{PASSWORD}@127.0.0.1/db"
    for argv in (["sync", "vip", "users.csv", address], ["sync", "vip", "users.csv", "--grace", address]):
        result = run(*argv, "--json")
        assert PASSWORD not in result.out + result.err
        assert report(result)["exit_code"] == ExitCode.USAGE


def test_closed_standard_input_is_named(run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that should be piped in is named if standard input is closed."""
    root = Path(__file__).resolve().parents[2]
    command = f"exec {shlex.quote(sys.executable)} -m aiobatch sync vip - --json <&-"
    done = subprocess.run(["sh", "-c", command], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.BAD_SOURCE
    assert json.loads(done.stdout)["error"] in done.stderr
    monkeypatch.setattr(sys, "stdin", None)
    assert "is closed" in run("sync", "vip", "-").err


@pytest.mark.parametrize("argv", ["sync vip users.csv", "apply plan.json", "run", "forget vip --yes"])
def test_locked_states_are_rejected_at_once(argv: str, run: Run, sandbox: Sandbox) -> None:
    """While another run has the state, each command names its holder and sends no request."""
    before = sandbox.request_count
    with State.open(default_state_path(), what="sync vip"):
        result = run(*argv.split())
    assert result.code == ExitCode.LOCKED
    assert "(sync vip)" in result.err
    assert sandbox.request_count == before


def test_states_of_another_version_are_rejected(run: Run, sandbox: Sandbox, tmp_path: Path) -> None:
    """A state that another version wrote is rejected by each command, before any request."""
    path = tmp_path / "state.duckdb"
    path.write_bytes(default_state_path().read_bytes())
    with State.open(path, what="test") as state, state.transaction():
        state.rows("UPDATE aiobatch_state SET version = 99")
    before = sandbox.request_count
    for argv in ("sync vip users.csv", "plan vip users.csv", "apply plan.json", "run", "runs", "status"):
        result = run(*argv.split(), "--state", str(path))
        assert result.code == ExitCode.FAILED
        assert "version 99" in result.err
    assert sandbox.request_count == before
