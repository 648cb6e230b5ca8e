from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest

from aiobatch.dialects import Dialect, dialect_for
from aiobatch.options import App, Project
from aiobatch.testing import json_response

from .conftest import APP_KEY, PROJECT_KEY, REST_KEY, TARGETS

KEYS = (REST_KEY, APP_KEY, PROJECT_KEY)


@pytest.mark.parametrize("version", TARGETS)
def test_dialect_for_target(version: str) -> None:
    """Each target has the dialect of its version."""
    assert dialect_for(TARGETS[version]).version == version


def test_another_2_x_version_changes_the_path_only() -> None:
    """The version of 2.x only changes the path."""
    project = Project(rest_api_key=REST_KEY, project_key=PROJECT_KEY, version="2.3")

    assert dialect_for(project).build_view("vip").target == "/2.3/audiences/view?name=vip"


def test_only_2_x_lists_states(v10: Dialect, v11: Dialect, v2: Dialect) -> None:
    """Only the list of 2.x shows indexing states."""
    assert [v10.lists_states, v11.lists_states, v2.lists_states] == [False, False, True]


def test_repr_hides_keys(dialect: Dialect) -> None:
    """No repr of a dialect or of its requests shows a key."""
    shown = repr(dialect) + repr(dialect.build_view("vip")) + repr(dialect.build_list())

    assert not any(key in shown for key in KEYS)


def test_path_hides_keys(dialect: Dialect) -> None:
    """The path for errors and logs shows no key."""
    requests = [dialect.build_view("vip"), dialect.build_list(), dialect.build_delete("vip")]

    assert not any(key in request.path for request in requests for key in KEYS)


def test_dialect_cannot_be_pickled(dialect: Dialect) -> None:
    """A dialect contains keys and cannot be pickled."""
    with pytest.raises(TypeError, match="A key cannot be pickled"):
        pickle.dumps(dialect)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copy_is_equal(dialect: Dialect, duplicate: Callable[[Dialect], Dialect]) -> None:
    """A copy has the same target."""
    assert duplicate(dialect) == dialect


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
@pytest.mark.parametrize("target", list(TARGETS.values()), ids=list(TARGETS))
def test_copy_reports_unreadable_fields(
    target: App | Project, duplicate: Callable[[Dialect], Dialect]
) -> None:
    """A copy calls the same function about a field that it cannot read."""
    reported: list[tuple[str, str, str]] = []

    def report(notice: str, field: str, details: str) -> None:
        reported.append((notice, field, details))

    dialect = duplicate(dialect_for(target, report))
    body = {"name": "vip", "type": "CUSTOM_ID", "nb_ids": "many", "ids_count": "many"}
    dialect.read_view(dialect.build_view("vip"), json_response(200, body))
    assert len(reported) == 1
