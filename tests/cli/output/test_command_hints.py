from __future__ import annotations

import os
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aiobatch.cli import ExitCode
from aiobatch.cli.options._sync import SyncCommand
from aiobatch.cli.output._command_hints import command, command_context, with_remedy
from aiobatch.errors import Remedy
from aiobatch.sandbox import PROJECT_KEY, REST_API_KEY, Sandbox
from aiobatch.sync import default_state_path

from ..conftest import Run
from ..reports import report, users, write

pytestmark = pytest.mark.usefixtures("workdir")

RESYNC = Remedy("resync", "vip")


@pytest.mark.parametrize(
    ("options", "completed"),
    [
        ({}, "resync vip SOURCE"),
        ({"state": None, "env_file": None, "api": None, "source": None}, "resync vip SOURCE"),
        ({"state": Path("s.duckdb")}, "resync vip SOURCE --state s.duckdb"),
        ({"state": Path("my state")}, "resync vip SOURCE --state 'my state'"),
        ({"source": "my users.csv"}, "resync vip 'my users.csv'"),
        ({"source": "/dev/stdin"}, "resync vip SOURCE"),
        ({"source": "optouts.csv", "mode": "remove"}, "resync vip SOURCE"),
        ({"source": "new.csv", "mode": "add"}, "resync vip SOURCE"),
        ({"source": "users.csv", "mode": "mirror"}, "resync vip users.csv"),
        ({"source": "postgresql://me:hunter2@h/db"}, "resync vip SOURCE"),
        (
            {"source": "postgresql://me:${PW}@h/db", "query": "SELECT id"},
            "resync vip 'postgresql://me:${PW}@h/db' --query 'SELECT id'",
        ),
        (
            {"source": "u.csv", "id_column": "user id", "attributes": "a=b", "trim": False},
            "resync vip u.csv --id-column 'user id' --attributes a=b --no-trim",
        ),
        ({"env_file": "k.env", "api": "1.0"}, "resync vip SOURCE --env-file k.env --api 1.0"),
    ],
    ids=repr,
)
def test_commands_are_completed(options: dict[str, object], completed: str) -> None:
    """A command to paste has the options of the current one, quoted for a shell, and no secret."""
    with command_context(**options):
        assert with_remedy("Members differ.", RESYNC) == f"Members differ. Run `aiobatch {completed}`."


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["settle", "vip"], "`aiobatch settle vip --state s --env-file k`"),
        (["wait", "vip:update:x"], "`aiobatch wait vip:update:x --env-file k`"),
        (["runs"], "`aiobatch runs --state s`"),
        (["apply", "my plan"], "`aiobatch apply 'my plan' --env-file k`"),
        (["forget", "vip"], "`aiobatch forget vip --state s --env-file k`"),
    ],
    ids=repr,
)
def test_each_command_has_the_options_that_it_takes(words: list[str], completed: str) -> None:
    """A command that takes no state or no keys gets none."""
    with command_context(state=Path("s"), env_file="k"):
        assert command(*words) == completed


@pytest.mark.parametrize(
    ("remedy", "text"),
    [
        (None, "Refused."),
        (Remedy("settle", "vip"), "Refused. Run `aiobatch settle vip`."),
        (Remedy("runs"), "Refused. Run `aiobatch runs`."),
        (
            Remedy("sync", "vip", {"create": True, "trim": False}),
            "Refused. Run `aiobatch sync vip SOURCE --create --no-trim`.",
        ),
        (
            Remedy(options={"allow_empty": True, "allow_removals": 7}),
            "Refused. To allow it once, pass --allow-empty --allow-removals 7.",
        ),
    ],
    ids=repr,
)
def test_a_remedy_becomes_a_command_or_options(remedy: Remedy | None, text: str) -> None:
    """A remedy is rendered as a command to paste, or as the options to add to the same command."""
    assert with_remedy("Refused.", remedy) == text


def test_the_default_state_goes_without_saying() -> None:
    """The state that is taken by default needs no option."""
    with command_context(state=default_state_path()):
        assert command("resync", "vip", "SOURCE") == "`aiobatch resync vip SOURCE`"


def test_places_of_a_config_are_named() -> None:
    """A config supplies state, source and keys. Its source to add or to remove is not the list of members."""
    options = {"config": Path("my c.toml"), "config_target": "ios", "has_source": True}
    with command_context(**options):
        named = "--config 'my c.toml' --target ios`"
        assert command("resync", "vip", "SOURCE") == f"`aiobatch resync vip {named}"
        assert command("runs") == "`aiobatch runs --config 'my c.toml'`"
        with command_context(state=Path("s")):
            assert command("runs") == "`aiobatch runs --config 'my c.toml' --state s`"
        with command_context(mode="remove"):
            assert command("resync", "vip", "SOURCE") == f"`aiobatch resync vip SOURCE {named}"


def test_options_of_sources_exist() -> None:
    """The commands have each option that a hint repeats."""
    members = SyncCommand().members
    for name in ("query", "id_column", "attributes", "tags_column", "format", "id_type", "trim"):
        assert hasattr(members, name)


# -- pasted -------------------------------------------------------------------------------------------


def _pasted(text: str) -> list[str]:
    """Return the arguments of the command that a text names."""
    return shlex.split(text.split("`aiobatch ")[1].split("`", maxsplit=1)[0])


@pytest.fixture
def keys(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> str:
    """Keys in a file alone."""
    for name in ("BATCH_REST_API_KEY", "BATCH_PROJECT_KEY"):
        monkeypatch.delenv(name)
    path = Path("my keys.env")
    path.write_text(
        f"BATCH_BASE_URL={sandbox.url}\nBATCH_REST_API_KEY={REST_API_KEY}\nBATCH_PROJECT_KEY={PROJECT_KEY}\n"
    )
    path.chmod(0o600)
    return str(path)


def test_pasted_settle_works(run: Run, keys: str) -> None:
    """The settle command that `sync --no-wait` names uses the same state and keys."""
    options = ["--state", "my state.duckdb", "--env-file", keys]
    done = run("sync", "vip", write(["a"]), "--create", "--no-wait", *options)
    assert "`aiobatch settle vip --state 'my state.duckdb' --env-file 'my keys.env'`" in done.out
    assert run(*_pasted(done.out)).rows == [["vip", "1", "APPLIED"]]


def test_pasted_resync_works(run: Run, keys: str, sandbox: Sandbox) -> None:
    """The resync that a drift names reads the same source, from the same state, with the same keys."""
    with sqlite3.connect("crm.db") as connection:
        connection.execute("CREATE TABLE people (name TEXT)")
        connection.executemany("INSERT INTO people VALUES (?)", [("a",), ("b",)])
    connection.close()
    argv = ["vip", "sqlite:///crm.db", "--query", "SELECT name FROM people", "--id-column", "name"]
    options = ["--state", "my state.duckdb", "--env-file", keys]
    assert run("sync", *argv, *options, "--create").code == ExitCode.DONE
    sandbox.replace_behind_back("vip", ["a"])
    found = run("sync", *argv, *options, "--strict", "--json")
    assert found.code == ExitCode.DRIFTED
    assert report(found)["error"] in found.err
    assert run(*_pasted(found.err)).code == ExitCode.DONE
    assert set(sandbox.members("vip")) == {"a", "b"}


@pytest.mark.parametrize(
    "argv",
    [
        ["show", "99", "--state", "my state.duckdb"],
        ["settle", "zip", "--state", "my state.duckdb"],
    ],
)
def test_pasted_listing_works(argv: list[str], run: Run, sandbox: Sandbox) -> None:
    """An error about a missing run or audience names the command that lists them."""
    run("sync", "vip", write(["a"]), "--create", "--state", "my state.duckdb")
    listed = run(*_pasted(run(*argv).err))
    assert listed.code == ExitCode.DONE
    assert "vip" in listed.out


def test_pasted_apply_works(run: Run, keys: str) -> None:
    """The apply that a plan names finds the plan's file and the keys."""
    options = ["--state", "my state.duckdb", "--env-file", keys]
    planned = run("plan", "vip", write(["a"]), "--create", "--out", "my plan.json", *options)
    assert run(*_pasted(planned.err)).code == ExitCode.DONE


@pytest.fixture
def config(sandbox: Sandbox) -> Callable[[str], str]:
    """Write a config that names a project, a state and a source."""

    def write_config(source: str) -> str:
        Path("aiobatch.toml").write_text(
            f'[defaults]\nstate = "my state.duckdb"\ncreate = true\nstrict = true\n'
            '[projects.web]\nrest_api_key = "${BATCH_REST_API_KEY}"\nproject_key = "${BATCH_PROJECT_KEY}"\n'
            f'[audiences.vip]\nsource = {source}\nprojects = ["web"]\n'
        )
        return "aiobatch.toml"

    return write_config


def test_configs_complete_their_hints(run: Run, sandbox: Sandbox, config: Callable[[str], str]) -> None:
    """A hint of `run` names the config and the target, which supply all that it needs."""
    write(users(range(3)))
    path = config('{ path = "users.csv", id_column = "user_id" }')
    assert run("run", path).code == ExitCode.DONE
    sandbox.replace_behind_back("vip", ["a"])
    found = run("run", path, "--json")
    assert found.code == ExitCode.DRIFTED
    assert f"`aiobatch resync vip --config {path} --target web`" in found.err
    assert report(found)["audiences"][0]["error"] in found.err
    assert run(*_pasted(found.err)).code == ExitCode.DRIFTED  # the config is strict, and "a" is still there
    assert set(sandbox.members("vip")) >= set(users(range(3)))


def test_hints_of_apply_use_the_plan(run: Run, sandbox: Sandbox) -> None:
    """A hint of `apply` names the state and the source of the plan, and how that is read."""
    Path("users.csv").write_text("user,city\na,Paris\n")
    state, source = Path("my state.duckdb").absolute(), Path("users.csv").absolute()
    argv = ["plan", "vip", "users.csv", "--id-column", "user", "--attributes", "city=town"]
    run(*argv, "--create", "--state", str(state), "--out", "plan.json")
    done = run("apply", "plan.json", "--no-wait")
    assert f"`aiobatch settle vip --state '{state}'`" in done.out
    assert run(*_pasted(done.out)).code == ExitCode.DONE
    run(*argv, "--state", str(state), "--out", "plan.json")
    sandbox.replace_behind_back("vip", ["x", "y"])
    found = run("apply", "plan.json", "--strict")
    assert found.code == ExitCode.DRIFTED
    assert _pasted(found.err) == [
        *("resync", "vip", str(source), "--id-column", "user", "--attributes", "city=town"),
        *("--state", str(state)),
    ]


def test_plans_are_saved_before_they_are_shown(sandbox: Sandbox) -> None:
    """A plan is saved even if the reader of the output has closed it."""
    root = Path(__file__).resolve().parents[3]
    source, out = Path(write(["a"])).absolute(), Path("plan.json").absolute()
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "aiobatch", "plan", "vip", str(source), "--create", "--out", str(out)]
    done = subprocess.run(command, cwd=root, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert done.returncode == ExitCode.BROKEN_PIPE
    assert b"Traceback" not in done.stderr
    assert out.exists()


def test_queries_of_a_config_stay_there(run: Run, sandbox: Sandbox, config: Callable[[str], str]) -> None:
    """The query of a config is no option of a hint."""
    result = run("run", config('{ path = "sqlite:///gone.db", query = "SELECT 1" }'))
    assert result.code == ExitCode.BAD_SOURCE
    assert "gone.db" in result.err
