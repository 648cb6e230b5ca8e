"""What a state says of itself: read from its file or, while a run has that open, from what the run wrote."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Sequence
from pathlib import Path

import attrs
import cattrs
import cattrs.preconf.orjson
import orjson

from .._errors import LockedError, StateError
from ._history import Run, RunOutcome, last_successes, latest_runs, list_runs
from ._journal import Journal
from ._state import AudienceRecord, State, resolved, sibling_path

_FORMAT = 2
_RUNS = 50

_converter = cattrs.preconf.orjson.make_converter(forbid_extra_keys=True)


@attrs.frozen(kw_only=True)
class AudienceStatus:
    """An audience at a glance.

    Attributes:
        name: Its name.
        key: Its key in the state, as its runs have it.
        target: Its app or project, by the config's name, or else by kind and digits.
        members: Members as last settled.
        known: Whether its members are known at all.
        last_success: When its last complete run ended; UTC; None if there was none.
        last_run: Its latest run.
        outcome: How that ended; None while it has not, or was killed.
        open_run: The run that is not settled, always the latest; None if all are.
        open_ids: Ids of that run by the state of their chunk.
    """

    name: str
    key: str
    target: str
    members: int
    known: bool
    last_success: dt.datetime | None
    last_run: int
    outcome: RunOutcome | None
    open_run: int | None
    open_ids: dict[str, int]


@attrs.frozen(kw_only=True)
class Status:
    """A state at a glance.

    Attributes:
        written: When; UTC.
        live: Whether a run has the state open: then this is what it wrote last.
        audiences: The audiences that ever had a run, by name.
        runs: The latest runs, the latest first.
    """

    written: dt.datetime
    live: bool
    audiences: tuple[AudienceStatus, ...]
    runs: tuple[Run, ...]


def take_status(state: State, *, running: Sequence[Journal] = ()) -> Status:
    """Look at an open state.

    Args:
        state: The state.
        running: The journals of the runs that go on; they know what reading the file would tell.
    """
    journals, latest = {journal.key: journal for journal in running}, latest_runs(state)
    successes = last_successes(state)
    return Status(
        written=state.now(),
        live=False,
        audiences=tuple(
            AudienceStatus(
                name=audience.name,
                key=audience.key,
                target=latest[audience.key].target,
                members=audience.members,
                known=audience.known,
                last_success=successes.get(audience.key),
                last_run=latest[audience.key].run,
                outcome=latest[audience.key].outcome,
                open_run=audience.open_run,
                open_ids=_open_ids(state, audience, journals),
            )
            for audience in state.audiences()
        ),
        runs=tuple(list_runs(state, limit=_RUNS)),
    )


def _open_ids(state: State, audience: AudienceRecord, journals: dict[str, Journal]) -> dict[str, int]:
    """Return the ids of an audience's open run by the state of their chunk."""
    journal = journals.get(audience.key)
    if journal is None and audience.open_run is not None:
        journal = Journal.resume(state, audience)
    return {} if journal is None else {at.value: ids for at, ids in sorted(journal.counts().items())}


def write_status(path: Path, status: Status) -> None:
    """Write a status beside a state, mode 0600 and at once, for whoever asks while the state is open.

    Args:
        path: The state file.
        status: What to say.

    Raises:
        StateError: It could not be written.
    """
    target, draft = sibling_path(path, ".status.json"), sibling_path(path, ".status.tmp")
    text = orjson.dumps({"format": _FORMAT, **_converter.unstructure(attrs.evolve(status, live=True))})
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123  # a descriptor
            file.write(text)
        draft.replace(target)
    except OSError as exc:
        msg = f"its status file cannot be written ({exc.strerror}); check the directory and its free space"
        raise StateError(msg, path=str(path), reason="failed") from exc


def read_status(path: Path) -> Status:
    """Return the status of a state, whether it is open elsewhere or not.

    Args:
        path: The state file.

    Raises:
        LockedError: It is open elsewhere, by a process that has not said yet how it stands.
        StateError: There is none, it cannot be read or has another version.
    """
    try:
        with State.read(path) as state:
            return take_status(state)
    except LockedError:
        written = _read_written(sibling_path(resolved(path), ".status.json"))
        if written is None:
            raise
        return written


def _read_written(path: Path) -> Status | None:
    """Read what a run wrote; None where it wrote nothing that can be read."""
    try:
        document = orjson.loads(path.read_bytes())
        if not isinstance(document, dict) or document.pop("format", None) != _FORMAT:
            return None
        return _converter.structure(document, Status)
    except (OSError, ValueError, TypeError, cattrs.BaseValidationError):
        return None
