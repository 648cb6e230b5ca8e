"""Comparisons by partition, as more IDs than fit into memory require."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from aiobatch.sync._options import Mode
from aiobatch.sync.state._chunks import ChunkState, ChunkTransition
from aiobatch.sync.state._diff import PlanRequest, clear_plan, make_plan
from aiobatch.sync.state._history import RunEnding, RunOutcome
from aiobatch.sync.state._journal import Journal
from aiobatch.sync.state._repair import forget, stage_rollback
from aiobatch.sync.state._state import State
from aiobatch.sync.state.partitions import _keys
from aiobatch.sync.state.partitions._comparison import Comparison
from aiobatch.sync.state.partitions._digests import _DIGEST, Digests, equals_members, read_digests
from aiobatch.sync.state.partitions._keys import count_partitions, each_partition

from ..steps import mark_applied, mark_sending, mark_sent
from .states import ANYTHING, in_partitions_of, members, open_state, plan, stage, sync, vip

# Two texts with the same MD5: https://www.johndcook.com/blog/2024/03/20/md5-hash-collision/
EQUAL_MD5 = [
    f"TEXTCOLLBYfGiJUETHQ4h{letter}cKSMd5zYpgqf1YRDhkmxHkhPWptrkoyz28wnI9V0aHeAuaKnak" for letter in "AE"
]
MANY = [f"user.{i}@example.com" for i in range(50)]


@pytest.fixture(name="state")
def _state(tmp_path: Path) -> Iterator[State]:
    with open_state(tmp_path / "state.duckdb") as state:
        yield state


def compared(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Return the list to which each comparison adds the partitions that it compares."""
    seen: list[list[int]] = []
    find = Comparison.find

    def note(self: Comparison, mode: Mode, partitions: list[int], diff: str) -> None:
        seen.append(list(partitions))
        find(self, mode, partitions, diff)

    monkeypatch.setattr(Comparison, "find", note)
    return seen


def executed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list to which each statement of any state is added."""
    statements: list[str] = []
    rows = State.rows

    def note(self: State, template: str, *args: Any, **names: str) -> list[tuple[Any, ...]]:
        statements.append(template)
        return rows(self, template, *args, **names)

    monkeypatch.setattr(State, "rows", note)
    return statements


def test_ids_of_equal_md5_are_different_ids(state: State) -> None:
    """Two IDs with the same MD5 are added and removed one by one."""
    digests = (
        duckdb.connect()
        .execute("SELECT count(DISTINCT md5(one)) FROM unnest(?) AS texts(one)", [EQUAL_MD5])
        .fetchone()
    )
    assert digests == (1,)
    for source in (EQUAL_MD5, EQUAL_MD5[:1], EQUAL_MD5[1:], EQUAL_MD5):
        sync(state, source)
        assert members(state) == set(source)


def test_partitions_follow_from_rows_and_memory_limit(state: State, tmp_path: Path) -> None:
    """Partitions are a power of two. Ten times the memory needs a tenth of them, up to a bound."""
    assert [count_partitions(state, rows) for rows in (0, 1, 10**6, 10**7, 10**12)] == [1, 1, 1, 8, 64]
    with State.open(tmp_path / "large.duckdb", what="test", memory_limit="20GB") as large:
        assert [count_partitions(large, rows) for rows in (10**7, 10**9)] == [1, 8]


def test_conditions_cover_each_id_once(state: State) -> None:
    """Each ID is in exactly one partition."""
    stage(state, MANY)
    with in_partitions_of(8):
        conditions = each_partition(state, len(MANY))
        counts = [
            state.row(f"SELECT count(*) FROM {{staged}} WHERE {one}", staged="staged")[0]
            for one in conditions
        ]
    assert len(counts) == 8
    assert sum(counts) == len(MANY)
    assert each_partition(state, len(MANY)) == ["true"]


@pytest.mark.sample(1)
@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_digest_does_not_depend_on_the_partitions(state: State, rows: int) -> None:
    """A saved plan is valid under another memory limit. A changed ID or fingerprint changes the digest."""
    source = {i: {"n": number % 3} if number % 2 else None for number, i in enumerate(MANY)}
    sync(state, ["u1"])
    expected = plan(state, source).source_digest
    with in_partitions_of(rows):
        assert plan(state, dict(reversed(source.items()))).source_digest == expected
        assert plan(state, source | {MANY[1]: None}).source_digest != expected
        swapped = source | {MANY[1]: source[MANY[3]], MANY[3]: source[MANY[1]]}
        assert plan(state, swapped).source_digest != expected


@pytest.mark.sample(2)
@pytest.mark.parametrize("mode", [Mode.MIRROR, Mode.ADD, Mode.ADOPT])
def test_only_partitions_that_differ_are_compared(
    state: State, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One changed ID costs the comparison of one partition, and not of all."""
    same = {one: {"n": 1} for one in MANY}
    with in_partitions_of(8):
        sync(state, same)
        seen = compared(monkeypatch)
        made = plan(state, same | {MANY[3]: {"n": 2}}, mode)
        assert (made.attribute_changes, made.changes) == (1, 1)
        made = plan(state, [*MANY, "another"] if mode is Mode.ADOPT else MANY, mode)
        assert made.attribute_changes == len(MANY)
    assert len(seen[0]) == 1 < len(seen[1])


@pytest.mark.parametrize("mode", [Mode.MIRROR, Mode.REMOVE])
@pytest.mark.parametrize("value", [None, {"n": 1}])
def test_ids_without_fingerprints_are_joined_by_their_keys_alone(
    state: State, mode: Mode, value: dict[str, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If no ID has attributes, the join of a comparison holds no column of fingerprints in memory."""
    sync(state, dict.fromkeys(MANY, value))
    statements = executed(monkeypatch)
    made = plan(state, dict.fromkeys(MANY[10:], value) | {"another": None}, mode)
    assert made.changes
    joins = [one for one in statements if one.startswith("INSERT INTO found")]
    assert joins
    assert [".fingerprint" in one for one in joins] == [value is not None] * len(joins)


@pytest.mark.parametrize("rows", [7, 1000])
def test_unchanged_members_are_read_once(state: State, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """If nothing has changed since a run whose changes are all APPLIED, only the source is read."""
    read: list[str] = []
    read_members = Comparison.read_members

    def note(self: Comparison, *, once: bool) -> None:
        read.append(self.members)
        read_members(self, once=once)

    with in_partitions_of(rows):
        sync(state, MANY)
        seen = compared(monkeypatch)
        monkeypatch.setattr(Comparison, "read_members", note)
        for _ in range(3):
            assert plan(state, MANY).changes == 0
        assert plan(state, MANY[1:]).removes == 1
    assert (len(read), len(seen)) == (1, 1)


@pytest.mark.parametrize("rows", [7, 1000])
def test_members_of_stored_digests_are_not_digested_again(
    state: State, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the digests of the members are stored, one scan of them is enough to compare them with a source."""
    with in_partitions_of(rows):
        sync(state, MANY)
        statements = executed(monkeypatch)
        sync(state, [*MANY[1:], "another"])
        digested = [one for one in statements if one == _DIGEST]
        tables = [one for one in statements if "member_keys_stored AS" in one]
    assert (len(digested), len(tables)) == (1, 0 if rows > len(MANY) else 1)
    assert members(state) == {*MANY[1:], "another"}


def test_stored_digests_are_those_of_the_members(state: State) -> None:
    """Stored digests do not count for other members, other partitions or another audience of the name."""
    for source in (MANY, MANY[1:], MANY[3:]):
        sync(state, source)  # it stores the digests of what is APPLIED
        assert read_digests(state, vip(state), 1) == Digests.of_keys(state, "staged", 1)
        assert read_digests(state, vip(state), 2) is None
    sync(state, MANY[:5], Mode.ADD)
    assert read_digests(state, vip(state), 1) is None
    plan(state, MANY)  # nothing differs, so that it stores the digests
    assert read_digests(state, vip(state), 1) == Digests.of_keys(state, "staged", 1)
    forget(state, vip(state))
    assert state.row("SELECT count(*) FROM digests") == (0,)
    sync(state, MANY[2:])
    assert (plan(state, MANY[1:]).adds, plan(state, MANY[1:]).removes) == (1, 0)


@pytest.mark.parametrize("left", ["dropped", "resumed", "unknown", "refused"])
def test_digests_of_a_plan_that_is_not_all_applied_are_not_stored(state: State, left: str) -> None:
    """If a chunk is not APPLIED, or another process settled the run, the members' digests are computed."""
    sync(state, MANY[:10])
    journal = Journal.begin(state, plan(state, MANY, size=20))
    first, second = journal.in_state(ChunkState.PLANNED)
    mark_sending(journal, [first.n, second.n] if left != "dropped" else [first.n])
    mark_sent(journal, first.n, "vip:update:t1")
    mark_applied(journal, [first.n])
    if left == "resumed":
        resumed = Journal.resume(state, vip(state))
        assert resumed is not None
        journal = resumed
        mark_sent(journal, second.n, "vip:update:t2")
        mark_applied(journal, [second.n])
    elif left != "dropped":
        journal.record([ChunkTransition(n=second.n, state=ChunkState(left))])
    journal.close(RunEnding(outcome=RunOutcome.INTERRUPTED))
    assert read_digests(state, vip(state), 1) is None
    again = sync(state, MANY)
    assert again.adds == {"dropped": 20, "resumed": 0, "unknown": 20, "refused": 20}[left]
    assert members(state) == set(MANY)


def test_digests_of_an_incomplete_table_do_not_count(state: State) -> None:
    """Stored digests with another number of IDs than there are members are ignored."""
    sync(state, MANY)
    plan(state, MANY)
    state.rows("UPDATE digests SET ids = ids - 1")
    assert read_digests(state, vip(state), 1) is None
    assert plan(state, MANY).changes == 0


# The members, one of them in place of another, one of them with another fingerprint, or one more of them.
@pytest.mark.sample(4)
@pytest.mark.parametrize(
    "changes",
    [{}, *({at: by} for at in (0, 49) for by in ((1, 0), (49, 0), (0, 9))), {50: (0, 0)}, {50: (7, 9)}],
)
def test_no_rows_but_the_members_equal_the_members(state: State, changes: dict[int, tuple[int, int]]) -> None:
    """Rows of which any has the ID of another never pass for the members, so that it is searched for."""
    sync(state, MANY)
    plan(state, MANY)  # it stores the digests
    numbers = {number: (number, 0) for number in range(len(MANY))} | changes
    rows = [(MANY[number], fingerprint) for number, fingerprint in numbers.values()]
    state.rows("CREATE OR REPLACE TEMP TABLE rows_read (key UHUGEINT, fingerprint UBIGINT)")
    insert = "INSERT INTO rows_read SELECT md5_number(? || unnest(?)), unnest(?)"
    state.rows(insert, [_keys.salt_of(state), *map(list, zip(*rows, strict=True))])
    is_same = sorted(rows) == sorted((one, 0) for one in MANY)
    assert equals_members(state, ["another", vip(state).key], "rows_read") == is_same
    assert not equals_members(state, ["another"], "rows_read")


@pytest.mark.sample(1)
@pytest.mark.parametrize("rows", [3, 1000])
def test_rollback_and_removals_in_partitions(state: State, rows: int) -> None:
    """Many removals, and the way back from them, are exact in partitions."""
    with in_partitions_of(rows):
        first = sync(state, MANY).run
        sync(state, [*MANY[40:], *(f"new-{i}" for i in range(20))])
        assert members(state) == {*MANY[40:], *(f"new-{i}" for i in range(20))}
        target = stage_rollback(state, vip(state), first)
        request = PlanRequest(mode=Mode.ROLLBACK, source="run", staged=target, overrides=ANYTHING)
        made = make_plan(state, vip(state), request)
    assert (made.adds, made.removes, made.members_after) == (40, 20, 50)


def test_comparison_leaves_no_tables(state: State) -> None:
    """The tables of keys are dropped, also if the comparison fails."""
    sync(state, MANY)
    plan(state, MANY[1:])
    clear_plan(state, vip(state).key)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Comparison, "find", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            plan(state, MANY[2:])
    names = {name for (name,) in state.rows("SELECT table_name FROM information_schema.tables")}
    assert "staged" in names
    assert not {name for name in names if "keys" in name or name == "found"}


def test_members_of_version_1_work(state: State) -> None:
    """A state without digests, as earlier versions wrote it, has the same version and plans the same."""
    sync(state, MANY)
    state.rows("DELETE FROM digests")
    assert state.row("SELECT version FROM aiobatch_state") == (1,)
    with in_partitions_of(5):
        made = plan(state, MANY[10:])
    assert (made.removes, made.adds) == (10, 0)
    assert _keys.salt_of(state) == state.state_id[:8]


@pytest.mark.sample(3)
@pytest.mark.parametrize("rows", [2, 4, 1000])
@pytest.mark.parametrize("removed", [1, 10, 50])
def test_removals_from_many_members_copy_the_others(state: State, rows: int, removed: int) -> None:
    """With little memory the other members are copied. Members, types and fingerprints are the same."""
    with in_partitions_of(rows):
        sync(state, {one: {"n": 1} for one in MANY})
        before = dict(
            state.rows("SELECT id, fingerprint FROM {members}", members=f"members_{vip(state).key}")
        )
        sync(state, {one: {"n": 1} for one in MANY[removed:]} | {"new": None})
    after = dict(state.rows("SELECT id, fingerprint FROM {members}", members=f"members_{vip(state).key}"))
    assert after == {one: before[one] for one in MANY[removed:]} | {"new": 0}
    columns = state.rows(
        "SELECT column_name, data_type, is_nullable FROM duckdb_columns() WHERE table_name = ?",
        [f"members_{vip(state).key}"],
    )
    assert columns == [("id", "VARCHAR", False), ("fingerprint", "UHUGEINT", False)]
    assert not state.has_table(f"members_{vip(state).key}_kept")


@pytest.mark.parametrize(
    ("changes", "mode", "copies"),
    [
        ({"new": None}, Mode.MIRROR, False),
        ({f"new-{number}": None for number in range(40)}, Mode.ADD, False),
        ({MANY[0]: {"n": 2}}, Mode.MIRROR, True),
        ({MANY[0]: {"n": 2}}, Mode.ADD, True),
    ],
)
def test_only_runs_that_delete_members_copy_the_others(
    state: State, changes: dict[str, Any], mode: Mode, copies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members are not copied to add some, however many the audience has."""
    source: dict[str, Any] = {one: {"n": 1} for one in MANY}
    with in_partitions_of(2):
        sync(state, source)
        statements = executed(monkeypatch)
        sync(state, source | changes, mode)
    assert members(state) == {*source, *changes}
    assert any("INSERT INTO {members}_kept" in one for one in statements) == copies


def test_few_deletions_need_little_memory_in_any_table(state: State) -> None:
    """Few rows are deleted from a table of any size. Many are only if the table fits into memory."""
    limit = _keys.rows_in_memory(state) * 8
    assert _keys.can_delete(state, rows=limit, deleted=limit)
    assert not _keys.can_delete(state, rows=limit + 1, deleted=limit)
    assert _keys.can_delete(state, rows=10**12, deleted=limit // 2048)
    assert not _keys.can_delete(state, rows=10**12, deleted=limit // 2048 + 1)
