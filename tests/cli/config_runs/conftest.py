"""What the tests of `run`, `plan` and `apply` share."""

from __future__ import annotations

from typing import Any

import pytest

from aiobatch.sandbox import API_KEY, API_KEY_ANDROID
from aiobatch.sync.run import _fan_out
from aiobatch.sync.sources._stage import stage


@pytest.fixture
def config_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the keys of the two apps of a config."""
    monkeypatch.setenv("IOS_KEY", API_KEY)
    monkeypatch.setenv("ANDROID_KEY", API_KEY_ANDROID)


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record each source that is read."""
    read: list[str] = []

    def note(connection: Any, source: Any, *args: Any, **kwargs: Any) -> Any:
        read.append(source.label)
        return stage(connection, source, *args, **kwargs)

    monkeypatch.setattr(_fan_out, "stage", note)
    return read
