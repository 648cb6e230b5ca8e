"""Valid configs."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiobatch import App, IdType, InvalidInputError, Project
from aiobatch.sync import Mode, SyncOptions, load_config
from aiobatch.sync.sources._location import Database, Files

from .conftest import APPS, ENV, Load, problems_of


def test_every_setting_reaches_the_engine(load: Load, tmp_path: Path) -> None:
    """Each setting reaches the engine. An audience's own wins over the defaults, key by key in the guard."""
    config = load(
        APPS
        + """
[defaults]
state = "state/my.duckdb"
memory_limit = "1GB"
jobs = 3
create = true
timeout = 60
guard = { max_removals = 7, max_removals_percent = 5.5 }
apps = ["ios"]

[audiences.vip]
source = "data/vip-*.parquet"

[audiences.trial]
name = "trial_2026"
description = "People on trial"
source = { path = "t.csv", id_column = "uid", attributes = ["city"], format = "csv" }
mode = "add"
id_type = "custom_ids"
trim = false
create = false
guard = { max_removals_percent = 50, small_audience = 10 }
apps = []
projects = ["main", "main"]
timeout = 1.5
grace = 2
wait = false
drift = 4
drift_patience = 0
strict = true
max_refused = 9
rejects = "bad.csv"
"""
    )
    assert (config.state, config.jobs, config.memory_limit) == (tmp_path / "state/my.duckdb", 3, "1GB")
    vip, trial = config.audiences
    assert (vip.name, vip.targets) == ("vip", ("ios",))
    assert isinstance(vip.source.location, Files)
    assert vip.source.location.path == str(tmp_path / "data/vip-*.parquet")
    assert (vip.options.create, vip.options.timeout, vip.options.mode) == (True, 60, Mode.MIRROR)
    assert (vip.options.guard.max_removals, vip.options.guard.max_removals_percent) == (7, 5.5)
    assert (trial.label, trial.name, trial.targets) == ("trial", "trial_2026", ("main",))
    assert trial.options.guard.max_removals == 7
    assert (trial.options.guard.max_removals_percent, trial.options.guard.small_audience) == (50, 10)
    assert trial.options == SyncOptions(
        mode=Mode.ADD,
        id_type=IdType.CUSTOM_IDS,
        trim=False,
        create=False,
        description="People on trial",
        guard=trial.options.guard,
        timeout=1.5,
        grace=2,
        wait=False,
        drift=4,
        drift_patience=0,
        strict=True,
        max_refused=9,
        rejects=tmp_path / "bad.csv",
        memory_limit="1GB",
    )
    assert trial.source.id_column == "uid"
    assert dict(trial.source.attributes) == {"city": "city"}


def test_the_engine_has_the_defaults(load: Load) -> None:
    """A config without options has the defaults of the engine."""
    config = load('[audiences.vip]\nsource = "a.csv"\n')
    (vip,) = config.audiences
    assert vip.options == SyncOptions()
    assert (config.state, config.jobs, config.memory_limit) == (None, 1, SyncOptions().memory_limit)
    assert (vip.targets, dict(config.targets)) == ((), {})


def test_apps_and_projects_have_their_keys(load: Load) -> None:
    """Keys come from the environment, and are shown nowhere."""
    audiences = '[audiences.a]\nsource = "a"\napps = ["ios", "android"]\n[audiences.b]\nsource = "b"\n'
    config = load(
        APPS.replace('"${IOS}"', '"${IOS}"\nversion = "1.0"\nrate = 2') + audiences + 'projects = ["main"]'
    )
    ios, main = config.targets["ios"], config.targets["main"]
    assert ios.target == App(rest_api_key="rest-key", api_key="ios-key", version="1.0")
    assert main.target == Project(rest_api_key="rest-key", project_key="main-key")
    assert (ios.limits.rate, main.limits.rate) == (2, None)
    assert not any(key in repr(config) for key in ENV.values())


def test_one_target_need_not_be_named(load: Load) -> None:
    """Where there is one app or project only, all audiences go there."""
    text = '[projects.main]\nrest_api_key = "${REST}"\nproject_key = "${MAIN}"\nversion = "2.3"\n'
    config = load(text + '[audiences.vip]\nsource = "a"\n')
    assert config.audiences[0].targets == ("main",)
    assert config.targets["main"].target.version == "2.3"


def test_a_password_of_a_database(load: Load) -> None:
    """A variable in a database's address is filled in, from where the keys are."""
    source = '{ path = "postgresql://me:${PGPASSWORD}@h/db", query = "SELECT 1" }'
    place = load(f"[audiences.vip]\nsource = {source}\n").audiences[0].source.location
    assert isinstance(place, Database)
    assert place.dsn.reveal() == "postgresql://me:p%20w@h/db"


def test_other_audiences_need_no_keys(load: Load) -> None:
    """Audiences that are left out need no keys. An unknown name is refused."""
    text = (
        APPS
        + '[audiences.a]\nsource = "a"\napps = ["ios"]\n[audiences.b]\nsource = "b"\nprojects = ["main"]\n'
    )
    env = {name: value for name, value in ENV.items() if name != "MAIN"}
    assert [audience.label for audience in load(text, env=env, only=("a",)).audiences] == ["a"]
    assert problems_of(load, text, env=env) == [
        "projects.main.project_key: the environment variable MAIN is not set, or it is empty."
    ]
    with pytest.raises(InvalidInputError, match="has no audience 'c'"):
        load(text, only=("c",))


def test_the_process_has_an_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables come from the process's environment unless the caller has others."""
    (tmp_path / "c.toml").write_text(APPS + '[audiences.a]\nsource = "a"\napps = ["ios"]\n', encoding="utf-8")
    monkeypatch.setenv("REST", "r")
    monkeypatch.setenv("IOS", "i")
    assert load_config(str(tmp_path / "c.toml")).targets["ios"].target == App(rest_api_key="r", api_key="i")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ('"90"', 90), ('"90s"', 90), ('"15m"', 900), ('"26h"', 93_600), ('"1.5d"', 129_600)],
)
def test_durations_have_units(text: str, seconds: float, load: Load) -> None:
    """A duration is a number of seconds, or a text with a unit."""
    config = load(f'[audiences.vip]\nsource = "a.csv"\ntimeout = {text}\n')
    assert config.audiences[0].options.timeout == seconds


@pytest.mark.parametrize("text", ["soon", "1e3", "-1s", "1 h", "", "9" * 400])
def test_other_durations_areproblems_of(text: str, load: Load) -> None:
    """Anything else is a problem that names the units."""
    (problem,) = problems_of(load, f'[audiences.vip]\nsource = "a.csv"\ntimeout = "{text}"\n')
    assert problem.startswith("audiences.vip.timeout: ")
    assert "26h" in problem


def test_every_path_expands_variables(load: Load) -> None:
    """State, source and rejects may contain variables, and a missing one is a problem of its key."""
    text = '[defaults]\nstate = "${DIR}/s.duckdb"\n[audiences.vip]\n'
    text += 'source = "${DIR}/a.csv"\nrejects = "${DIR}/r.csv"\n'
    config = load(text, env=ENV | {"DIR": "/data"})
    (vip,) = config.audiences
    assert config.state == Path("/data/s.duckdb")
    assert vip.options.rejects == Path("/data/r.csv")
    assert vip.source.location == Files(path="/data/a.csv")
    problems = problems_of(load, text)
    assert [problem.partition(":")[0] for problem in problems] == [
        *("defaults.state", "audiences.vip.source", "audiences.vip.rejects")
    ]


def test_sources_and_keys_are_not_needed_to_list_places(tmp_path: Path) -> None:
    """Without their variables, the places of a config are still known."""
    path = tmp_path / "aiobatch.toml"
    source = '{ path = "${DSN}", query = "select 1" }'
    path.write_text(f'{APPS}[audiences.vip]\nsource = {source}\napps = ["ios"]\n', encoding="utf-8")
    config = load_config(path, env={}, require_keys=False)
    assert [(one.label, one.targets) for one in config.audiences] == [("vip", ("ios",))]
    assert config.targets == {}
