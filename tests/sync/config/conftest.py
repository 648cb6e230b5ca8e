"""A config as text, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from aiobatch.sync import Config, ConfigError, load_config

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


def problems_of(load: Load, text: str, **kwargs: object) -> list[str]:
    """Return what is wrong with a config, each as key and text."""
    with pytest.raises(ConfigError) as caught:
        load(text, **kwargs)
    path = caught.value.path
    assert all(line.startswith(path) for line in str(caught.value).splitlines())
    return [line.removeprefix(f"{path}: ") for line in caught.value.lines]
