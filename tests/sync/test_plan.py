from __future__ import annotations

import contextlib
import pickle
import stat
from pathlib import Path
from typing import Any

import attrs
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiobatch.errors import InvalidInputError
from aiobatch.sync._errors import GuardError, StalePlanError
from aiobatch.sync._options import Mode, SyncOptions
from aiobatch.sync._plan import Plan
from aiobatch.sync.sources._source import Source

from .state.states import open_state, plan, sync

_SCALARS = st.none() | st.booleans() | st.floats() | st.text() | st.integers(-(2**63), 2**63)
_JSON = st.recursive(
    _SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=3
)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM", "crm-secret")


@pytest.fixture(name="made")
def _made(tmp_path: Path) -> Plan:
    """Return a plan that adds, removes and keeps."""
    with open_state(tmp_path / "state.duckdb") as state:
        sync(state, ["u1", "u2"])
        return plan(state, ["u2", "u3"])


def test_a_plan_survives_its_file(made: Plan, tmp_path: Path) -> None:
    """What is written to a file is read back equal. The file, which holds IDs, is private to its owner."""
    path = tmp_path / "plan.json"
    path.touch(mode=0o644)
    made.save(path)
    assert Plan.load(path) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "words",
    [
        {"text": "/data/u.csv", "attributes": {"city": "town"}, "tags_column": "tags", "format": "csv"},
        {"text": "sqlite:///crm.db", "query": "SELECT id FROM people", "id_column": "id"},
        {"text": "duckdb:///${CRM}", "query": "SELECT 1"},
    ],
    ids=["file", "database", "variable"],
)
def test_a_plan_keeps_its_source_and_options(made: Plan, words: dict[str, Any], tmp_path: Path) -> None:
    """A loaded plan has the source, with its variables as written, the options and the state."""
    source = Source.parse(**words)
    options = SyncOptions(
        mode="add", id_type="install_ids", rejects=tmp_path / "r.csv", timeout=None, strict=True
    )
    planned = attrs.evolve(made, source=source, options=options, state="/data/state.duckdb")
    planned.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == planned
    assert b"crm-secret" not in (tmp_path / "plan.json").read_bytes()


def test_a_plan_makes_paths_absolute(made: Plan) -> None:
    """A plan can be applied from any directory."""
    planned = attrs.evolve(made, source=Source.parse("a.csv"), options=SyncOptions(rejects=Path("r.csv")))
    loaded = Plan.from_json(planned.to_json())
    assert loaded.source is not None
    assert loaded.source.path == str(Path("a.csv").absolute())
    assert loaded.options.rejects == Path("r.csv").absolute()


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (Source.parse("-"), "only once"),
        (Source.of(["u1"]), "only once"),
        (Source.parse("postgresql://me:hunter2@h/db", query="SELECT 1"), "no password"),
    ],
    ids=["stdin", "ids", "password"],
)
def test_a_source_of_one_reading_is_not_saved(made: Plan, source: Source, error: str, tmp_path: Path) -> None:
    """A plan whose source cannot be read again, or holds a password, is not written."""
    planned = attrs.evolve(made, source=source)
    with pytest.raises(InvalidInputError, match=error) as info:
        planned.save(tmp_path / "plan.json")
    assert "hunter2" not in f"{info.value} {planned!r} {source.path}"
    assert not (tmp_path / "plan.json").exists()


def test_a_plan_with_an_unset_variable_is_refused(
    made: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The error names the file and the variable."""
    attrs.evolve(made, source=Source.parse("duckdb:///${CRM}", query="SELECT 1")).save(tmp_path / "plan.json")
    monkeypatch.delenv("CRM")
    with pytest.raises(InvalidInputError, match=r"plan\.json: .*variable CRM is not set"):
        Plan.load(tmp_path / "plan.json")


def test_a_password_put_into_a_plan_is_refused(made: Plan) -> None:
    """A plan that was edited to hold a password is refused."""
    source = {"path": "postgresql://me:hunter2@h/db", "query": "SELECT 1"}
    document = orjson.loads(made.to_json()) | {"source": source}
    with pytest.raises(InvalidInputError, match="environment variable"):
        Plan.from_json(orjson.dumps(document))


def test_a_plan_shows_its_sample_in_the_file_alone(made: Plan) -> None:
    """The sample's ids are in the JSON and not in the repr, which may be logged."""
    assert (made.sample_adds, made.sample_removes) == (("u3",), ("u1",))
    assert b"u3" in made.to_json()
    assert "u3" not in repr(made)


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"format": 1}', b'{"format": 2}', b"\xff", b"null"])
def test_what_is_no_plan_is_refused(text: bytes) -> None:
    """Foreign bytes, and plans of another format, are an input error with a remedy."""
    with pytest.raises(InvalidInputError, match="Plan again"):
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
    with pytest.raises(InvalidInputError, match="not a saved plan"):
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
    """A new plan with the same numbers is not stale."""
    made.refuse_stale(attrs.evolve(made, made=made.made.replace(year=2027), seconds=1.0))


def test_a_refused_plan_raises(made: Plan) -> None:
    """A plan with a refusal raises it with its own numbers."""
    made.enforce()
    decision = attrs.evolve(made.decision, reasons=("too many",), options={"allow_removals": 1})
    with pytest.raises(GuardError) as info:
        attrs.evolve(made, decision=decision).enforce()
    assert (info.value.removals, info.value.members) == (1, 2)


def test_a_saved_plan_keeps_every_option(made: Plan) -> None:
    """All options of the engine are in the file."""
    assert orjson.loads(made.to_json())["options"].keys() == attrs.fields_dict(SyncOptions).keys()
