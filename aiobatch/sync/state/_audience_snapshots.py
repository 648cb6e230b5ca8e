"""Snapshots of audiences: when Batch created and last changed them, to detect writes by others.

The number of members does not show them all: an audience that was deleted and created again, or that another
writer changed, may have as many members as before.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

import attrs

from ...errors import Remedy
from ...models import Audience
from .._errors import AudienceGoneError, ReplacedElsewhereError
from .._plan import Plan
from ._state import AudienceRecord, State

# Seconds after APPLIED within which Batch may still change an audience's `updated`, for a run of this state.
_LATE: Final = 60.0
# Seconds by which two responses may differ on the same `created`, since Batch may round it.
_ROUNDING: Final = 1.0


@attrs.frozen
class AudienceSnapshot:
    """The times of an audience in Batch, in UTC and without a zone.

    Attributes:
        created: When it was created. None if unknown.
        updated: When it last changed. None if unknown, or since a run has begun.
    """

    created: dt.datetime | None = None
    updated: dt.datetime | None = None


def read_snapshot(state: State, key: str) -> AudienceSnapshot:
    """Return the snapshot of an audience. It is empty if none was recorded."""
    rows = state.rows("SELECT made, changed FROM last_seen WHERE key = ?", [key])
    return AudienceSnapshot(*rows[0]) if rows else AudienceSnapshot()


def snapshot_of(seen: Audience | None) -> AudienceSnapshot:
    """Return the snapshot of an audience in Batch. It is empty if Batch does not show it yet."""
    if seen is None:
        return AudienceSnapshot()
    return AudienceSnapshot(_as_stored(seen.created), _as_stored(seen.updated))


def record_start(state: State, plan: Plan, seen: AudienceSnapshot) -> None:
    """Record, within a transaction, that a run begins, which will change the audience.

    Args:
        state: An open state.
        plan: The run's plan.
        seen: The audience in Batch. Empty if it was created just now.
    """
    before = read_snapshot(state, plan.key)
    # Recorded members belong to the audience with this creation time.
    created = (before.created if plan.members_before else None) or seen.created
    if before != AudienceSnapshot(created):
        _write(state, plan.key, AudienceSnapshot(created))


def record_end(state: State, key: str, seen: Audience) -> None:
    """Record an audience's times after a run that ended well and sent anything.

    Raises:
        StateError: If it could not be written.
    """
    _record(state, key, snapshot_of(seen))
    state.ledger.save(key)


def record_pending(state: State, key: str) -> None:
    """Record that a write of this machine will change an audience at an unknown time.

    Raises:
        StateError: If it could not be written.
    """
    _record(state, key, AudienceSnapshot(read_snapshot(state, key).created))
    state.ledger.save(key)


def _record(state: State, key: str, snapshot: AudienceSnapshot) -> None:
    if snapshot != read_snapshot(state, key):
        with state.transaction():
            _write(state, key, snapshot)


def _write(state: State, key: str, snapshot: AudienceSnapshot) -> None:
    state.rows("DELETE FROM last_seen WHERE key = ?", [key])
    state.rows("INSERT INTO last_seen VALUES (?, ?, ?)", [key, snapshot.created, snapshot.updated])


def clear_snapshot(state: State, key: str) -> None:
    """Delete, within a transaction, the snapshot of an audience."""
    state.rows("DELETE FROM last_seen WHERE key = ?", [key])


def check_not_deleted(audience: AudienceRecord) -> None:
    """Raise AudienceGoneError if an audience that Batch does not have has recorded members or an open run.

    Raises:
        AudienceGoneError: If it was deleted in Batch.
    """
    if audience.members or audience.open_run is not None:
        msg = (
            f"it was deleted in Batch, but the state still records {audience.members:,} members. To load it "
            "again, forget it, then sync it with the option to create it."
        )
        remedy = Remedy("forget", audience.name)
        raise AudienceGoneError(msg, audience=audience.name, run=audience.open_run, remedy=remedy)


def check_not_recreated(last: AudienceSnapshot, audience: AudienceRecord, seen: Audience) -> None:
    """Raise AudienceGoneError if an audience lost its members because it was deleted and created again.

    Raises:
        AudienceGoneError: If it was deleted and created again.
    """
    if _is_recreated(last, seen) and (audience.members or audience.open_run is not None):
        lost = f"without the {audience.members:,} members that the state records"
        msg = (
            f"it was deleted and created again at {_as_stored(seen.created):%Y-%m-%d %H:%M:%S} UTC, "
            f"{lost if audience.members else 'while a run was not settled'}. Nothing was sent. Load all "
            "members again."
        )
        remedy = Remedy("resync", audience.name)
        raise AudienceGoneError(msg, audience=audience.name, run=audience.open_run, remedy=remedy)


def check_still_there(before: Audience, seen: Audience, *, run: int | None) -> None:
    """Raise AudienceGoneError if an audience was deleted and created again during a run.

    Args:
        before: The audience in Batch at the start of the run.
        seen: The audience in Batch now.
        run: The run's number. None if it has none.

    Raises:
        AudienceGoneError: If it was deleted and created again.
    """
    if _is_recreated(AudienceSnapshot(_as_stored(before.created)), seen):
        msg = (
            f"it was deleted and created again at {_as_stored(seen.created):%Y-%m-%d %H:%M:%S} UTC, during "
            "this run. It has lost its earlier members. Load all members again."
        )
        raise AudienceGoneError(msg, audience=seen.name, run=run, remedy=Remedy("resync", seen.name))


def _is_recreated(last: AudienceSnapshot, seen: Audience) -> bool:
    created = _as_stored(seen.created)
    if created is None or last.created is None:
        return False
    return abs((created - last.created).total_seconds()) > _ROUNDING


def check_not_emptied(
    last: AudienceSnapshot, audience: AudienceRecord, seen: Audience, *, least: int
) -> None:
    """Raise ReplacedElsewhereError if another writer has removed all members of an audience.

    Args:
        last: The audience's snapshot.
        audience: The audience's record.
        seen: The audience in Batch.
        least: Smaller audiences are not checked.

    Raises:
        ReplacedElsewhereError: If Batch counts no members, and the audience has changed after the last run.
    """
    if seen.nb_ids != 0 or audience.members < max(least, 1) or _seconds_after(last, seen) <= _ROUNDING:
        return
    msg = (
        f"Batch counts 0 members, but the state records {audience.members:,}. Another writer removed them. "
        "Nothing was sent."
    )
    raise ReplacedElsewhereError(msg, audience=audience.name, remedy=Remedy("resync", audience.name))


def foreign_change(last: AudienceSnapshot, seen: Audience) -> str | None:
    """Return a sentence about a change by another writer after the last run. None if there was none."""
    if _seconds_after(last, seen) <= _LATE:
        return None
    return (
        f"It changed at {_as_stored(seen.updated):%Y-%m-%d %H:%M:%S} UTC, after the last run in this state. "
        "Another writer is active, or a run used another copy of this state."
    )


def recent_change(last: AudienceSnapshot, seen: Audience) -> str | None:
    """Return a sentence about a change so soon after the last run that it may be its own. None if none."""
    seconds = _seconds_after(last, seen)
    if not 0 < seconds <= _LATE:
        return None
    return (
        f"It changed {seconds:.0f} s after the last run in this state. Another writer is active, a run used "
        "another copy of this state, or Batch was late."
    )


def _seconds_after(last: AudienceSnapshot, seen: Audience) -> float:
    """Return how long after the end of the last run that sent anything the audience changed."""
    updated = _as_stored(seen.updated)
    return 0.0 if updated is None or last.updated is None else (updated - last.updated).total_seconds()


def _as_stored(moment: dt.datetime | None) -> dt.datetime | None:
    return None if moment is None else moment.astimezone(dt.UTC).replace(tzinfo=None)
