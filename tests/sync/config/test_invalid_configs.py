"""The problems of invalid configs."""

from __future__ import annotations

import pickle
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiobatch.sync import ConfigError, load_config
from aiobatch.sync.config._load import structure

from .conftest import APPS, ENV, Load, problems_of

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
    problems = problems_of(load, text)
    assert any(problem in one for one in problems)
    assert not any(secret in one for one in problems for secret in ("hunter2", *ENV.values()))


def test_all_problems_are_reported_at_once(load: Load) -> None:
    """All problems of a config are reported, table by table in the order of the file."""
    text = '[defaults]\ndrift = -1\n[apps.ios]\napi_key = "abc"\n[audiences.a]\nsorce = "a"\n[audiences.b]\n'
    problems = problems_of(load, text)
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
    assert problems_of(load, text) == ["apps.ios.api_key: is missing"]


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
    table, problems = structure(document)
    assert table.audiences is not None
    assert problems or not document.keys() - {"audiences", "defaults", "apps", "projects"}


def test_a_broken_array_is_left_out_as_a_whole(load: Load) -> None:
    """The rest of the config is checked as well."""
    text = '[defaults]\napps = [1]\n[audiences.a]\nsource = "-"\n'
    assert [one.split(":")[0] for one in problems_of(load, text)] == [
        "defaults.apps[0]",
        "audiences.a.source",
    ]
