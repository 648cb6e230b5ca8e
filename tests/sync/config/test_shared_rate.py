"""The rate that a config shares among all of its apps and projects."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from aiobatch import Limits
from aiobatch.sync import Config, ConfigError, load_config

ENV = {"REST": "rest-key", "IOS": "ios-key", "MAIN": "main-key"}
Load = Callable[..., Config]

TARGETS = """
[apps.ios]
rest_api_key = "${REST}"
api_key = "${IOS}"
[projects.main]
rest_api_key = "${REST}"
project_key = "${MAIN}"
[audiences.vip]
source = "a.csv"
apps = ["ios"]
projects = ["main"]
"""
REDIS = "redis://:secret@localhost/0"


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load a config from its text, with more variables."""

    def load_text(text: str, **variables: str) -> Config:
        path = tmp_path / "aiobatch.toml"
        path.write_text(text, encoding="utf-8")
        return load_config(path, env=ENV | variables)

    return load_text


@pytest.mark.parametrize(("text", "rate"), [("2/s", 2.0), ("0.5/s", 0.5), ("120/s", 120.0)])
def test_all_targets_share_the_rate(load: Load, text: str, rate: float) -> None:
    """Apps and projects have the same limits, which count all requests of the company."""
    config = load(f'[defaults]\nshared_rate = "{text}"\n{TARGETS}')
    expected = Limits(rate=rate, shared=True, company_wide=True)
    assert [target.limits for target in config.targets.values()] == [expected] * 2
    assert config.limits == expected


def test_target_of_the_environment_shares_it_too(load: Load) -> None:
    """Without apps and projects the limits are those of the only client."""
    config = load('[defaults]\nshared_rate = "2/s"\n[audiences.vip]\nsource = "a"\n')
    assert config.limits == Limits(rate=2, shared=True, company_wide=True)
    assert load('[audiences.vip]\nsource = "a"\n').limits == Limits()


def test_machines_share_it_through_redis(load: Load) -> None:
    """The URL is in a variable, because it may contain a password, and no repr has it."""
    config = load(f'[defaults]\nshared_rate = "2/s"\nshared_redis = "${{REDIS}}"\n{TARGETS}', REDIS=REDIS)
    assert config.limits == Limits(rate=2, shared=REDIS, company_wide=True)
    assert "secret" not in repr(config)


BAD = [
    ('shared_rate = "0/s"', "shared_rate: must be a rate in quotes"),
    ('shared_rate = "2"', "shared_rate: must be a rate in quotes"),
    ('shared_rate = "-2/s"', "shared_rate: must be a rate in quotes"),
    ("shared_rate = 2", "shared_rate: "),
    ('shared_redis = "${REDIS}"', "shared_redis: needs shared_rate"),
    ('shared_rate = "2/s"\nshared_redis = "${NONE}"', "variable NONE is not set"),
    ('shared_rate = "2/s"\nshared_redis = "${IOS}"', "must be a URL of the form redis://"),
    ('shared_rate = "2/s"\nshared_redis = "redis://localhost"', "must name an environment variable"),
]


@pytest.mark.parametrize(("line", "problem"), BAD)
def test_invalid_shared_rate_is_a_problem(load: Load, line: str, problem: str) -> None:
    """Each problem has its key, and no text contains the URL."""
    with pytest.raises(ConfigError, match=re.escape(problem)) as caught:
        load(f"[defaults]\n{line}\n{TARGETS}", REDIS=REDIS)
    assert "secret" not in str(caught.value)
    assert ENV["IOS"] not in str(caught.value)


def test_rate_of_a_target_excludes_the_shared_one(load: Load) -> None:
    """Two limits for one target are a mistake."""
    text = TARGETS.replace('"${IOS}"', '"${IOS}"\nrate = 1')
    with pytest.raises(ConfigError, match=r"apps\.ios\.rate: cannot be combined with defaults\.shared_rate"):
        load(f'[defaults]\nshared_rate = "2/s"\n{text}')
