"""The status of a state: read from its file or, while a run has it open, from the run's status file."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import attrs
import cattrs
import cattrs.preconf.orjson
import orjson

from ...options import App, Project
from .._errors import LockedError, StateError, UnknownRunError
from .._private_files import replace_private
from ._history import Run, RunOutcome, last_successes, latest_runs, list_runs, show_run
from ._journal import Journal
from ._state import AudienceRecord, State, resolved, sibling_path
from ._targets import TargetKey, target_names
from .ledger._ledger import StateLocation
from .objects._open_state import read_state

_FORMAT = 5
# Only the latest runs: the file is written every few seconds.
_RUNS = 50

_converter = cattrs.preconf.orjson.make_converter(forbid_extra_keys=True)


@attrs.frozen(kw_only=True)
class AudienceStatus:
    """The status of an audience.

    Attributes:
        audience: Its name.
        key: Its key in the state, the same as in its runs.
        target: The app's or project's name in the config, or its kind and digits.
        members: Number of recorded members.
        known: Whether its members are known.
        last_success: When its last successful run ended, in UTC. None if there was none.
        last_run: Its latest run.
        outcome: How that run ended. None if it has not ended, or was killed.
        open_run: The run that is not settled, always the latest. None if all are.
        open_ids: Number of IDs of that run by the state of their chunk.
    """

    audience: str
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
    """The status of a state.

    Attributes:
        written: When it was taken, in UTC.
        live: Whether a run is in progress. A state file is open then, and this is what the run wrote last.
        audiences: The audiences that have runs, by name.
        runs: The latest runs, latest first.
        held: The keys of the audiences that processes hold, of a state on object storage. None: of a state
            file, a run has all of them.
    """

    written: dt.datetime
    live: bool
    audiences: tuple[AudienceStatus, ...]
    runs: tuple[Run, ...]
    held: tuple[str, ...] | None = None

    def is_live(self, key: str | None) -> bool:
        """Return whether a run of an audience is in progress, or may be.

        Args:
            key: The audience's key. None if it is unknown.
        """
        return self.live if self.held is None else key in self.held

    def audiences_of(self, target: App | Project) -> dict[str, AudienceStatus]:
        """Return the audiences of an app or project by name."""
        key = TargetKey.of(target)
        return {one.audience: one for one in self.audiences if one.key == key.audience_key(one.audience)}


def take_status(state: State, *, running: Sequence[Journal] = ()) -> Status:
    """Return the status of an open state.

    Args:
        state: The state.
        running: The journals of the runs in progress, which spare reading them from the file.
    """
    journals, latest = {journal.key: journal for journal in running}, latest_runs(state)
    successes = last_successes(state)
    return Status(
        written=state.now(),
        live=False,
        audiences=tuple(
            AudienceStatus(
                audience=audience.name,
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
    journal = journals.get(audience.key)
    if journal is None and audience.open_run is not None:
        journal = Journal.resume(state, audience)
    return {} if journal is None else {at.value: ids for at, ids in sorted(journal.counts().items())}


def write_status(path: Path, status: Status) -> None:
    """Write the status file of a state, with mode 0600, for readers while the state is open.

    Raises:
        StateError: If it could not be written.
    """
    text = orjson.dumps({"format": _FORMAT, **_converter.unstructure(attrs.evolve(status, live=True))})
    try:
        replace_private(sibling_path(path, ".status.json"), text)
    except OSError as exc:
        reason = f"{str(exc.filename)!r}: {exc.strerror}"
        msg = f"its status file cannot be written ({reason}). Check the directory and its free space."
        raise StateError(msg, path=str(path), reason="failed") from exc


def read_status(path: StateLocation) -> Status:
    """Return the status of a state, even if a run has it open.

    Args:
        path: The state.

    Raises:
        LockedError: If a process has it open and has not written a status yet.
        StateError: If it does not exist, cannot be read or has another version.
    """
    try:
        with read_state(path) as state:
            status, held = take_status(state), state.ledger.held_keys(state.now())
            return status if held is None else attrs.evolve(status, live=bool(held), held=held)
    except LockedError:
        assert isinstance(path, Path)  # noqa: S101 - only a file can be locked for readers
        written = _read_file(sibling_path(resolved(path), ".status.json"))
        if written is None:
            raise
        return written


def _read_file(path: Path) -> Status | None:
    """Return the content of a status file. None if it cannot be read."""
    try:
        document = orjson.loads(path.read_bytes())
        if not isinstance(document, dict) or document.pop("format", None) != _FORMAT:
            return None
        return _converter.structure(document, Status)
    except (OSError, ValueError, TypeError, cattrs.BaseValidationError):
        return None


@attrs.frozen(kw_only=True)
class RunHistory:
    """Runs that a state holds.

    Attributes:
        runs: The runs, newest first.
        targets: The names of all apps and projects that have runs in the state.
        live: Whether another process has the state open. The runs are then from its last status.
    """

    runs: tuple[Run, ...]
    targets: tuple[str, ...]
    live: bool = False

    @classmethod
    def read(cls, state: State, *, name: str | None, limit: int) -> Self:
        """Return the runs of an open state."""
        runs = list_runs(state, name=name, limit=limit)
        return cls(runs=tuple(runs), targets=tuple(target_names(state).values()))


def read_runs(path: StateLocation, *, name: str | None, limit: int) -> RunHistory:
    """Return runs of a state, whether another process has it open or not.

    Args:
        path: The state.
        name: An audience's name, in any target. None: all audiences.
        limit: The number of runs at most.

    Raises:
        LockedError: Another process has it open, and has not written its status yet.
        StateError: There is none, or it cannot be read.
    """
    try:
        with read_state(path, limit=limit) as state:
            return RunHistory.read(state, name=name, limit=limit)
    except LockedError:
        status = read_status(path)
        runs = [run for run in status.runs if name in {None, run.audience}][:limit]
        targets = dict.fromkeys(audience.target for audience in status.audiences)
        return RunHistory(runs=tuple(runs), targets=tuple(targets), live=status.live)


def read_run(path: StateLocation, number: int) -> Run:
    """Return one run of a state, whether another process has it open or not.

    Raises:
        UnknownRunError: There is no such run, or it is not among the latest while another process writes.
        LockedError: Another process has the state open, and has not written its status yet.
        StateError: There is none, or it cannot be read.
    """
    try:
        with read_state(path, run=number) as state:
            return show_run(state, number)
    except LockedError:
        found = next((run for run in read_status(path).runs if run.run == number), None)
        if found is None:
            msg = f"Run {number} is not among the latest. Older runs cannot be read during a run. Try later."
            raise UnknownRunError(msg, run=number) from None
        return found
