"""A write outside a run: it excludes runs of its audience, and is recorded in the state of the audience."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import attrs

from ..._client import AudienceClient
from ...errors import SyncError
from ...models import Audience
from .._options import Mode
from .._sql import KEY
from ..state._audience_snapshots import clear_snapshot, record_end, record_pending
from ..state._diff import PlanRequest, clear_plan, make_plan
from ..state._history import last_mode
from ..state._lock import FileLock, audience_lock
from ..state._repair import adopt
from ..state._schema import members_table
from ..state._state import AudienceRecord, State, default_state_path
from ..state._targets import TargetKey
from ..state._thread import StateThread
from ..state.ledger._ledger import StateLocation
from ..state.partitions._keys import salt_of
from ._audience_hold import AudienceHold
from ._state_note import StateNote, check_not_older, note_state

_CREATE: Final = "CREATE OR REPLACE TEMP TABLE outside (id VARCHAR NOT NULL, added BOOLEAN NOT NULL)"
_INSERT: Final = "INSERT INTO temp.outside SELECT unnest(?::VARCHAR[]), ?"
# The members after the write. It sends no attributes, and those of a member stay as they are.
_AFTER: Final = f"""
CREATE OR REPLACE TEMP TABLE outside_members AS SELECT *, {KEY} AS key FROM (
    SELECT id, NULL::VARCHAR AS attributes, NULL::VARCHAR[] AS tags, fingerprint FROM {{members}}
    WHERE NOT ? AND id NOT IN (SELECT id FROM temp.outside)
    UNION ALL
    SELECT o.id, NULL, NULL, coalesce(m.fingerprint, 0) FROM
    (SELECT DISTINCT id FROM temp.outside WHERE added) o LEFT JOIN {{members}} m ON o.id = m.id AND NOT ?
)
"""
_MEMORY: Final = "512MB"


def _find_state(key: str, base_url: str) -> StateLocation | None:
    """Return the state that records an audience. None if there is none on this machine."""
    note = StateNote.read(key, base_url)
    location = default_state_path() if note is None else note.location
    return None if isinstance(location, Path) and not location.is_file() else location


@attrs.define(eq=False)
class OutsideWrite:
    """A write of a client outside a run, within `async with`.

    It holds the audience's lock. If a state of this machine records the audience, the state is open and gets
    the IDs that `note` collects, once `commit` is called.

    Attributes:
        client: The client, with the audience's target.
        audience: The audience's name.
        what: What the program does (`update vip`), for the error of other processes.
    """

    client: AudienceClient
    audience: str
    what: str
    _lock: FileLock = attrs.field(init=False)
    _key: str = attrs.field(init=False)
    _thread: StateThread | None = attrs.field(init=False, default=None)
    _hold: AudienceHold | None = attrs.field(init=False, default=None)
    _record: AudienceRecord | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        """Find the audience's lock."""
        self._key = TargetKey.of(self.client.target).audience_key(self.audience)
        self._lock = audience_lock(self._key, self.client.base_url)

    async def __aenter__(self) -> Self:
        """Take the lock, and open the state if there is one.

        Raises:
            LockedError: If a run holds the audience or its state.
            OpenRunError: If an earlier run may still change IDs.
            StateError: If the state cannot be used.
        """
        url = self.client.base_url
        await asyncio.to_thread(self._lock.acquire, self.what)
        try:
            if (location := await asyncio.to_thread(_find_state, self._key, url)) is not None:
                self._thread = await StateThread.open(location, what=self.what, memory_limit=_MEMORY)
                self._hold = AudienceHold(self._thread, self.client, self.audience)
                await self._hold.take(self.what, locks=False)
                self._record = await self._thread.call(_begin, self._key, url, self.audience)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Close the state and release the lock."""
        await self._close()

    async def _close(self) -> None:
        try:
            if self._hold is not None:
                await self._hold.release()
            if self._thread is not None:
                await self._thread.aclose()
        finally:
            self._lock.release()

    async def note(self, ids: list[str], *, added: bool) -> None:
        """Collect IDs that are about to be sent.

        Args:
            ids: IDs.
            added: Whether they are added. Otherwise they are removed.
        """
        if self._thread is not None and self._record is not None:
            await self._thread.run(self._thread.state.rows, _INSERT, [ids, added])

    async def commit(self, *, replaces: bool = False) -> None:
        """Record the collected IDs in the state, when Batch has accepted them.

        Args:
            replaces: Whether they are all of the members.

        Raises:
            StateError: If the state could not be written.
        """
        if self._thread is not None and self._record is not None:
            await self._thread.call(_commit, self._record, self.what, replaces)
            await self._thread.call(note_state, self._key, self.client.base_url)

    async def end(self, seen: Audience | None) -> None:
        """Record the times that the audience has after the write, so that it is not taken as foreign.

        Args:
            seen: The audience when the write was APPLIED. None if it is not known.
        """
        if self._thread is not None and self._record is not None:
            if seen is None:
                await self._thread.call(record_pending, self._key)
            else:
                await self._thread.call(record_end, self._key, seen)

    async def end_deleted(self) -> None:
        """Record that the audience is gone, without its members."""
        await self.commit(replaces=True)
        if self._thread is not None and self._record is not None:
            await self._thread.call(_clear, self._key)


def _begin(state: State, key: str, base_url: str, name: str) -> AudienceRecord | None:
    """Return the record of an audience whose members are known. None if the state cannot follow a write."""
    if not state.rows("SELECT 1 FROM audiences WHERE key = ?", [key]):
        return None
    record = state.refuse_open_run(key)
    _, replaced_in = last_mode(state, key)
    if not record.known or replaced_in is not None:
        return None
    check_not_older(state, key, base_url, name)
    state.rows(_CREATE)
    return record


def _commit(state: State, record: AudienceRecord, what: str, replaces: bool) -> None:  # noqa: FBT001 - a thread's call takes positions
    tables = {"members": members_table(record.key), "salt": salt_of(state)}
    state.rows(_AFTER, [replaces, replaces], **tables)
    request = PlanRequest(mode=Mode.ADOPT, source=f"aiobatch {what}", staged="outside_members")
    plan = make_plan(state, record, request)
    try:
        if plan.changes:
            adopt(state, plan)
    finally:
        with suppress(SyncError):  # a broken state has failed already
            clear_plan(state, record.key)


def _clear(state: State, key: str) -> None:
    with state.transaction():
        clear_snapshot(state, key)
    state.ledger.save(key)
