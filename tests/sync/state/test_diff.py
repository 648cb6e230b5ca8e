from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiobatch._secret import Secret
from aiobatch.errors import InvalidInputError
from aiobatch.sync._guard import GuardPolicy
from aiobatch.sync._options import Mode
from aiobatch.sync._plan import Basis, Plan
from aiobatch.sync.state._chunks import ChunkState
from aiobatch.sync.state._diff import PlanRequest, make_plan
from aiobatch.sync.state._history import RunEnding, RunOutcome
from aiobatch.sync.state._journal import Journal
from aiobatch.sync.state._repair import adopt, forget
from aiobatch.sync.state._state import State
from aiobatch.sync.state._targets import TargetKey, get_or_create_audience

from ...helpers.sweep import examples
from .states import apply_all, in_partitions_of, members, open_state, plan, stage, sync, vip

IDS = st.sampled_from([f"u{i}" for i in range(12)])
SOURCES = st.dictionaries(IDS, st.none() | st.fixed_dictionaries({"age": st.integers(0, 2)}))
WEIRD = ["a b", "é", "'; DROP TABLE runs; --", "{x}", "0012", "12", "\N{PILE OF POO}", "A", "a"]


@pytest.fixture(name="state", scope="module")
def _state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    with open_state(tmp_path_factory.mktemp("diff") / "state.duckdb") as state:
        yield state


@pytest.fixture(name="fresh")
def _fresh(tmp_path: Path) -> Iterator[State]:
    with open_state(tmp_path / "state.duckdb") as state:
        yield state


def _sent(state: State, made: Plan) -> tuple[set[str], set[str]]:
    """Begin a run, and return what its chunks add and remove."""
    journal = Journal.begin(state, made)
    actions = [journal.actions(chunk.n) for chunk in journal.in_state(ChunkState.PLANNED)]
    add, remove = [i for a in actions for i in a.add], [i for a in actions for i in a.remove]
    assert len(add + remove) == len({*add, *remove}) == made.changes
    return set(add), set(remove)


@settings(
    max_examples=examples(20, 50, full=120),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    before=SOURCES,
    after=SOURCES,
    mode=st.sampled_from([Mode.MIRROR, Mode.ADD, Mode.REMOVE]),
    rows=st.sampled_from([1, 3, 1000]),
)
def test_any_diff_is_exact(
    state: State, before: dict[str, None], after: dict[str, None], mode: Mode, rows: int
) -> None:
    """For any two sources and each mode, the plan's numbers, calls and chunks are those of set algebra."""
    forget(state, vip(state))
    sync(state, before)
    with in_partitions_of(rows):
        made = plan(state, after, mode)
    new, gone = set(after) - set(before), set(before) - set(after)
    both = set(before) & set(after)
    changed = {i for i in both if before[i] != after[i]}
    adds, removes = {
        Mode.MIRROR: (new | changed, gone),
        Mode.ADD: (new | changed, set()),
        Mode.REMOVE: (set(), set(after)),
    }[mode]
    tracked, untracked = removes & set(before), removes - set(before)
    assert (made.members_before, made.members_after) == (len(before), len(set(before) | adds) - len(tracked))
    assert (made.adds, made.attribute_changes) == (len(adds - both), len(adds & both))
    assert (made.removes, made.untracked_removals) == (len(tracked), len(untracked))
    assert made.calls == -(-len(adds | removes) // 3)
    assert made.unchanged == len(after) - len(adds) - len(removes if mode is Mode.REMOVE else ())
    assert _sent(state, made) == (adds, removes)


def test_unchanged_source_plans_nothing(fresh: State) -> None:
    """The same source plans nothing, in any order of its rows."""
    sync(fresh, ["u1", "u2", "u3"])
    made = plan(fresh, ["u3", "u1", "u2"])
    assert (made.changes, made.calls, made.unchanged) == (0, 0, 3)


def test_digest_depends_on_ids_and_fingerprints(fresh: State) -> None:
    """The source's digest depends on IDs and fingerprints, and not on their order."""
    digests = [
        plan(fresh, source).source_digest
        for source in (["u1", "u2"], ["u2", "u1"], ["u1"], {"u1": {"a": 1}, "u2": None}, [])
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4


def test_ids_are_compared_as_written(fresh: State) -> None:
    """Case, leading zeros, quotes and scripts are part of an ID."""
    sync(fresh, WEIRD)
    assert members(fresh) == set(WEIRD)
    made = plan(fresh, [*WEIRD, "0", "B"])
    assert (made.adds, made.removes) == (2, 0)


def test_removed_attributes_are_a_change(fresh: State) -> None:
    """An ID without its former attributes is sent again."""
    sync(fresh, {"u1": {"age": 3}})
    assert plan(fresh, ["u1"]).attribute_changes == 1


def test_replace_sends_all_ids_once(fresh: State) -> None:
    """A replace sends all IDs of the source in one call. The members that it drops count as removals."""
    sync(fresh, ["u1", "u2", "u3"])
    made = plan(fresh, {"u3": None, "u2": {"a": 1}, "u4": None}, Mode.REPLACE)
    assert (made.adds, made.attribute_changes, made.resends, made.removes, made.calls) == (1, 1, 1, 0, 1)
    assert made.members_after == 3
    assert _sent(fresh, made) == ({"u2", "u3", "u4"}, set())


@pytest.mark.parametrize("source", [[], ["u1", "u2", "u3", "u4"]])
def test_replace_must_fit_one_call(fresh: State, source: list[str]) -> None:
    """A replace of no IDs, or of more than one call takes, is refused."""
    with pytest.raises(InvalidInputError, match=r"1 to 3 IDs.*mirror"):
        plan(fresh, source, Mode.REPLACE)


def test_guard_decides_on_the_plans_numbers(fresh: State) -> None:
    """The decision is the policy's, on the plan's numbers. A rollback has no source that could be empty."""
    sync(fresh, ["u1", "u2"])
    stage(fresh, [])
    for mode, options in (
        (Mode.MIRROR, {"allow_empty": True, "allow_removals": 2}),
        (Mode.ROLLBACK, {"allow_removals": 2}),
    ):
        request = PlanRequest(mode=mode, source="users.csv", policy=GuardPolicy(max_removals=1))
        assert make_plan(fresh, vip(fresh), request).decision.options == options


def test_expected_time_follows_the_rate(fresh: State) -> None:
    """Four calls, each with a request that confirms it, take four seconds at two per second."""
    stage(fresh, [f"u{i}" for i in range(10)])
    request = PlanRequest(mode=Mode.MIRROR, source="users.csv", rate=2.0, chunk_size=3)
    assert make_plan(fresh, vip(fresh), request).seconds == 4.0
    assert make_plan(fresh, vip(fresh), request).basis is Basis.RATE


def test_expected_time_follows_the_last_runs(fresh: State) -> None:
    """Without a rate, the largest runs define the time per call, and the fastest run the minimum."""
    assert (plan(fresh, ["u1"]).seconds, plan(fresh, ["u1"]).basis) == (None, None)
    assert (plan(fresh, []).seconds, plan(fresh, []).basis) == (0.0, None)
    _record(fresh, calls=2, seconds=5)
    assert plan(fresh, ["u1"]).seconds == 5.0
    _record(fresh, calls=10, seconds=20)
    _record(fresh, calls=8, seconds=8)
    _record(fresh, calls=9, seconds=9 * 3600)  # it was interrupted, and settled hours later
    made = plan(fresh, [f"u{n}" for n in range(11)])
    assert (made.calls, made.seconds, made.basis) == (4, 8.0, Basis.HISTORY)
    assert plan(fresh, ["u1"]).seconds == 5.0


def _record(state: State, *, calls: int, seconds: int) -> None:
    """Add a run with a number of calls to the history."""
    run = sync(state, [f"{calls}-{seconds}"]).run
    started = "UPDATE runs SET started = ended - to_seconds(?), calls = ? WHERE run = ?"
    state.rows(started, [seconds, calls, run])


@pytest.mark.parametrize("size", [0, 10_001])
def test_chunk_size_is_one_to_ten_thousand(size: int) -> None:
    """A chunk cannot be larger than one of Batch's calls, or empty."""
    with pytest.raises(ValueError, match="chunk_size"):
        PlanRequest(mode=Mode.MIRROR, source="users.csv", chunk_size=size)


def test_plans_of_two_audiences_are_independent(fresh: State) -> None:
    """Two audiences can be planned from one source before either run begins."""
    stage(fresh, ["u1"])
    request = PlanRequest(mode=Mode.MIRROR, source="users.csv")
    plans = [
        make_plan(fresh, get_or_create_audience(fresh, TargetKey("app", Secret(key)), "vip"), request)
        for key in ("ios", "android")
    ]
    assert [_sent(fresh, made) for made in plans] == [({"u1"}, set())] * 2


def test_id_rules_stay_the_same(fresh: State) -> None:
    """IDs under other rules are refused, unless all members are sent again. Unknown rules pass."""
    stage(fresh, ["u1"])
    trimmed = PlanRequest(mode=Mode.MIRROR, source="users.csv", id_rules="custom_ids trim=yes")
    kept = attrs.evolve(trimmed, id_rules="custom_ids trim=no")
    assert make_plan(fresh, vip(fresh), kept).id_rules == "custom_ids trim=no"
    journal = Journal.begin(fresh, make_plan(fresh, vip(fresh), trimmed))
    apply_all(journal)
    journal.close(RunEnding(outcome=RunOutcome.DONE))
    sync(fresh, ["u1"])
    assert vip(fresh).id_rules == "custom_ids trim=yes"
    make_plan(fresh, vip(fresh), trimmed)
    with pytest.raises(InvalidInputError, match="ID rules `custom_ids trim=yes`"):
        make_plan(fresh, vip(fresh), kept)
    adopt(fresh, make_plan(fresh, vip(fresh), attrs.evolve(kept, mode=Mode.ADOPT)))
    make_plan(fresh, vip(fresh), kept)
