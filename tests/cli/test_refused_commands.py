"""What cannot be meant is refused: a message that says what to do, an exit code, and nothing sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from aiobatch.cli import ExitCode
from aiobatch.sandbox import Sandbox
from aiobatch.sync import default_state_path
from aiobatch.sync.state._state import State

from .conftest import Run
from .reports import report, users, write

pytestmark = pytest.mark.usefixtures("workdir")

CONFIG = '[defaults]\ncreate = true\n[audiences.vip]\nsource = "users.csv"\n'


@pytest.fixture
def synced(run: Run, sandbox: Sandbox) -> Callable[[], int]:
    """Have an audience that was synced once, a plan and a config; tell how much was sent since then."""
    assert run("sync", "vip", write(users(range(200))), "--create").code == ExitCode.DONE
    assert run("plan", "vip", "users.csv", "--out", "plan.json").code == ExitCode.DONE
    Path("aiobatch.toml").write_text(CONFIG, encoding="utf-8")
    written = ("create", "update", "replace", "delete")
    before = sum(sandbox.operation_counts[name] for name in written)
    return lambda: sum(sandbox.operation_counts[name] for name in written) - before


def _set_version() -> None:
    """Let the state be of a version that nobody knows yet."""
    with State.open(default_state_path(), what="test") as state, state.transaction():
        state.rows("UPDATE aiobatch_state SET version = 99")


def _move_state(run: Run) -> None:
    """Let the state move on after the plan."""
    assert run("sync", "vip", write(users(range(201)))).code == ExitCode.DONE
    write(users(range(200)))


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        ("sync vip users.csv --id-type emails", ExitCode.USAGE, 'Choose from: "custom_ids"'),
        ("sync vip users.csv --grace -1", ExitCode.USAGE, "0 or more seconds"),
        ("sync vip users.csv --grace soon", ExitCode.USAGE, 'unable to convert "soon"'),
        ("sync vip users.csv --timeout -1", ExitCode.USAGE, "number of seconds above 0"),
        ("sync vip users.csv --allow-removals many", ExitCode.USAGE, 'unable to convert "many"'),
        ("sync vip users.csv --allow-removals -1", ExitCode.USAGE, "at least 0"),
        ("sync vip users.csv --env-file nope.env", ExitCode.USAGE, "nope.env: No such file"),
        ("sync vip users.csv --api 3", ExitCode.USAGE, "there is no API '3'"),
        ("sync vip users.csv --state users.csv/state", ExitCode.FAILED, "cannot be opened"),
        ("run --jobs 0", ExitCode.USAGE, "Must be >= 1"),
        ("run --jobs -3", ExitCode.USAGE, "Must be >= 1"),
        ("run --only vpi", ExitCode.USAGE, "Did you mean 'vip'?"),
        ("run --grace -1", ExitCode.USAGE, "0 or more seconds"),
        ("run --allow-removals 5", ExitCode.USAGE, "name it with --only"),
        ("run nope.toml", ExitCode.USAGE, "nope.toml: No such file"),
        (
            "run keys.toml",
            ExitCode.USAGE,
            "keys.toml: projects.p.rest_api_key: the environment variable NOPE",
        ),
        ("run wrong.toml", ExitCode.USAGE, "wrong.toml: audiences.vip.moed: there is no such key"),
        ("run twice.toml", ExitCode.USAGE, "twice.toml: is not TOML"),
        ("apply users.csv", ExitCode.USAGE, "not a saved plan"),
        ("apply nope.json", ExitCode.USAGE, "nope.json: No such file"),
        ("apply other.json", ExitCode.USAGE, "a plan of format 7"),
        ("apply plan.json --state other.duckdb", ExitCode.STALE, "the state has moved"),
        ("rollback vip --to 99", ExitCode.NOT_FOUND, "it has no run 99"),
        ("adopt vip nope.csv", ExitCode.BAD_SOURCE, "No such file"),
        ("resync vip nope.csv", ExitCode.BAD_SOURCE, "No such file"),
        ("wait vpi --state", ExitCode.USAGE, "the state knows no audience 'vpi'"),
        ("update vip --add nope.txt", ExitCode.USAGE, "nope.txt: No such file"),
        ("replace vip users.csv --column user_id", ExitCode.USAGE, "say so with --yes"),
    ],
)
def test_what_cannot_be_meant(
    argv: str, code: ExitCode, said: str, run: Run, synced: Callable[[], int]
) -> None:
    """Each has its message and its code, and sends nothing."""
    Path("keys.toml").write_text('[projects.p]\nrest_api_key = "${NOPE}"\nproject_key = "${NOPE}"\n' + CONFIG)
    Path("wrong.toml").write_text('[audiences.vip]\nsource = "users.csv"\nmoed = "add"\n')
    Path("twice.toml").write_text('[audiences.vip]\nsource = "users.csv"\nsource = "more.csv"\n')
    document = orjson.loads(Path("plan.json").read_bytes())
    Path("other.json").write_bytes(orjson.dumps(document | {"format": 7}))
    result = run(*argv.split())
    assert result.code == code
    assert said in result.err
    assert synced() == 0


def test_a_plan_after_the_source_moved(run: Run, synced: Callable[[], int]) -> None:
    """A plan whose source holds other ids by now sends nothing."""
    write(users(range(199)))
    result = run("apply", "plan.json", "--json")
    assert (result.code, synced()) == (ExitCode.STALE, 0)
    assert "Plan again" in report(result)["error"]


def test_a_plan_after_the_state_moved(run: Run, synced: Callable[[], int]) -> None:
    """A plan whose state went on by now sends nothing."""
    _move_state(run)
    sent = synced()
    result = run("apply", "plan.json", "--json")
    assert (result.code, synced()) == (ExitCode.STALE, sent)
    assert "the state has moved since it was made. Plan again." in report(result)["error"]


@pytest.mark.parametrize(
    "argv",
    [
        "sync vip users.csv",
        "plan vip users.csv",
        "apply plan.json",
        "run",
        "forget vip --yes",
        "runs",
        "status",
    ],
)
def test_a_state_of_another_version(argv: str, run: Run, synced: Callable[[], int], sandbox: Sandbox) -> None:
    """A state that another version wrote is named with a way out, and nobody is asked anything."""
    _set_version()
    default_state_path().with_name("state.duckdb.status.json").unlink()
    asked = sandbox.request_count
    result = run(*argv.split())
    assert result.code == ExitCode.FAILED
    assert "it has version 99" in result.err
    assert sandbox.request_count == asked
    assert synced() == 0


@pytest.mark.parametrize("argv", ["sync vip users.csv", "apply plan.json", "run", "forget vip --yes"])
def test_a_state_that_another_run_holds(
    argv: str, run: Run, synced: Callable[[], int], sandbox: Sandbox
) -> None:
    """While another run has the state, each is refused at once, told who has it, and asks nobody anything."""
    asked = sandbox.request_count
    with State.open(default_state_path(), what="sync vip"):
        result = run(*argv.split())
    assert result.code == ExitCode.LOCKED
    assert "(sync vip)" in result.err
    assert sandbox.request_count == asked
    assert synced() == 0
