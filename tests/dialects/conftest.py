"""One dialect for each version."""

from __future__ import annotations

import pytest

from aiobatch.dialects import Dialect, dialect_for
from aiobatch.options import App, Project

REST_KEY = "rest-7d1f0c"
APP_KEY = "app-5e2b9a"
PROJECT_KEY = "project-3c8e44"

TARGETS: dict[str, App | Project] = {
    "1.0": App(rest_api_key=REST_KEY, api_key=APP_KEY),
    "1.1": App(rest_api_key=REST_KEY, api_key=APP_KEY, version="1.1"),
    "2.11": Project(rest_api_key=REST_KEY, project_key=PROJECT_KEY),
}


@pytest.fixture
def v10() -> Dialect:
    """Return the dialect of Custom Audience API 1.0."""
    return dialect_for(TARGETS["1.0"])


@pytest.fixture
def v11() -> Dialect:
    """Return the dialect of Custom Audience API 1.1."""
    return dialect_for(TARGETS["1.1"])


@pytest.fixture
def v2() -> Dialect:
    """Return the dialect of Audience API 2.11."""
    return dialect_for(TARGETS["2.11"])


@pytest.fixture(params=TARGETS)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    """Return each dialect in turn."""
    return dialect_for(TARGETS[request.param])
