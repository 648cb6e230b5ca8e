"""Attempts to sync, also those that failed before they could open the state.

They are lines of JSON beside the state, so that one can be added while the state is locked or damaged.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import hashlib
import logging
import os
import socket
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, Self

import attrs
import cattrs
import cattrs.preconf.orjson
import orjson

from .._logs import log
from .._validation import to_unicode
from ..errors import InvalidInputError
from ..options import App, Project
from ._errors import StateError
from ._options import Mode
from ._private_files import replace_private
from ._report import SyncReport, report_of
from .state._history import RunOutcome
from .state._lock import whoami
from .state._state import sibling_path
from .state._targets import TargetKey
from .state.ledger._ledger import StateLocation, StateUrl
from .state.objects._notes import read_notes, write_note
from .state.objects._open import open_store

_logger = logging.getLogger("aiobatch.sync")

# Bytes from which the file is rewritten with the latest attempts of each place, and their numbers: the second
# one is for a state of so many places that the first leaves more than half.
_LARGE: Final = 8 * 1024 * 1024
_KEPT: Final = (5, 1)

_converter = cattrs.preconf.orjson.make_converter()


def _new_attempt() -> str:
    return uuid.uuid4().hex


def _who() -> str:
    return f"{whoami()}@{socket.gethostname()}"


@attrs.frozen(kw_only=True)
class Attempt:
    """An attempt to bring an audience in line with its source. It contains no ID and no key.

    Attributes:
        attempt: Its unique name.
        command: The command or the operation of the engine, such as `sync`.
        audience: The audience's name. None if the config could not be read.
        target: The app's or project's name in the config. None for the target of the environment.
        key: The audience's key in the state. None if the keys of the target are not known.
        config: The config. None if there is none.
        who: Who made it, `user@host`.
        started: When it started, in UTC.
        ended: When it ended, in UTC. None if it is in progress, or was killed.
        exit_code: The exit code of the command, for this audience alone. None if it has not ended, or if a
            program called the engine.
        outcome: How it ended. None if it has not ended.
        error: What went wrong. None if nothing did.
        run: The number of its run in the history. None if there is none.
        source: What was read, without secrets.
        read: Rows of the source.
        kept: IDs of the source, each once.
        duplicate: Rows whose ID is in a later row as well.
        rejected: Rows that break the ID rules.
        reasons: Reason -> rows rejected for it.
        rejects: The file of the rejected rows. None if there is none.
    """

    attempt: str = attrs.field(factory=_new_attempt)
    command: str
    audience: str | None = None
    target: str | None = None
    key: str | None = None
    config: str | None = None
    who: str = attrs.field(factory=_who)
    started: dt.datetime = attrs.field(factory=lambda: dt.datetime.now(dt.UTC))
    ended: dt.datetime | None = None
    exit_code: int | None = None
    outcome: RunOutcome | None = None
    error: str | None = None
    run: int | None = None
    source: str = ""
    read: int = 0
    kept: int = 0
    duplicate: int = 0
    rejected: int = 0
    reasons: Mapping[str, int] = attrs.field(factory=dict)
    rejects: str | None = None

    def to(self, target: App | Project) -> Self:
        """Return the attempt with the key of its audience in *target*."""
        assert self.audience is not None  # noqa: S101 - a whole config has no target
        return attrs.evolve(self, key=TargetKey.of(target).audience_key(self.audience))

    def failed(self, error: str, *, exit_code: int) -> Self:
        """Return the attempt, ended by an error before there was a report."""
        now = dt.datetime.now(dt.UTC)
        return attrs.evolve(self, ended=now, exit_code=exit_code, outcome=RunOutcome.FAILED, error=error)

    def ended_by(self, end: SyncReport | BaseException, *, mode: Mode) -> Self:
        """Return the attempt of a program as it ended.

        Args:
            end: The report of the run, or what it raised.
            mode: The mode of the run.
        """
        if not isinstance(end, SyncReport):
            end = report_of(end, audience=self.audience or "", mode=mode, source=self.source)
        return self.reported(end, exit_code=None, error=end.error)

    def reported(self, report: SyncReport, *, exit_code: int | None, error: str | None) -> Self:
        """Return the attempt as it ended.

        Args:
            report: The report of the run.
            exit_code: The exit code of the command. None for a program that calls the engine.
            error: What went wrong, and what to do. None if nothing did.
        """
        names = ("outcome", "run", "source", "read", "kept", "duplicate", "rejected", "reasons", "rejects")
        values = {name: getattr(report, name) for name in names}
        return attrs.evolve(self, ended=dt.datetime.now(dt.UTC), exit_code=exit_code, error=error, **values)


def record_attempts(state: StateLocation, attempts: Iterable[Attempt], *, warns: bool = True) -> bool:
    """Add attempts to the records beside a state. If that fails, log it: a note must not fail a run.

    Args:
        state: The state. It need not exist.
        attempts: The attempts. One that was recorded before replaces its record.
        warns: Whether a failure is logged as a warning. False if one was logged when they started.

    Returns:
        Whether they were added.
    """
    try:
        if isinstance(state, StateUrl):
            _record_objects(state, attempts)
        else:
            _record_lines(state, attempts)
    except (OSError, StateError, InvalidInputError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        level = logging.WARNING if warns else logging.DEBUG
        log(_logger, level, "attempt not recorded", path=str(state), reason=reason)
        return False
    return True


def _record_lines(state: Path, attempts: Iterable[Attempt]) -> None:
    lines = b"".join(_to_json(one) + b"\n" for one in attempts)
    path = _path(state)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(path) as descriptor:
        size = os.fstat(descriptor).st_size
        # A full disk may have cut the last line.
        is_cut = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, (b"\n" if is_cut else b"") + lines)
        if size + len(lines) > _LARGE:
            _shorten(path)


def read_attempts(state: StateLocation) -> list[Attempt]:
    """Return the attempts beside a state, in the order in which they started.

    Args:
        state: The state. It need not exist.

    Raises:
        OSError: The file cannot be read.
        StateError: The store cannot be read.
        InvalidInputError: The URL is invalid, or its extra is not installed.
    """
    if isinstance(state, StateUrl):
        return _parse(read_notes(open_store(state.text)))
    try:
        return _read(_path(state))
    except FileNotFoundError:
        return []


def _to_json(attempt: Attempt) -> bytes:
    # A path may have bytes that are not UTF-8, which JSON cannot hold.
    fields = _converter.unstructure(attempt).items()
    return orjson.dumps({name: to_unicode(one) if isinstance(one, str) else one for name, one in fields})


def _path(state: Path) -> Path:
    return sibling_path(Path(os.path.realpath(state)), ".attempts")


def _read(path: Path) -> list[Attempt]:
    return _parse(path.read_bytes().splitlines())


def _parse(lines: Iterable[bytes]) -> list[Attempt]:
    found: dict[str, Attempt] = {}
    for line in lines:
        # A line that was cut, or that another version wrote, must not hide the others.
        with contextlib.suppress(ValueError, TypeError, cattrs.BaseValidationError):
            attempt = _converter.structure(orjson.loads(line), Attempt)
            found[attempt.attempt] = attempt
    return sorted(found.values(), key=lambda one: one.started)


def _record_objects(state: StateUrl, attempts: Iterable[Attempt]) -> None:
    store = open_store(state.text)
    for one in attempts:
        started = f"{one.started:%Y%m%dT%H%M%S%f}-{one.attempt}"
        parts = (one.audience, one.target, one.config if one.audience is None else None)
        place = hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()
        write_note(store, place, started, _to_json(one), keep=_KEPT[0])


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Open a file to add to it, and lock it. Another process may replace it in the meantime."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    yield descriptor
                    return
        finally:
            os.close(descriptor)


def _shorten(path: Path) -> None:
    """Keep the latest attempts of each place."""
    attempts = _read(path)
    for kept in _KEPT:
        places: dict[tuple[str | None, ...], list[Attempt]] = {}
        for one in attempts:
            place = (one.audience, one.target, one.key, None if one.audience else one.config)
            places.setdefault(place, []).append(one)
        attempts = sorted(
            (one for of_place in places.values() for one in of_place[-kept:]), key=lambda one: one.started
        )
        text = b"".join(_to_json(one) + b"\n" for one in attempts)
        if len(text) <= _LARGE // 2:
            break
    replace_private(path, text)
