"""Commands that find the state, the source and the keys of an audience in the config."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiobatch.cli import ExitCode
from aiobatch.sandbox import API_KEY, Sandbox

from ..conftest import Run
from ..reports import users, write

pytestmark = pytest.mark.usefixtures("workdir")

CONFIG = """
[defaults]
create = true
state = "own.duckdb"
[projects.web]
rest_api_key = "${BATCH_REST_API_KEY}"
project_key = "${BATCH_PROJECT_KEY}"
rate = 1000
[apps.ios]
rest_api_key = "${BATCH_REST_API_KEY}"
api_key = "${BATCH_IOS_KEY}"
[audiences.vip]
source = { path = "users.csv", id_column = "user_id" }
projects = ["web"]
apps = ["ios"]
[audiences.optouts]
name = "marketing"
source = "optouts.csv"
mode = "remove"
projects = ["web"]
[audiences.twin]
name = "marketing"
source = "users.csv"
apps = ["ios"]
"""


@pytest.fixture(autouse=True)
def _config(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, workdir: Path) -> None:
    """Write a config, and keep its keys in the environment."""
    monkeypatch.setenv("BATCH_IOS_KEY", API_KEY)
    assert Path.cwd() == workdir
    Path("aiobatch.toml").write_text(CONFIG, encoding="utf-8")
    write(users(range(4)))
    write(["u1"], "optouts.csv")


def test_a_name_and_a_target_are_enough(run: Run, sandbox: Sandbox) -> None:
    """Every command of one audience takes state, source and keys from the config."""
    place = ("vip", "--target", "ios")
    assert run("plan", *place).code == ExitCode.DONE
    done = run("sync", *place)
    assert (done.code, done.err.splitlines()[0]) == (ExitCode.DONE, "Using the config aiobatch.toml.")
    assert len(sandbox.members("vip", scope="1.x")) == 4
    assert Path("own.duckdb").exists()
    assert run("sync", *place, "--quiet").err == ""
    assert run("verify", *place).rows == [["vip", "4", "4", "0"]]
    assert run("resync", *place, "--rate", "50/s").code == ExitCode.DONE
    assert run("adopt", *place, "--id-column", "user_id").code == ExitCode.DONE
    assert run("rollback", *place, "--to", "1").code == ExitCode.DONE
    assert run("settle", *place).rows[0][2] == "APPLIED"
    assert run("settle", "--target", "ios").err.endswith("Nothing is open.\n")
    assert len(run("runs").rows) >= 3
    assert run("show", "1").rows[0] == ["run", "1"]
    assert run("forget", *place, "--yes").code == ExitCode.DONE
    assert run("status", "--json", "--target", "ios").objects[0]["members"] is None


def test_the_command_line_wins(run: Run, sandbox: Sandbox) -> None:
    """A source, a state and options that are given replace those of the config."""
    write(["x"], "other.csv", column="person")
    argv = ("sync", "vip", "other.csv", "--id-column", "person", "--target", "web", "--state", "s.duckdb")
    assert run(*argv).code == ExitCode.DONE
    assert set(sandbox.members("vip")) == {"x"}
    assert not Path("own.duckdb").exists()
    assert run("sync", "vip", "--mode", "add", "--target", "web", "--state", "s.duckdb").code == ExitCode.DONE
    assert len(sandbox.members("vip")) == 5


def test_plans_find_their_keys(run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A saved plan goes to the target of the config that it was made for, and to no other."""
    assert run("plan", "vip", "--target", "ios", "--out", "plan.json").code == ExitCode.DONE
    monkeypatch.delenv("BATCH_IOS_KEY")
    refused = run("apply", "plan.json", "--config", "aiobatch.toml")
    assert refused.code == ExitCode.USAGE
    assert "is the one of the plan" in refused.err
    monkeypatch.setenv("BATCH_IOS_KEY", API_KEY)
    assert run("apply", "plan.json", "--target", "ios").code == ExitCode.DONE
    assert len(sandbox.members("vip", scope="1.x")) == 4


def test_sources_to_remove_are_no_list_of_members(run: Run, sandbox: Sandbox) -> None:
    """A resync, an adoption or another mode would make the opt-outs the members."""
    mirror, replace = (("--mode", mode) for mode in ("mirror", "replace"))
    for command in (["resync"], ["adopt"], ["sync", *mirror], ["plan", *mirror], ["sync", *replace]):
        refused = run(command[0], "optouts", *command[1:])
        assert refused.code == ExitCode.USAGE
        assert "for --mode remove, so it is not the list of all members" in refused.err
    refused = run("sync", "optouts", "--mode", "add")
    assert refused.code == ExitCode.USAGE
    assert "so it is not for mode add" in refused.err
    assert run("plan", "optouts", "--mode", "remove").code == ExitCode.DONE
    assert sandbox.operation_counts["update"] == 0


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["sync", "vip"], "Choose one with --target: ios, web."),
        (
            ["sync", "vip", "--target", "x*"],
            "no app or project 'x*' for this audience. Choose from: ios, web.",
        ),
        (["sync", "vpi", "--config", "aiobatch.toml", "users.csv"], "Did you mean 'vip'?"),
        (["sync", "vpi"], "Did you mean 'vip'?"),
        (["verify", "nope", "--config", "aiobatch.toml"], "Choose one with --target"),
        (["sync", "vip", "--target", "ios", "--api", "1.0"], "--api cannot be combined with 'ios'"),
        (["sync", "vip", "--target", "ios", "--query", "SELECT 1"], "--query is for a SOURCE argument."),
        (["sync", "marketing"], "Choose one with --target: web, ios."),
        (["settle", "optouts", "twin"], "are in several apps or projects"),
        (["sync", "vip", "--config", "nope.toml"], "nope.toml: No such file"),
    ],
)
def test_unclear_places_send_nothing(argv: list[str], text: str, run: Run, sandbox: Sandbox) -> None:
    """A place that is unknown or not the only one is an error that names the choice."""
    result = run(*argv)
    assert result.code == ExitCode.USAGE
    assert text in result.err
    assert sandbox.request_count == 0


def test_names_at_batch_are_found(run: Run, sandbox: Sandbox) -> None:
    """An audience is found by its name at Batch too, unless two of one target have it."""
    assert run("sync", "marketing", "--target", "ios").code == ExitCode.DONE
    text = CONFIG.split("[projects", 1)[0]
    for label in ("a", "b"):
        text += f'[audiences.{label}]\nname = "same"\nsource = "users.csv"\n'
    Path("aiobatch.toml").write_text(text, encoding="utf-8")
    assert "Use one of these names: a, b." in run("sync", "same").err
    assert run("sync", "a").code == ExitCode.DONE
    assert "no app or project 'web'" in run("sync", "a", "--target", "web").err


def test_other_audiences_ignore_a_config_that_is_not_named(
    run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command on an audience outside of ./aiobatch.toml works as without it, and so do its repairs."""
    done = run("sync", "solo", "users.csv", "--create")
    assert done.code == ExitCode.DONE
    assert "aiobatch.toml has no audience 'solo', so it is not used." in done.err
    assert not Path("own.duckdb").exists()
    assert run("verify", "solo").code == ExitCode.DONE
    assert run("forget", "solo", "--yes").code == ExitCode.DONE
    named = run("verify", "solo", "--config", "aiobatch.toml", "--target", "web")
    assert named.code == ExitCode.UNKNOWN_MEMBERS
    monkeypatch.setenv("AIOBATCH_CONFIG", "")
    assert run("sync", "solo").err == (
        "aiobatch: No source is given. Pass SOURCE, or --config FILE with a config that has this audience.\n"
    )
    assert "Pass --config." in run("sync", "solo", "users.csv", "--target", "web").err
    Path("aiobatch.toml").rename("mine.toml")
    monkeypatch.setenv("AIOBATCH_CONFIG", "mine.toml")
    assert run("run", "--check", "--only", "vip*", "--target", "w*").err == (
        "mine.toml: 1 audience in 1 place, no problem found.\n"
    )
    assert "has no audience twin in web" in run("run", "--only", "twin", "--target", "web").err
    assert "has no app or project 'x*'" in run("run", "--target", "x*").err


def test_a_broken_env_file_is_an_attempt(run: Run) -> None:
    """A command whose env file cannot be read is recorded in the state of the config."""
    assert run("sync", "vip", "--target", "ios", "--env-file", "nope.env").code == ExitCode.USAGE
    ios = run("status", "--json", "--target", "ios").objects[0]
    assert "nope.env" in ios["last_attempt"]["error"]
    assert run("run", "--env-file", "nope.env").code == ExitCode.USAGE
    assert run("status", "--json", "--target", "web").objects[0]["last_attempt"]["command"] == "run"
