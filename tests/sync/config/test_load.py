"""Valid configs, and the problems of invalid ones."""

from __future__ import annotations

import pickle
import string
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiobatch import App, IdType, InvalidInputError, Project
from aiobatch.sync import Config, ConfigError, Mode, SyncOptions, load_config
from aiobatch.sync.config._load import _structure
from aiobatch.sync.sources._location import Database, Files

ENV = {
    "REST": "rest-key",
    "IOS": "ios-key",
    "ANDROID": "android-key",
    "MAIN": "main-key",
    "PGPASSWORD": "p w",
}
APPS = """\
[apps.ios]
rest_api_key = "${REST}"
api_key = "${IOS}"
[apps.android]
rest_api_key = "${REST}"
api_key = "${ANDROID}"
[projects.main]
rest_api_key = "${REST}"
project_key = "${MAIN}"
"""

Load = Callable[..., Config]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load a config from its text."""

    def load_text(text: str, *, env: Mapping[str, str] = ENV, only: tuple[str, ...] = ()) -> Config:
        path = tmp_path / "aiobatch.toml"
        path.write_text(text, encoding="utf-8")
        return load_config(path, env=env, only=only)

    return load_text


def _problems(load: Load, text: str, **kwargs: object) -> list[str]:
    """Return what is wrong with a config, each as key and text."""
    with pytest.raises(ConfigError) as caught:
        load(text, **kwargs)
    path = caught.value.path
    assert all(line.startswith(path) for line in str(caught.value).splitlines())
    return [line.removeprefix(f"{path}: ") for line in caught.value.lines]


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
    assert _problems(load, text, env=env) == [
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


# -- invalid configs -----------------------------------------------------------------------------

VIP = '[audiences.vip]\nsource = "a"\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("audiences = 1", "audiences: must be a table, not a whole number"),
        ("", "audiences: is missing"),
        ("[audience.vip]", "audience: there is no such key. Did you mean 'audiences'?"),
        ("[audiences]\nvip = 1", "audiences.vip: must be a table, not a whole number"),
        ("[audiences.vip]", "audiences.vip.source: is missing"),
        (VIP + "moed = 'add'", "audiences.vip.moed: there is no such key. Did you mean 'mode'?"),
        (VIP + "zzz = 1", "audiences.vip.zzz: there is no such key"),
        (VIP + "mode = 'miror'", "'miror' is none of mirror, add, remove, replace. Did you mean 'mirror'?"),
        (VIP + "mode = 'resync'", "audiences.vip.mode: 'resync' is none of"),
        (VIP + f"mode = '{'x' * 99}'", f"'{'x' * 60}…' is none of"),
        (APPS + VIP + "apps = ['ios']\nid_type = 'ids'", "not ids. For ids, use Project"),
        (VIP + "id_type = 5", "audiences.vip.id_type: must be a string"),
        (VIP + "create = 'yes'", "audiences.vip.create: must be true or false, not a string"),
        (VIP + "create = 1", "must be true or false, not a whole number"),
        (VIP + "drift = true", "audiences.vip.drift: must be a whole number, not true or false"),
        (VIP + "drift = 1.5", "must be a whole number, not a number"),
        (VIP + "drift = -1", "audiences.vip.drift: must be at least 0, not -1"),
        (VIP + "timeout = 0", "must be a finite number of seconds above 0, not 0"),
        (VIP + "timeout = inf", "must be a finite number"),
        (VIP + "timeout = 2026-01-01", "must be a number, not a time"),
        (VIP + "apps = 'ios'", "audiences.vip.apps: must be an array, not a string"),
        (VIP + "apps = [\n  'ios',\n  1,\n]", "audiences.vip.apps[1]: must be a string, not a whole number"),
        (
            VIP + "guard = {max_removals_percent = 101}",
            "vip.guard.max_removals_percent: must be a number from 0 to 100",
        ),
        (VIP + "[audiences.vip.guard]\nmax = 1", "audiences.vip.guard.max: there is no such key"),
        ("[defaults]\nmemory_limit = 'much'\n" + VIP, "defaults.memory_limit: must be an amount of memory"),
        ("[defaults]\njobs = 0\n" + VIP, "defaults.jobs: must be a whole number of at least 1, not 0"),
        ("[audiences.vip]\nsource = 1", "audiences.vip.source: must be a string or a table, not a whole"),
        ("[audiences.vip]\nsource = ''", "audiences.vip.source: the path is empty"),
        ("[audiences.vip]\nsource = '-'", "audiences.vip.source: a config cannot read standard input"),
        ("[audiences.vip]\nsource = {path = 'a', query = 'x'}", "audiences.vip.source: a query needs a"),
        ("[audiences.vip]\nsource = {path = 'a', attributes = 1}", "must be an array or a table"),
        (
            "[audiences.vip]\nsource = {path = 'a', attributes = {a = 1}}",
            "source.attributes.a: must be a string",
        ),
        ("[audiences.vip]\nsource = 'sqlite:///${NOPE}'", "the environment variable NOPE is not set"),
        ("[audiences.vip]\nsource = 'postgresql://u:hunter2@h/d'", "holds no password"),
        ("[audiences.'a b']\nsource = 'a'", "audiences.a b: The audience name 'a b'"),
        (VIP + "name = 'a b'", "audiences.vip.name: The audience name 'a b'"),
        (
            APPS + VIP,
            "audiences.vip: names no apps or projects. Name some of ios, android, main.",
        ),
        (
            APPS + VIP + "apps = ['iso']",
            "audiences.vip.apps[0]: there is no [apps.iso]. Did you mean 'ios'?",
        ),
        (APPS + VIP + "projects = ['ios']", "audiences.vip.projects[0]: there is no [projects.ios]"),
        (APPS + VIP + "apps = []", "audiences.vip.apps: is empty. Name an app or a project."),
        ("[defaults]\napps = ['x']\n" + VIP, "defaults.apps[0]: there is no [apps.x]"),
        (APPS + VIP + "apps = ['ios']\nid_type = 'install_ids'", "audiences.vip.id_type: ios: id_type: "),
        (
            APPS.replace('"${IOS}"', '"${IOS}"\nversion = "1.1"') + VIP + "apps = ['ios', 'android']",
            "audiences.vip.apps: ios accepts install_ids and android accepts custom_ids",
        ),
        (
            APPS
            + VIP
            + "apps = ['ios']\n[audiences.b]\nsource = 'b'\nname = 'vip'\napps = ['android', 'ios']",
            "audiences.b: is the same audience of ios as audiences.vip",
        ),
        (
            APPS.replace("projects.main", "projects.ios") + VIP + "projects = ['ios']",
            "projects.ios: an app has this name too",
        ),
        (
            APPS.replace("${IOS}", "${NOPE}") + VIP + "apps = ['ios']",
            "apps.ios.api_key: the environment var",
        ),
        (
            APPS.replace("${IOS}", "hunter2") + VIP + "apps = ['ios']",
            "apps.ios.api_key: must name an environ",
        ),
        (
            APPS.replace("${IOS}", "x${IOS}") + VIP + "apps = ['ios']",
            "apps.ios.api_key: must name an environ",
        ),
        (
            APPS.replace("${IOS}", "${PGPASSWORD}") + VIP + "apps = ['ios']",
            "apps.ios.api_key: PGPASSWORD: App.api_key",
        ),
        (
            APPS.replace('"${MAIN}"', '"${MAIN}"\nversion = "3"') + VIP + "projects = ['main']",
            "projects.main.vers",
        ),
        ("a = 1\na = 2", "is not TOML: Cannot overwrite a value (at "),
        ("a = ", "is not TOML: Invalid value (at "),
        ("a = '''\n\n", "is not TOML: "),
        (f"a = {'9' * 5000}", "holds a number with thousands of digits"),
        (f"a = {'[' * 5000}", "nests arrays or tables too deeply"),
    ],
)
def test_each_problem_names_its_key(text: str, problem: str, load: Load) -> None:
    """Each problem names file and key, and shows no secret."""
    problems = _problems(load, text)
    assert any(problem in one for one in problems)
    assert not any(secret in one for one in problems for secret in ("hunter2", *ENV.values()))


def test_all_problems_are_reported_at_once(load: Load) -> None:
    """All problems of a config are reported, table by table in the order of the file."""
    text = '[defaults]\ndrift = -1\n[apps.ios]\napi_key = "abc"\n[audiences.a]\nsorce = "a"\n[audiences.b]\n'
    problems = _problems(load, text)
    assert [problem.split(":")[0] for problem in problems] == [
        "defaults.drift",
        "apps.ios.rest_api_key",
        "apps.ios.api_key",
        "audiences.a.source",
        "audiences.a.sorce",
        "audiences.b.source",
    ]


def test_a_broken_app_is_reported_once(load: Load) -> None:
    """An audience that names a broken app adds no problem of its own."""
    text = '[apps.ios]\nrest_api_key = "${REST}"\n' + VIP + "apps = ['ios']"
    assert _problems(load, text) == ["apps.ios.api_key: is missing"]


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    """A file that is not UTF-8 is no config."""
    path = tmp_path / "aiobatch.toml"
    path.write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        load_config(path)
    with pytest.raises(FileNotFoundError):
        load_config(tmp_path / "nope.toml")


def test_the_error_pickles(load: Load) -> None:
    """A config's error goes through processes with all that it knows."""
    with pytest.raises(ConfigError) as caught:
        load("x = 1")
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own
    assert (str(copy), copy.problems) == (str(caught.value), caught.value.problems)


_WORDS = st.text(string.ascii_lowercase + "_", min_size=1, max_size=12)
_ANYTHING = st.recursive(
    st.one_of(st.booleans(), st.integers(), st.floats(), _WORDS, st.sampled_from(["${A}", "mirror", "1.0"])),
    lambda values: (
        st.lists(values, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "audiences",
                    "defaults",
                    "apps",
                    "projects",
                    "source",
                    "guard",
                    "mode",
                    "path",
                    "attributes",
                    "type",
                ]
            )
            | _WORDS,
            values,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["audiences", "defaults", "apps", "projects"]) | _WORDS, _ANYTHING))
def test_any_document_is_read_or_refused(document: dict[str, object]) -> None:
    """Whatever TOML holds, it becomes a table or has problems, and never anything else."""
    table, problems = _structure(document)
    assert table.audiences is not None
    assert problems or not document.keys() - {"audiences", "defaults", "apps", "projects"}


def test_a_broken_array_is_left_out_as_a_whole(load: Load) -> None:
    """The rest of the config is checked as well."""
    text = '[defaults]\napps = [1]\n[audiences.a]\nsource = "-"\n'
    assert [one.split(":")[0] for one in _problems(load, text)] == ["defaults.apps[0]", "audiences.a.source"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ('"90"', 90), ('"90s"', 90), ('"15m"', 900), ('"26h"', 93_600), ('"1.5d"', 129_600)],
)
def test_durations_have_units(text: str, seconds: float, load: Load) -> None:
    """A duration is a number of seconds, or a text with a unit."""
    config = load(f'[audiences.vip]\nsource = "a.csv"\ntimeout = {text}\n')
    assert config.audiences[0].options.timeout == seconds


@pytest.mark.parametrize("text", ["soon", "1e3", "-1s", "1 h", "", "9" * 400])
def test_other_durations_are_problems(text: str, load: Load) -> None:
    """Anything else is a problem that names the units."""
    (problem,) = _problems(load, f'[audiences.vip]\nsource = "a.csv"\ntimeout = "{text}"\n')
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
    problems = _problems(load, text)
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
