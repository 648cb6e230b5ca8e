from __future__ import annotations

import contextlib
import pickle
import stat
from pathlib import Path

import attrs
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiobatch.errors import InvalidInputError
from aiobatch.sync._errors import GuardError, StalePlanError
from aiobatch.sync._options import Mode
from aiobatch.sync._plan import Plan

from .state.states import open_state, plan, sync

_SCALARS = st.none() | st.booleans() | st.floats() | st.text() | st.integers(-(2**63), 2**63)
_JSON = st.recursive(
    _SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=3
)


@pytest.fixture(name="made")
def _made(tmp_path: Path) -> Plan:
    """Return a plan that adds, removes and keeps."""
    with open_state(tmp_path / "state.duckdb") as state:
        sync(state, ["u1", "u2"])
        return plan(state, ["u2", "u3"])


def test_a_plan_survives_its_file(made: Plan, tmp_path: Path) -> None:
    """What is written to a file is read back equal; the file, which holds ids, is its owner's alone."""
    path = tmp_path / "plan.json"
    path.touch(mode=0o644)
    made.save(path)
    assert Plan.from_json(path.read_bytes()) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_plan_shows_its_sample_in_the_file_alone(made: Plan) -> None:
    """The sample's ids are in the JSON and not in the repr, which may be logged."""
    assert (made.sample_adds, made.sample_removes) == (("u3",), ("u1",))
    assert b"u3" in made.to_json()
    assert "u3" not in repr(made)


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"format": 1}', b'{"format": 2}', b"\xff", b"null"])
def test_what_is_no_plan_is_refused(text: bytes) -> None:
    """Foreign bytes, and plans of another format, are an input error with a remedy."""
    with pytest.raises(InvalidInputError, match="aiobatch plan"):
        Plan.from_json(text)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data(), value=_JSON)
def test_any_value_in_any_field_is_read_or_refused(made: Plan, data: st.DataObject, value: object) -> None:
    """A plan in which a field has any other value is read, or refused as input."""
    document = orjson.loads(made.to_json())
    document[data.draw(st.sampled_from(sorted(document)))] = value
    with contextlib.suppress(InvalidInputError):
        Plan.from_json(orjson.dumps(document))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("adds", "7"),
        ("adds", -7),
        ("adds", True),
        ("seconds", "nan"),
        ("made", "2026-01-01T00:00:00"),
        ("made", 0),
        ("audience", 1),
        ("mode", "other"),
    ],
)
def test_a_value_is_never_converted(made: Plan, field: str, value: object) -> None:
    """A number written as text, a count below zero or a time without its zone makes it no plan."""
    with pytest.raises(InvalidInputError, match="not a plan"):
        Plan.from_json(orjson.dumps(orjson.loads(made.to_json()) | {field: value}))


def test_a_field_too_many_is_refused(made: Plan) -> None:
    """A plan with a field that we do not know is refused."""
    with pytest.raises(InvalidInputError):
        Plan.from_json(orjson.dumps(orjson.loads(made.to_json()) | {"surprise": 1}))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("key", "another", "the audience"),
        ("mode", Mode.ADD, "the mode was 'mirror' and is 'add'"),
        ("state_id", "another", "the state file"),
        ("generation", 7, "the state's generation was 1 and is 7"),
        ("staged", 3, "the source's number of ids was 2 and is 3"),
        ("source_digest", "another", "the source's digest"),
        ("adds", 2, "the number of changes was 2 and is 3"),
    ],
)
def test_a_plan_is_stale_when_anything_moved(made: Plan, field: str, value: object, said: str) -> None:
    """Whatever moved since is named, and the plan is not applied."""
    with pytest.raises(StalePlanError, match=said) as info:
        made.refuse_stale(attrs.evolve(made, **{field: value}))  # type: ignore[arg-type]  # one field of any type
    assert vars(pickle.loads(pickle.dumps(info.value))) == vars(info.value)  # noqa: S301  # our own


def test_a_plan_that_still_holds_passes(made: Plan) -> None:
    """The same plan made anew is not stale, whenever that was."""
    made.refuse_stale(attrs.evolve(made, made=made.made.replace(year=2027), seconds=1.0))


def test_a_refused_plan_raises(made: Plan) -> None:
    """A plan with a refusal raises it with its own numbers."""
    made.enforce()
    verdict = attrs.evolve(made.verdict, reasons=("too many",), options={"allow_removals": 1})
    with pytest.raises(GuardError) as info:
        attrs.evolve(made, verdict=verdict).enforce()
    assert (info.value.removals, info.value.members) == (1, 2)
