"""When Batch made and last changed an audience, as a run left it: that tells what no count does.

An audience that was deleted and made anew has other members, and a foreign write, or one with a newer copy of
this state, may leave as many as there were.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

import attrs

from ..._remedy import Remedy
from ...models import Audience
from .._errors import AudienceGoneError, ReplacedElsewhereError
from .._plan import Plan
from ._state import AudienceRecord, State

# Seconds in which Batch may note a change after it was seen to be APPLIED.
_LATE: Final = 60.0
# Seconds by which one moment may differ from itself, written twice: whoever writes it may round.
_ROUNDED: Final = 1.0

_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS last_seen (key VARCHAR NOT NULL, made TIMESTAMP, changed TIMESTAMP)"
)


@attrs.frozen
class AudienceSnapshot:
    """An audience as Batch showed it.

    Attributes:
        made: When it was made; UTC, without saying so; None where Batch did not say.
        changed: When it last changed, as above; None as well from a run's begin to its good end.
    """

    made: dt.datetime | None
    changed: dt.datetime | None


def read_snapshot(state: State, key: str) -> AudienceSnapshot:
    """Return what was noted of an audience; a state of an older aiobatch has nothing.

    Args:
        state: An open state.
        key: The audience's key.
    """
    if not _is_kept(state):
        return AudienceSnapshot(None, None)
    rows = state.rows("SELECT made, changed FROM last_seen WHERE key = ?", [key])
    return AudienceSnapshot(*rows[0]) if rows else AudienceSnapshot(None, None)


def record_start(state: State, plan: Plan, seen: Audience | None) -> None:
    """Note that a run begins, which changes the audience; members that we know of are those of one made then.

    Args:
        state: An open state.
        plan: What the run will do.
        seen: As Batch showed it; None where it was made just now.

    Raises:
        StateError: It could not be written.
    """
    made = read_snapshot(state, plan.key).made if plan.members_before else None
    if made is None and seen is not None:
        made = _plain(seen.created)
    _note(state, plan.key, AudienceSnapshot(made, None))


def record_end(state: State, key: str, seen: Audience) -> None:
    """Note how a run that came to its good end left the audience.

    Args:
        state: An open state.
        key: The audience's key.
        seen: As Batch showed it last.

    Raises:
        StateError: It could not be written.
    """
    _note(state, key, AudienceSnapshot(_plain(seen.created), _plain(seen.updated)))


def _note(state: State, key: str, seen: AudienceSnapshot) -> None:
    if seen == read_snapshot(state, key):
        return
    with state.transaction():
        state.rows(_TABLE)
        state.rows("DELETE FROM last_seen WHERE key = ?", [key])
        state.rows("INSERT INTO last_seen VALUES (?, ?, ?)", [key, seen.made, seen.changed])


def clear_snapshot(state: State, key: str) -> None:
    """Forget, within a transaction, what was noted of an audience.

    Args:
        state: An open state.
        key: The audience's key.
    """
    if _is_kept(state):
        state.rows("DELETE FROM last_seen WHERE key = ?", [key])


def _is_kept(state: State) -> bool:
    """Tell whether a state has such notes at all."""
    return bool(state.rows("SELECT 1 FROM duckdb_tables() WHERE table_name = 'last_seen'"))


def check_not_recreated(last: AudienceSnapshot, audience: AudienceRecord, seen: Audience) -> None:
    """Refuse to send a difference to an audience that lost the members which it builds on.

    Args:
        last: What was noted of the audience.
        audience: The audience as the state knows it.
        seen: As Batch shows it.

    Raises:
        AudienceGoneError: It was deleted and made anew.
    """
    made = _plain(seen.created)
    if made is None or last.made is None or abs((made - last.made).total_seconds()) <= _ROUNDED:
        return
    if audience.members or audience.open_run is not None:
        msg = (
            f"it was deleted and created again at {made:%Y-%m-%d %H:%M:%S} UTC, without the "
            f"{audience.members:,} members that the state records. Nothing was sent. Load all members again."
        )
        raise AudienceGoneError(
            msg, audience=audience.name, run=audience.open_run, remedy=Remedy("resync", audience.name)
        )


def check_not_emptied(
    last: AudienceSnapshot, audience: AudienceRecord, seen: Audience, *, least: int
) -> None:
    """Refuse to send a difference to an audience of which somebody has taken away all that it builds on.

    Args:
        last: What was noted of the audience.
        audience: The audience as the state knows it.
        seen: As Batch shows it.
        least: Members from which on the audience is worth it.

    Raises:
        ReplacedElsewhereError: Batch counts none of its members, and it has changed after our last run.
    """
    if seen.nb_ids != 0 or audience.members < max(least, 1) or foreign_change(last, seen) is None:
        return
    msg = (
        f"Batch counts 0 members, but the state records {audience.members:,}. Another writer removed them. "
        "Nothing was sent."
    )
    raise ReplacedElsewhereError(msg, audience=audience.name, remedy=Remedy("resync", audience.name))


def foreign_change(last: AudienceSnapshot, seen: Audience) -> str | None:
    """Say that somebody else changed an audience which our last run left well; None if nobody did.

    Args:
        last: What was noted of the audience.
        seen: As Batch shows it.
    """
    changed = _plain(seen.updated)
    if changed is None or last.changed is None or (changed - last.changed).total_seconds() <= _LATE:
        return None
    return (
        f"It changed at {changed:%Y-%m-%d %H:%M:%S} UTC, after the last run in this state. Another writer is "
        "active, or a run used another copy of this state."
    )


def _plain(moment: dt.datetime | None) -> dt.datetime | None:
    """Return a moment as the tables keep it."""
    return None if moment is None else moment.astimezone(dt.UTC).replace(tzinfo=None)
