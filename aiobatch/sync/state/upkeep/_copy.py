"""Copies of a state: from a file to object storage, and back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import attrs

from ....errors import InvalidInputError
from ..._errors import StateError
from ..._options import DEFAULT_MEMORY_LIMIT
from .._chunks import Chunk, ChunkState
from .._journal import Journal, read_transitions
from .._state import AudienceRecord, State, sibling_path
from ..ledger._ledger import Hold, StateLocation, StateUrl
from ..ledger._scratch import Scratch
from ..objects._head import HeadFile
from ..objects._layout import Place, find_places
from ..objects._load import Loader
from ..objects._object_ledger import ObjectLedger
from ..objects._open import open_store
from ..objects._open_state import to_location
from ..objects._root import create_root, read_root
from ..objects._store import ObjectStore

_WHAT: Final = "state copy"
# Runs that a copy has at most.
_ALL_RUNS: Final = 1_000_000
# A copy makes no request to Batch, so no time of its lease is left for one.
_REQUEST: Final = 1.0


async def copy_state(source: StateLocation | str, target: StateLocation | str) -> int:
    """Copy a state with all of its audiences, runs and open chunks. Nothing is sent, and the source stays.

    If a copy to object storage is interrupted, repeat it: audiences that are complete are left out.

    Args:
        source: The state: a file, or a URL such as `s3://bucket/prefix`. No run may have it open.
        target: The copy: a URL if the source is a file, and a file that does not exist if it is a URL.

    Returns:
        The number of audiences.

    Raises:
        LockedError: A run has the source open, or an audience of it.
        StateError: The source does not exist, the target has another state, or one of them cannot be used.
        InvalidInputError: Both are files, or both are URLs, or one is invalid.
    """
    origin, goal = to_location(source), to_location(target)
    if isinstance(origin, Path) and isinstance(goal, StateUrl):
        return await _to_store(origin, await asyncio.to_thread(open_store, goal.text))
    if isinstance(origin, StateUrl) and isinstance(goal, Path):
        return await _to_file(await asyncio.to_thread(open_store, origin.text), goal)
    msg = "A state is copied from a file to a URL, or from a URL to a file."
    raise InvalidInputError(msg)


# -- to object storage --------------------------------------------------------------------------------------


async def _to_store(path: Path, store: ObjectStore) -> int:
    ledger = await asyncio.to_thread(lambda: _ledger_of(_open_file(path), store))
    state = ledger.state
    try:
        await asyncio.to_thread(_create_root, state, store)
        audiences = await asyncio.to_thread(state.audiences)
        for record in audiences:
            hold = Hold(scope=record.target_digest, key=record.key, what=_WHAT, request_timeout=_REQUEST)
            try:
                await ledger.acquire(hold)
                await asyncio.to_thread(_upload, ledger, record)
            finally:
                await ledger.release(record.key)
        return len(audiences)
    finally:
        await asyncio.to_thread(state.close)
        await asyncio.to_thread(ledger.close)


def _ledger_of(state: State, store: ObjectStore) -> ObjectLedger:
    return ObjectLedger(state, store, Scratch.create(_WHAT))


def _open_file(path: Path) -> State:
    if not path.exists():
        msg = "it does not exist: nothing was synced with it yet."
        raise StateError(msg, path=str(path), reason="missing")
    return State.open(path, what=_WHAT)


def _create_root(state: State, store: ObjectStore) -> None:
    """Create the root of a copy, unless an earlier try has."""
    found = read_root(store)
    if found is not None and found[0] != state.state_id:
        msg = "it has another state already. Choose an empty prefix."
        raise StateError(msg, path=store.url, reason="foreign")
    if found is None:
        (last,) = state.row("SELECT coalesce(max(run), 0) FROM runs")
        create_root(store, state.state_id, last)


def _upload(ledger: ObjectLedger, record: AudienceRecord) -> None:
    """Upload one audience, unless it is there."""
    head = ledger.read_head(record.key)
    if head is not None:
        newest = max((row["run"] for row in head.history), default=0)
        (last,) = ledger.state.row("SELECT max(run) FROM runs WHERE key = ?", [record.key])
        if (head.generation, newest) != (record.generation, last):
            msg = f"it has another record of audience {record.name!r}. Choose an empty prefix."
            raise StateError(msg, path=ledger.store.url, reason="foreign")
        return
    ledger.forget(record.key)  # what an interrupted copy left
    ledger.upload_reports(record.key)
    ledger.note_changes(record.key, None)
    journal = Journal.resume(ledger.state, record)
    if journal is None:
        ledger.save(record.key)
        return
    planned, halves = _split_up(list(journal.chunks.values()))
    transitions = read_transitions(ledger.state, journal.run)
    ledger.begin(record.key, journal.run, planned, history=(transitions, halves))


def _split_up(chunks: list[Chunk]) -> tuple[list[Chunk], list[Chunk]]:
    """Return the chunks of a plan, and those that were split from them."""
    split = [one for one in chunks if one.state is ChunkState.SPLIT]
    halves = [
        one
        for one in chunks
        if any(whole.n < one.n and whole.first <= one.first and one.past <= whole.past for whole in split)
    ]
    return [one for one in chunks if one not in halves], halves


# -- to a file ----------------------------------------------------------------------------------------------


async def _to_file(store: ObjectStore, path: Path) -> int:
    """Load all audiences into a draft beside the file, and rename it at the end."""
    found = await asyncio.to_thread(read_root, store)
    if found is None:
        msg = "it does not exist: nothing was synced with it yet."
        raise StateError(msg, path=store.url, reason="missing")
    if await asyncio.to_thread(path.exists):
        msg = "it exists already. Choose a path without a file."
        raise StateError(msg, path=str(path), reason="failed")
    await asyncio.to_thread(path.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
    draft = sibling_path(path, ".draft")
    copy = _Download(store=store, draft=draft, identity=found)
    try:
        await asyncio.to_thread(copy.open)
        try:
            places = await asyncio.to_thread(lambda: list(find_places(store)))
            for place in places:
                await copy.load(place)
        finally:
            await asyncio.to_thread(copy.close)
        await asyncio.to_thread(draft.replace, path)
        return len(places)
    finally:
        for suffix in ("", ".lock", ".wal"):
            await asyncio.to_thread(sibling_path(draft, suffix).unlink, missing_ok=True)


@attrs.define(kw_only=True)
class _Download:
    """A state file that is filled from a store.

    Attributes:
        store: The store.
        draft: The file.
        identity: The state's ID and the number of its last run.
    """

    store: ObjectStore
    draft: Path
    identity: tuple[str, int]
    _state: State = attrs.field(init=False)
    _ledger: ObjectLedger = attrs.field(init=False)

    def open(self) -> None:
        self._state = State.open(self.draft, what=_WHAT, memory_limit=DEFAULT_MEMORY_LIMIT)
        self._ledger = _ledger_of(self._state, self.store)
        state_id, last = self.identity
        with self._state.transaction():
            self._state.rows("UPDATE aiobatch_state SET state_id = ?", [state_id])
            self._state.rows(f"CREATE OR REPLACE SEQUENCE run_numbers START {last + 1}")
        self._state.state_id = state_id

    async def load(self, place: Place) -> None:
        """Load an audience that no run has."""
        hold = Hold(scope=place.scope, key=place.key, what=_WHAT, request_timeout=_REQUEST)
        try:
            await self._ledger.acquire(hold)
            await asyncio.to_thread(self._load, place)
        finally:
            await self._ledger.release(place.key)

    def _load(self, place: Place) -> None:
        head = HeadFile(self.store, place).read()
        assert head is not None  # noqa: S101 - the place was found by its head, and its lease is held
        loader = Loader(self._state, self.store, self._ledger.scratch.path)
        loader.load(place, head, members=True)
        loader.fetch_changes(head.undo)
        loader.load_reports(place, head, limit=_ALL_RUNS, run=None)

    def close(self) -> None:
        self._state.close()
        self._ledger.close()
