from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import attrs
import orjson
import pytest

from aiobatch.sync import StateError
from aiobatch.sync.state.objects._gc import collect_from
from aiobatch.sync.state.objects._head import Head, HeadFile, MemberFile
from aiobatch.sync.state.objects._layout import Place
from aiobatch.sync.state.objects._lease import Lease
from aiobatch.sync.state.objects._open import open_store
from aiobatch.sync.state.objects._root import PATH as ROOT
from aiobatch.sync.state.objects._root import open_root
from aiobatch.sync.state.objects._run_log import RunLog
from aiobatch.sync.state.objects._store import ListedObject, ObjectStore
from aiobatch.sync.state.objects.stores._memory import MemoryStore
from aiobatch.testing import FakeClock

from .test_lease import inline

PLACE = Place("0123456789abcdef", "fedcba9876543210")


def new_head(**fields: Any) -> Head:
    """Return a head."""
    return Head(epoch=1, state_id="s", scope=PLACE.scope, key=PLACE.key, name="vip", target="app", **fields)


def new_store() -> MemoryStore:
    """Return a store with the root of a state."""
    store = MemoryStore()
    open_root(store)
    return store


def put(store: ObjectStore, *paths: str) -> None:
    """Create objects."""
    for path in paths:
        store.create(path, path.encode())


def paths(store: ObjectStore) -> set[str]:
    """Return the paths of all objects."""
    return {one.path for one in store.list("")}


def test_only_what_is_named_is_kept(store: ObjectStore) -> None:
    """Old members, uploads of killed processes and settled runs go. The rest stays, and so does the root."""
    base, delta = PLACE.new_members(1, "base"), PLACE.new_members(2, "delta")
    run, old = PLACE.run(7), PLACE.run(6)
    changes = run.new_changes()
    head = new_head(base=MemberFile(path=base, rows=1, run=6), open_run=7)
    HeadFile(store, PLACE).commit(attrs.evolve(head, deltas=(MemberFile(path=delta, rows=1, run=7),)))
    RunLog(store, PLACE, 7).create_plan({"chunks": [], "changes": [changes]})
    open_root(store)
    notes = f"{PLACE.prefix}members/notes.txt"
    kept = {base, delta, changes, run.transition(1, 0), old.report, "a/b/of-another-program", notes}
    put(store, *kept)
    put(
        store,
        PLACE.new_members(1, "base"),
        run.new_changes(),
        old.plan,
        old.new_changes(),
        old.transition(1, 0),
    )
    found = asyncio.run(collect_from(store))
    assert (found.objects, found.busy) == (5, 0)
    assert found.size > 0
    assert paths(store) == kept | {ROOT, PLACE.lease, PLACE.head, run.plan}
    again = asyncio.run(collect_from(store))
    assert again.objects == 0


async def test_a_late_head_cannot_name_what_was_deleted() -> None:
    """A head that an earlier holder wrote before the collection, and that arrives after it, is refused."""
    store = new_store()
    late = HeadFile(store, PLACE)
    late.commit(new_head())
    path = PLACE.new_members(1, "base")
    put(store, path)
    await collect_from(store, clock=FakeClock(), in_thread=inline)
    assert path not in paths(store)
    with pytest.raises(StateError, match="another process"):
        late.commit(new_head(base=MemberFile(path=path, rows=1, run=1)))


async def test_a_busy_audience_is_left_out() -> None:
    """The objects of a run in progress stay."""
    store, clock = new_store(), FakeClock()
    HeadFile(store, PLACE).commit(new_head())
    put(store, PLACE.new_members(1, "base"))
    before = paths(store) | {PLACE.lease}
    lease = await Lease(store, PLACE, "sync vip", margin=5, clock=clock, in_thread=inline).acquire()
    found = await collect_from(store, clock=clock, in_thread=inline)
    assert (found.objects, found.busy) == (0, 1)
    assert paths(store) == before
    await lease.release()


@attrs.define(eq=False)
class DatedStore(MemoryStore):
    """A store whose clock shows that some objects are old."""

    old: set[str] = attrs.field(factory=set)

    def list(self, prefix: str) -> Any:
        """Return the objects with their dates."""
        for one in MemoryStore.list(self, prefix):
            yield ListedObject(one.path, one.size, 0.0 if one.path in self.old else 100_000.0)


async def test_without_a_head_only_old_objects_go() -> None:
    """A first run may be about to write its head, so that its objects stay for a day."""
    store = DatedStore()
    open_root(store)
    store.old = {PLACE.run(1).plan}
    put(store, PLACE.run(1).plan, PLACE.run(2).plan)
    found = await collect_from(store, clock=FakeClock(), in_thread=inline)
    assert found.objects == 1
    assert paths(store) == {ROOT, PLACE.lease, PLACE.run(2).plan}


async def test_old_drafts_of_a_directory_go(tmp_path: Path) -> None:
    """A file that a killed process did not complete is deleted after a day."""
    store = await asyncio.to_thread(open_store, f"file://{tmp_path}/state")
    await asyncio.to_thread(open_root, store)
    drafts = tmp_path / "state" / ".drafts"
    for name in ("old", "new"):
        (drafts / name).write_bytes(b"1234")
    os.utime(drafts / "old", (0, 0))
    found = await collect_from(store)
    assert (found.objects, found.size) == (1, 4)
    assert await asyncio.to_thread(paths, store) == {ROOT, ".drafts/new"}


async def test_a_foreign_head_stops_the_collection() -> None:
    """Nothing is deleted beside a head of another format."""
    store = new_store()
    put(store, PLACE.new_members(1, "base"))
    store.create(PLACE.head, orjson.dumps({"format": 99}))
    with pytest.raises(StateError, match="format 99"):
        await collect_from(store, clock=FakeClock(), in_thread=inline)
    assert len(paths(store)) == 4


async def test_without_a_state_nothing_is_touched() -> None:
    """A wrong prefix is an error: its objects belong to other programs."""
    store = MemoryStore()
    put(store, "photos/2026/1.jpg", PLACE.run(1).plan)
    with pytest.raises(StateError, match="no state here") as caught:
        await collect_from(store, clock=FakeClock(), in_thread=inline)
    assert caught.value.reason == "missing"
    assert len(paths(store)) == 2
