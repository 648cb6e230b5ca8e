"""The ledger of a state on object storage: the open state is a cache, and the objects are the truth."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from .._chunks import Chunk, ChunkTransition
from .._repair import drop_audience
from .._state import State
from ..ledger._ledger import Hold, StateLocation, StateUrl
from ..ledger._scratch import Scratch
from ._head import Head, HeadFile
from ._layout import Place
from ._lease import Lease, find_held
from ._load import Loader
from ._root import take_number
from ._run_log import Entry, RunLog
from ._save import Saver, touched_table
from ._store import ObjectStore


@attrs.define(eq=False)
class _Held:
    """An audience that this process holds.

    Attributes:
        place: The audience.
        lease: Its lease.
        file: Its head.
        log: The objects of its open run. None if there is none.
        changes: Whether all members changed, or those of the table of touched IDs. None if none did.
        refused: What `Saver.refused_mark` returned at the last save.
        intended: What `Saver.intended_mark` returned at the last save.
    """

    place: Place
    lease: Lease
    file: HeadFile
    log: RunLog | None = None
    changes: bool | None = None
    refused: tuple[Any, ...] | None = None
    intended: tuple[Any, ...] | None = None


@attrs.define(eq=False)
class ObjectLedger:
    """Makes the facts of an open state durable in a store.

    Attributes:
        state: The open state, in a private directory that may vanish at any moment.
        store: The store.
        scratch: The private directory.
    """

    state: State
    store: ObjectStore
    scratch: Scratch
    _held: dict[str, _Held] = attrs.field(init=False, factory=dict)
    # Audiences of the open state that are exactly as in their head.
    _clean: dict[str, Head | None] = attrs.field(init=False, factory=dict)

    @property
    def location(self) -> StateLocation:
        """The URL of the store."""
        return StateUrl(self.store.url)

    @property
    def is_whole(self) -> bool:
        """False: the open state has the audiences that were loaded."""
        return False

    async def acquire(self, hold: Hold) -> None:
        """Take the lease of an audience.

        Raises:
            LockedError: Another process has it.
            StateError: The store cannot be used.
        """
        place = Place(hold.scope, hold.key)
        lease = Lease(self.store, place, what=hold.what, margin=hold.request_timeout)
        self._held[hold.key] = _Held(place, await lease.acquire(), HeadFile(self.store, place))

    async def release(self, key: str) -> None:
        """Release the lease of an audience. One that is not held is ignored."""
        held = self._held.pop(key, None)
        if held is not None:
            await held.lease.release()

    def load(self, key: str, *, members: bool = True) -> None:
        """Load an audience, unless the open state has it as the store has it.

        Raises:
            LockedError: The lease is lost.
            StateError: It could not be loaded.
        """
        held = self._held[key]
        head = held.file.read()
        if head is not None and head.open_run is not None:
            # A fence: a head that an earlier holder is still writing must not settle the run meanwhile.
            held.lease.check()
            held.file.commit(attrs.evolve(head, epoch=held.lease.epoch))
            head = held.file.head
        if key in self._clean and self._clean[key] == head:
            return
        self._clean.pop(key, None)
        self._drop(key)
        if head is not None:
            held.log = Loader(self.state, self.store, self.scratch.path).load(
                held.place, head, members=members
            )
            held.refused = self._saver.refused_mark(key)
            held.intended = self._saver.intended_mark(key)
        if members:
            self._clean[key] = head

    def read_head(self, key: str) -> Head | None:
        """Return the head of an audience that is held. None if there is none."""
        return self._held[key].file.read()

    def upload_reports(self, key: str) -> None:
        """Upload the reports of all runs of an audience that the open state has and the store has not."""
        held = self._held[key]
        self._saver.reports(held.place)

    def next_run(self) -> int:
        """Return the number of a new run.

        Raises:
            StateError: The store failed.
        """
        return take_number(self.store)

    def begin(
        self,
        key: str,
        run: int,
        chunks: Sequence[Chunk],
        history: tuple[Sequence[ChunkTransition], Sequence[Chunk]] = ((), ()),
    ) -> None:
        """Store the changes, the plan and the head that names them. An empty plan is not stored.

        Args:
            key: The audience's key.
            run: The run's number.
            chunks: The chunks of its plan.
            history: What is recorded of a run that is copied: transitions, and the chunks that splits added.

        Raises:
            LockedError: The lease is lost.
            StateError: They could not be written. Nothing was sent.
        """
        held = self._held[key]
        self._clean.pop(key, None)
        if chunks:
            held.lease.check()
            log = RunLog(self.store, held.place, run)
            (size,) = self.state.row("SELECT chunk_size FROM runs WHERE run = ?", [run])
            self._saver.save_plan(log, chunks, size, {"epoch": held.lease.epoch})
            held.log = log
            self.record(key, run, *history)
            self.save(key)
            self._clean.pop(key, None)

    def record(
        self, key: str, run: int, transitions: Sequence[ChunkTransition], halves: Sequence[Chunk] = ()
    ) -> None:
        """Store transitions in one object.

        Raises:
            LockedError: The lease is lost.
            StateError: They could not be written.
        """
        held = self._held[key]
        self._clean.pop(key, None)
        if transitions:
            assert held.log is not None and held.log.run == run  # noqa: S101, PT018 - `begin` comes first
            held.lease.check()
            ranges = [(half.n, half.first, half.past) for half in halves]
            held.log.append(Entry(epoch=held.lease.epoch, transitions=transitions, halves=ranges))

    def note_changes(self, key: str, changed: Callable[[], str] | None) -> None:
        """Keep the IDs that are about to change in a temporary table."""
        held, touched = self._held[key], touched_table(key)
        held.changes = changed is None
        if changed is not None:
            query = "CREATE OR REPLACE TEMP TABLE {name} AS SELECT DISTINCT id FROM {changed}"
            self.state.rows(query, name=touched.removeprefix("temp."), changed=changed())

    def save(self, key: str) -> None:
        """Store what changed of an audience, and move its head last.

        Raises:
            LockedError: The lease is lost.
            StateError: It could not be written, or another process has moved the head.
        """
        held, record = self._held[key], self.state.audience_by_key(key)
        held.lease.check()
        self._clean.pop(key, None)
        saver, last = self._saver, held.file.head or self._new_head(held.place, record.name)
        head = saver.tables(last, record, held.lease.epoch)
        run = head.history[0]["run"] if head.history else 0
        if held.changes is not None:
            head = saver.members(held.place, head, record, run, whole=held.changes)
        if (mark := saver.refused_mark(key)) != held.refused:
            head = saver.refused(held.place, head, record, run)
        if (intended := saver.intended_mark(key)) != held.intended:
            head = saver.intended(held.place, head, record, run)
        head = saver.undo(held.place, head, record)
        if head.history and head.history != last.history and record.open_run is None:
            saver.report(held.place, head)
        held.lease.check()
        if held.file.head is None or attrs.evolve(head, epoch=last.epoch) != last:
            held.file.commit(head)
        held.changes, held.refused, held.intended = None, mark, intended
        if record.open_run is None:
            held.log = None
            self._clean[key] = held.file.head

    def fetch_changes(self, runs: Sequence[int]) -> None:
        """Fill the tables of what runs changed.

        Raises:
            StateError: They could not be read.
        """
        files = [
            file
            for held in self._held.values()
            for file in (() if held.file.head is None else held.file.head.undo)
            if file.run in runs
        ]
        Loader(self.state, self.store, self.scratch.path).fetch_changes(files)

    def load_history(self, key: str) -> None:
        """Load the runs of an audience that its head leaves out.

        Raises:
            StateError: They could not be read.
        """
        held = self._held[key]
        if held.file.head is not None:
            loader = Loader(self.state, self.store, self.scratch.path)
            loader.load_reports(held.place, held.file.head, limit=sys.maxsize, run=None)

    def forget(self, key: str) -> None:
        """Delete an audience: its head first, then the rest, except for the lease.

        Raises:
            LockedError: The lease is lost.
            StateError: It could not be deleted.
        """
        held = self._held[key]
        held.lease.check()
        self._clean.pop(key, None)
        self.store.delete([held.place.head])
        rest = [one.path for one in self.store.list(held.place.prefix) if one.path != held.place.lease]
        self.store.delete(rest)
        held.file.read()

    def check(self, key: str) -> None:
        """Raise LockedError if less than the time of a request remains of the lease."""
        self._held[key].lease.check()

    def held_keys(self, now: dt.datetime) -> tuple[str, ...]:
        """Return the keys of the audiences whose lease is being renewed, by the time of day.

        Raises:
            StateError: The store cannot be used.
        """
        return tuple(place.key for place in find_held(self.store, now.timestamp()))

    def close(self) -> None:
        """Delete the private directory."""
        self.scratch.delete()

    @property
    def _saver(self) -> Saver:
        return Saver(self.state, self.store, self.scratch.path)

    def _new_head(self, place: Place, name: str) -> Head:
        return Head(
            epoch=0, state_id=self.state.state_id, scope=place.scope, key=place.key, name=name, target=""
        )

    def _drop(self, key: str) -> None:
        """Delete an audience from the open state."""
        if self.state.rows("SELECT 1 FROM audiences WHERE key = ?", [key]):
            drop_audience(self.state, key)
