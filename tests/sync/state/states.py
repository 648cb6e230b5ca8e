"""Sources, plans and runs in a state, for the tests of `sync/state`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import orjson
import pytest

from aiobatch._secret import Secret
from aiobatch.sync._guard import Overrides
from aiobatch.sync._options import Mode
from aiobatch.sync._plan import Plan
from aiobatch.sync.state._chunks import ChunkState
from aiobatch.sync.state._diff import PlanRequest, make_plan
from aiobatch.sync.state._history import Run, RunEnding, RunOutcome
from aiobatch.sync.state._journal import Journal
from aiobatch.sync.state._state import AudienceRecord, State
from aiobatch.sync.state._targets import TargetKey, get_or_create_audience
from aiobatch.sync.state.partitions import _keys

from ..steps import mark_applied, mark_sending, mark_sent

Source = Iterable[str] | Mapping[str, Mapping[str, object] | None]
APP = TargetKey("app", Secret("app-key"))
ANYTHING = Overrides(allow_removals=10**9, allow_empty=True)


def open_state(path: Path) -> State:
    """Open a state with little memory and one thread."""
    return State.open(path, what="test", memory_limit="200MB", threads=1)


@contextlib.contextmanager
def in_partitions_of(rows: int) -> Iterator[None]:
    """Compare in partitions of this many rows, as little memory would require."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_keys, "rows_in_memory", lambda _state: rows)
        patch.setattr(_keys, "_SPILLED", 1)
        yield


def vip(state: State) -> AudienceRecord:
    """Return the audience that most tests use."""
    return get_or_create_audience(state, APP, "vip")


def stage(state: State, source: Source, *, tags: list[str] | None = None) -> None:
    """Create the table of a staged source. A mapping adds attributes."""
    attributes = source if isinstance(source, Mapping) else dict.fromkeys(source)
    texts = [None if value is None else orjson.dumps(value).decode() for value in attributes.values()]
    state.connection.execute(
        """CREATE OR REPLACE TEMP TABLE staged AS
        SELECT id, md5_number(? || id) AS key, attributes, CASE WHEN ? THEN ?::VARCHAR[] END AS tags,
            CASE WHEN attributes IS NULL THEN 0 ELSE hash(attributes) END::UBIGINT AS fingerprint
        FROM (SELECT unnest(?::VARCHAR[]) AS id, unnest(?::VARCHAR[]) AS attributes)""",
        [_keys.salt_of(state), tags is not None, tags or [], list(attributes), texts],
    )


def plan(
    state: State,
    source: Source,
    mode: Mode = Mode.MIRROR,
    *,
    size: int = 3,
    target: TargetKey = APP,
    name: str = "vip",
) -> Plan:
    """Plan a source in small chunks, with a guard that allows everything."""
    stage(state, source)
    request = PlanRequest(mode=mode, source="users.csv", overrides=ANYTHING, chunk_size=size)
    return make_plan(state, get_or_create_audience(state, target, name), request)


def apply_all(journal: Journal) -> None:
    """Record that all planned chunks are sent and APPLIED."""
    for chunk in journal.in_state(ChunkState.PLANNED):
        mark_sending(journal, [chunk.n])
        mark_sent(journal, chunk.n, f"vip:update:t{chunk.n}")
        mark_applied(journal, [chunk.n])


def sync(state: State, source: Source, mode: Mode = Mode.MIRROR, *, size: int = 3) -> Run:
    """Complete a run without errors."""
    journal = Journal.begin(state, plan(state, source, mode, size=size))
    apply_all(journal)
    return journal.close(RunEnding(outcome=RunOutcome.DONE, calls=len(journal.chunks), retries=0))


def members(state: State) -> set[str]:
    """Return the members in the state."""
    rows = state.rows("SELECT id FROM {members}", members=f"members_{vip(state).key}")
    assert len(rows) == len(set(rows))
    return {id_ for (id_,) in rows}
