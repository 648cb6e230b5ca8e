"""A note of the state that changed an audience last: it finds the state, and reveals an older copy of it.

The note is beside the audience's lock, which all copies of a state on one machine share. It names a run by
its number and start, which a copy that was made before the run does not contain.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import attrs
import orjson

from ...errors import Remedy
from .._errors import StateError
from .._private_files import replace_private
from ..state._lock import audience_note_path
from ..state._run_changes import NO_OP_RUNS
from ..state._state import State
from ..state.ledger._ledger import StateLocation
from ..state.objects._open_state import to_location

_LAST_CHANGE: Final = f"""
SELECT run, started FROM runs WHERE key = ? AND NOT {NO_OP_RUNS} ORDER BY run DESC LIMIT 1
"""


@attrs.frozen(kw_only=True)
class StateNote:
    """The state that changed an audience last.

    Attributes:
        location: Where it is.
        state_id: Its ID, which its copies have as well.
        run: The last run that sent or adopted anything. None if none did.
        started: When that run started, in UTC.
    """

    location: StateLocation
    state_id: str
    run: int | None = None
    started: str | None = None

    @classmethod
    def read(cls, key: str, base_url: str) -> Self | None:
        """Return the note of an audience. None if there is none that can be read.

        Args:
            key: The audience's key.
            base_url: The address of Batch.
        """
        try:
            fields = orjson.loads(audience_note_path(key, base_url).read_bytes())
            location, run = to_location(fields["state"]), fields["run"]
            run = None if run is None else int(run)
            return cls(location=location, state_id=fields["state_id"], run=run, started=fields["started"])
        except (OSError, ValueError, LookupError, TypeError):
            return None

    @classmethod
    def of(cls, state: State, key: str) -> Self:
        """Return the note of an audience in an open state."""
        rows = state.rows(_LAST_CHANGE, [key])
        run, started = (rows[0][0], rows[0][1].isoformat()) if rows else (None, None)
        return cls(location=state.ledger.location, state_id=state.state_id, run=run, started=started)


def note_state(state: State, key: str, base_url: str) -> None:
    """Note which state an audience's runs use, and its last run.

    Args:
        state: The open state. The audience's lock is held.
        key: The audience's key.
        base_url: The address of Batch.
    """
    note = StateNote.of(state, key)
    if StateNote.read(key, base_url) != note:
        fields = attrs.asdict(note, recurse=False) | {"state": str(note.location)}
        del fields["location"]
        with suppress(OSError):  # a home that is read-only
            replace_private(audience_note_path(key, base_url), orjson.dumps(fields))


def forget_note(key: str, base_url: str) -> None:
    """Delete the note of an audience whose record was deleted."""
    with suppress(OSError):
        audience_note_path(key, base_url).unlink(missing_ok=True)


def check_not_older(state: State, key: str, base_url: str, name: str) -> None:
    """Raise StateError if another copy of a state has changed an audience since this one was made.

    Args:
        state: The open state. The audience's lock is held.
        key: The audience's key.
        base_url: The address of Batch.
        name: The audience's name.

    Raises:
        StateError: This copy lacks the last run, so that its recorded members are not the audience's.
    """
    note = StateNote.read(key, base_url)
    if note is None or note.run is None or note.state_id != state.state_id:
        return
    found = state.rows("SELECT started FROM runs WHERE run = ? AND key = ?", [note.run, key])
    if [started.isoformat() for (started,) in found] == [note.started]:
        return
    mine, other = state.ledger.location, note.location
    has_newer = other != mine and not (isinstance(other, Path) and not other.is_file())
    advice = f" Use the other copy, {str(other)!r}." if has_newer else ""
    msg = (
        f"it lacks run {note.run} of audience {name!r}, which another copy started at {note.started} UTC. It "
        f"is an older copy or a restored backup, so its members may be wrong. Nothing was sent.{advice}"
    )
    error = StateError(msg, path=str(mine), reason="older")
    error.remedy = None if has_newer else Remedy("resync", name)
    raise error
