"""What the tasks of a cluster compute together is exactly what one local run computes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import duckdb
import pytest
import pytest_asyncio

from aiobatch.errors import InvalidInputError
from aiobatch.models import IdType
from aiobatch.sync import GuardError, Mode, SendError, SourceError, SyncOptions
from aiobatch.sync._plan import Plan
from aiobatch.sync.cluster._columns import pick_columns
from aiobatch.sync.cluster._computed import Comparison
from aiobatch.sync.sources._location import IterableSource
from aiobatch.sync.sources._source import Source
from aiobatch.sync.sources._stage import StageOptions, stage
from aiobatch.sync.state._diff import PlanRequest, clear_plan, make_plan
from aiobatch.sync.state._refused_ids import excluded_ids
from aiobatch.sync.state._schema import REFUSED, planned_table, refused_table
from aiobatch.sync.state._state import State
from aiobatch.sync.state._targets import TargetKey
from aiobatch.sync.state.partitions._keys import salt_of

from ...helpers.sweep import examples
from ..sync_env import INSTALLS, ONCE, SyncEnv, opened_state, sync_env
from .parts import Cluster, Frame, Row, random_rows, store_url

RULES = SyncOptions().rules(IdType.INSTALL_IDS)
_PLANNED = "SELECT id, action, fingerprint, attributes, tags FROM {planned} ORDER BY id"
# What may differ between two plans: the time, and which of many IDs are samples.
_VARYING = {"made", "sample_adds", "sample_removes", "sample_lint"}


@pytest_asyncio.fixture
async def env(tmp_path: Path) -> AsyncIterator[SyncEnv]:
    """Return an environment whose state is in a store, with an audience of a base and a delta."""
    async with sync_env(tmp_path) as env:
        env.target, env.store = INSTALLS, store_url(tmp_path)
        rows = random_rows(0)
        with duckdb.connect() as connection:
            await env.sync(Frame.of(connection, rows).whole(), chunk_size=100)
            await env.sync(Frame.of(connection, recorded()).whole(), chunk_size=100)
        yield env


def recorded() -> list[Row]:
    """Return rows that the audience has been brought in line with."""
    return [(id_, 2 if age == 1 else age, tags) for id_, age, tags in random_rows(0)[8:]]


@contextmanager
def cluster(env: SyncEnv, **options: Any) -> Iterator[Cluster]:
    """Yield a cluster that compares with the members of the audience."""
    with opened_state(env.state) as state:
        record = state.audience_by_key(TargetKey.of(env.target).audience_key("vip"))
        comparison = Comparison(label="<dataframe>", url=str(env.state), record=record)
        yield Cluster(state=state, comparison=comparison, rules=RULES, **options)


def planned(state: State, comparison: Comparison, **request: Any) -> tuple[Plan, list[Any], list[str]]:
    """Return a plan, its actions, and the IDs left out because Batch refused them."""
    key = comparison.record.key
    plan = make_plan(state, comparison.record, PlanRequest(source="x", **request))
    actions = state.rows(_PLANNED, planned=planned_table(key))
    clear_plan(state, key)
    is_refused = state.has_table(refused_table(key))
    return plan, actions, excluded_ids(state, key, request["staged"]) if is_refused else []


def locally(one: Cluster, frame: Frame) -> tuple[tuple[Plan, list[Any], list[str]], Any]:
    """Return what a local run plans, and the counts of its rows."""
    options = StageOptions(salt=salt_of(one.state))
    counts = stage(one.state.connection, frame.whole(), RULES, options=options)
    return planned(one.state, one.comparison, mode=one.mode, staged="temp.staged"), counts


async def _interrupt(env: SyncEnv) -> None:
    """Leave the removal of some IDs unknown, of which no run has recorded the last one as a member."""
    env.sandbox.fail_next("reset", operation="update")
    gone = [*(id_ for id_, *_ in recorded()[:30] if id_), "x"]
    with pytest.raises(SendError):
        await env.sync(gone, client=ONCE, mode=Mode.REMOVE, chunk_size=100)
    with pytest.raises(GuardError):
        await env.sync([], mode=Mode.ADD)


def changed(seed: int) -> list[Row]:
    """Return rows that differ in part from those of the audience."""
    some = random.Random(seed)
    return [*(row for row in recorded() if some.random() < 0.8), *random_rows(seed, count=40)]


@pytest.mark.parametrize("mode", [Mode.MIRROR, Mode.ADD, Mode.REMOVE][: examples(1, 3)])
@pytest.mark.parametrize("seed", range(1, examples(2, 3, full=6)))
async def test_parts_plan_what_one_run_plans(mode: Mode, seed: int, env: SyncEnv) -> None:
    """Actions, digest, counts, reasons, what Batch refused and what an earlier run left unknown are equal."""
    await _interrupt(env)

    def check() -> None:
        with duckdb.connect() as connection, cluster(env, mode=mode) as one:
            frame = Frame.of(connection, changed(seed))
            state, comparison = one.state, one.comparison
            refused = refused_table(comparison.record.key)
            (before, expected, _), _ = locally(one, frame)
            state.rows(REFUSED, refused=refused)
            now = state.timestamp()
            for id_, action, fingerprint, *_ in expected[::7]:
                if action in {1, 2}:
                    state.rows(
                        "INSERT INTO {refused} VALUES (?, ?, ?)", [id_, fingerprint, now], refused=refused
                    )
            local, counts = locally(one, frame)
            one.summaries(frame)  # a repeated task stores another file, which counts only if its summary does
            staged = comparison.load(state, one.summaries(frame))
            assert staged.counts == counts
            found = planned(state, comparison, mode=mode, staged=staged.table, sums=staged.sums)
            assert found[1:] == local[1:]
            assert found[0].carried > 0
            plain = [
                attrs.asdict(plan, filter=lambda field, _: field.name not in _VARYING)
                for plan in (found[0], local[0])
            ]
            assert plain[0] == plain[1]
            assert before.source_digest == found[0].source_digest
            comparison.discard(state)
            assert not list((env.directory / "store").rglob("runs/0/**/*.parquet"))

    await asyncio.to_thread(check)


async def test_a_first_load_and_lint(tmp_path: Path) -> None:
    """Without members there are no files to read. The lint of all tasks is that of one run."""
    rows: list[Row] = [("NULL", 1, None), ("N/A", 1, ["t" * 300]), ("u1", 1, None), ("u1", 2, None)]

    def check(env: SyncEnv) -> None:
        with duckdb.connect() as connection, cluster(env) as one:
            frame = Frame.of(connection, rows)
            comparison = attrs.evolve(
                one.comparison, record=attrs.evolve(one.comparison.record, key="0" * 16, members=0)
            )
            first = attrs.evolve(one, comparison=comparison)
            staged = comparison.load(one.state, first.summaries(frame))
            assert (staged.counts.kept, staged.counts.duplicate) == (3, 1)
            assert str(staged.lint) == "1 words that match no user (NULL, undefined), 1 placeholders (N/A)"
            assert set(staged.lint.sample) == {"NULL", "N/A"}
            assert "1 with a tag of more than" in str(staged.attribute_lint)
            comparison.discard(one.state)
            for options in ({"lints": False}, {"limit": None}):
                parts = attrs.evolve(first, **options).summaries(frame)
                assert not any(part.attribute_lint.counts for part in parts)
                assert any(part.lint.counts for part in parts) is ("limit" in options)

    async with sync_env(tmp_path) as env:
        env.target, env.store = INSTALLS, store_url(tmp_path)
        with duckdb.connect() as connection:
            await env.sync(Frame.of(connection, [("u1", 1, None)]).whole())
        await asyncio.to_thread(check, env)


async def test_parts_that_do_not_add_up_are_refused(env: SyncEnv) -> None:
    """An executor that reads another state, or a source that differs between two reads, is an error."""

    def check() -> None:
        with duckdb.connect() as connection, cluster(env) as one:
            parts = one.summaries(Frame.of(connection, recorded()))
            assert {part.path for part in parts} == {None}
            without_members = [attrs.evolve(part, members=0) for part in parts]
            with pytest.raises(SourceError, match="the tasks read 0 members, but the state records"):
                one.comparison.load(one.state, without_members)
            without_notes = [attrs.evolve(part, notes=()) for part in parts]
            with pytest.raises(SourceError, match="the tasks read 0 rows and found"):
                one.comparison.load(one.state, without_notes)
            one.comparison.discard(one.state)

    await asyncio.to_thread(check)


def test_the_columns_are_known_before_a_job() -> None:
    """The rules for columns are those of all sources. A missing one is an invalid argument."""

    def pick(names: list[str], **columns: Any) -> list[str]:
        source = Source(location=IterableSource(items=()), **columns)
        return pick_columns(source, IdType.CUSTOM_IDS, names, "<dataframe>")

    assert pick(["plan", "User_ID", "age"], attributes=["age"]) == ["User_ID", "age"]
    assert pick(["a", "b", "t"], id_column="2", tags_column="t") == ["b", "t"]
    for names, columns in (
        (["plan", "age"], {}),
        (["id", "user_id"], {}),
        (["id"], {"id_column": "uid"}),
        (["id"], {"attributes": ["age"]}),
        (["id"], {"tags_column": "tags"}),
    ):
        with pytest.raises(InvalidInputError, match=r"<dataframe>: no .*column"):
            pick(names, **columns)
