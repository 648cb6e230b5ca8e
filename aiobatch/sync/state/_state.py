"""The state file: what each audience was last known to hold, in one DuckDB file that survives a kill.

All of it blocks; the engine calls it from one thread.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import attrs
import duckdb
import platformdirs

from .._errors import OpenRunError, StateError
from .._options import DEFAULT_MEMORY_LIMIT
from . import _schema
from ._duckdb_errors import damaged_state_error, duckdb_errors
from ._lock import FileLock

_logger = logging.getLogger("aiobatch.sync")

_PRIVATE_FILE = 0o600
_PRIVATE_DIRECTORY = 0o700

# Rows that are fetched at once: even with attributes it takes about a millisecond.
_PORTION = 1000


def default_directory() -> Path:
    """Return the user's own data directory for aiobatch; it need not exist."""
    return platformdirs.user_data_path("aiobatch")


def default_state_path() -> Path:
    """Return where the state lives unless the caller says otherwise."""
    return default_directory() / "state.duckdb"


def audience_lock_path(key: str) -> Path:
    """Return the lock file that runs of one audience share on this machine, whatever state files they use.

    Args:
        key: What `TargetKey.audience_key` answered.
    """
    return default_directory() / "locks" / f"{key}.lock"


@attrs.frozen(kw_only=True)
class AudienceRecord:
    """An audience as the state knows it.

    Attributes:
        key: Its key in the state.
        target_digest: Digest of the target it belongs to.
        name: Its name.
        generation: Grows whenever what we believe of its members changes.
        known: Whether its members are known: by a settled run or by `adopt`.
        id_rules: The ID rules of its ids, as a run told it last; None if none did.
        open_run: The run that is not settled; None if all are.
        members: Members as last settled.
    """

    key: str
    target_digest: str
    name: str
    generation: int
    known: bool
    id_rules: str | None
    open_run: int | None
    members: int


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@attrs.define(eq=False)
class State:
    """An open state file; use it as a context manager.

    Attributes:
        path: The file.
        connection: Its connection, for staging sources; temporary tables are visible in it alone.
        state_id: Tells one state file from another.
        now: The wall clock.
        has_targets: Whether targets have names in it; no table of a file from an older aiobatch holds any.
    """

    path: Path
    connection: duckdb.DuckDBPyConnection
    state_id: str = ""
    now: Callable[[], dt.datetime] = _now
    has_targets: bool = False
    _lock: FileLock | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        what: str,
        memory_limit: str = DEFAULT_MEMORY_LIMIT,
        threads: int | None = None,
        now: Callable[[], dt.datetime] = _now,
    ) -> Self:
        """Open a state for writing; make it where there is none.

        Args:
            path: The file; its directory is made, mode 0700, where it does not exist.
            what: What this process is doing (`sync vip`), for whoever is refused meanwhile.
            memory_limit: DuckDB's, such as `"512MB"`; what needs more spills to disk.
            threads: DuckDB's; None for one per core.
            now: The wall clock.

        Raises:
            LockedError: Another process, or another State in this one, has it open.
            StateError: It cannot be read, has another version, or the disk is full.
        """
        path = resolved(path)
        lock = FileLock(sibling_path(path, ".lock")).acquire(what)
        try:
            _make_file(path)
            spill = _reset_spill_directory(path)
            connection = _connect(path, _config(memory_limit, threads) | {"temp_directory": str(spill)})
            state = cls(path=path, connection=connection, now=now, lock=lock)
        except BaseException:
            lock.release()
            raise
        return state._prepare()

    @classmethod
    def read(cls, path: Path) -> Self:
        """Open a state for reading, for the moment that a report takes.

        Args:
            path: The file.

        Raises:
            LockedError: A run has it open: read its status file instead.
            StateError: There is none, it cannot be read or has another version.
        """
        path = resolved(path)
        if not path.exists():
            msg = "there is none: nothing was synced with it yet"
            raise StateError(msg, path=str(path), reason="missing")
        lock = FileLock(sibling_path(path, ".lock")).acquire_shared()
        try:
            state = cls(path=path, connection=_connect(path, _config("256MB", 1), read_only=True), lock=lock)
        except BaseException:
            lock.release()
            raise
        return state._check_version()

    def close(self) -> None:
        """Close the file and give back the lock; twice is no error."""
        # A close without a checkpoint leaves the write-ahead log, and with it all that was committed.
        with contextlib.suppress(duckdb.Error):
            self.connection.close()
        if self._lock is not None:
            shutil.rmtree(sibling_path(self.path, ".spill"), ignore_errors=True)
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def rows(self, template: str, parameters: Sequence[Any] = (), **tables: str) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows.

        Args:
            template: SQL, with `?` for values and `{placeholders}` for tables.
            parameters: The values.
            **tables: Placeholder -> table.

        Raises:
            StateError: DuckDB failed.
        """
        with duckdb_errors(self.path):
            return _fetch(self.connection.execute(_schema.format_sql(template, **tables), list(parameters)))

    def row(self, template: str, parameters: Sequence[Any] = (), **tables: str) -> tuple[Any, ...]:
        """Run one statement that answers exactly one row; see `rows`."""
        (row,) = self.rows(template, parameters, **tables)
        return row

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Make what is done inside happen at once and durably, or not at all.

        Raises:
            StateError: DuckDB failed, for example because the disk is full; nothing was changed.
        """
        with duckdb_errors(self.path):
            _touch_private(sibling_path(self.path, ".wal"))
            self.connection.execute("BEGIN")
            try:
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(duckdb.Error):  # a failed COMMIT has rolled back already
                    self.connection.execute("ROLLBACK")
                raise

    def interrupt(self) -> None:
        """Stop the statement that runs; the only method that another thread may call."""
        self.connection.interrupt()

    def audience_by_key(self, key: str) -> AudienceRecord:
        """Return an audience that has a place.

        Args:
            key: What `TargetKey.audience_key` answered.
        """
        (audience,) = self._read("WHERE key = ?", [key])
        return audience

    def audiences(self) -> list[AudienceRecord]:
        """Return the audiences that ever had a run, by name: of others there is nothing to know."""
        return self._read("SEMI JOIN runs USING (key) ORDER BY name, scope")

    def _read(self, condition: str, parameters: Sequence[Any] = ()) -> list[AudienceRecord]:
        """Return the audiences for which a condition holds."""
        rows = self.rows(f"{_schema.AUDIENCES} {condition}", parameters)
        counts = " UNION ALL ".join(_schema.count_members(key) for key, *_ in rows)
        members = dict(self.rows(counts)) if rows else {}
        names = [field.name for field in attrs.fields(AudienceRecord)]
        return [AudienceRecord(**dict(zip(names, (*row, members[row[0]]), strict=True))) for row in rows]

    def refuse_open_run(self, key: str) -> AudienceRecord:
        """Return an audience all of whose runs are settled.

        Args:
            key: What `TargetKey.audience_key` answered.

        Raises:
            OpenRunError: One is not.
        """
        audience = self.audience_by_key(key)
        if audience.open_run is not None:
            raise OpenRunError(audience=audience.name, run=audience.open_run)
        return audience

    def bump_generation(self, key: str) -> None:
        """Note, within a transaction, that what we believe of an audience has changed and is known now."""
        self.rows("UPDATE audiences SET generation = generation + 1, known = true WHERE key = ?", [key])

    def mark_known(self, key: str) -> None:
        """Note, within a transaction, that what we believe of an audience is known, and has not changed."""
        self.rows("UPDATE audiences SET known = true WHERE key = ?", [key])

    def timestamp(self) -> dt.datetime:
        """Return the time as the tables keep it: UTC without saying so, which needs no time zone package."""
        return self.now().astimezone(dt.UTC).replace(tzinfo=None)

    def _prepare(self) -> Self:
        """Make the tables of a new file, or check those of an old one."""
        try:
            self.path.chmod(_PRIVATE_FILE)
            if not self.rows("SELECT 1 FROM duckdb_tables() WHERE database_name <> 'temp'"):
                self._create()
            return self._check_version()
        except BaseException:
            self.close()
            raise

    def _create(self) -> None:
        with self.transaction():
            self.rows(_schema.TABLES)
            self.rows("INSERT INTO aiobatch_state VALUES (?, ?)", [_schema.VERSION, uuid.uuid4().hex])
        _logger.info("made the state %s", self.path)

    def _check_version(self) -> Self:
        """Refuse a file that is not ours or not of our version."""
        try:
            tables = self.rows(
                "SELECT table_name FROM duckdb_tables() WHERE table_name IN ('aiobatch_state', 'targets')"
            )
            self.has_targets = ("targets",) in tables
            if ("aiobatch_state",) not in tables:
                msg = "this DuckDB database is not a state of aiobatch; choose another path"
                raise StateError(msg, path=str(self.path), reason="foreign")
            version, self.state_id = self.row("SELECT version, state_id FROM aiobatch_state")
            if version != _schema.VERSION:
                msg = (
                    f"it has version {version}, this aiobatch knows version {_schema.VERSION}; "
                    "install the aiobatch that wrote it, or choose another path and `adopt` the members"
                )
                raise StateError(msg, path=str(self.path), reason="unknown_version")
        except BaseException:
            self.close()
            raise
        return self


def resolved(path: Path) -> Path:
    """Return the path to a state that all who use it share, whatever links lead them there.

    Args:
        path: The state file; it need not be there.

    Raises:
        StateError: It has several names of its own: what is written under one is not seen under another.
    """
    real = Path(os.path.realpath(path))
    with duckdb_errors(path):
        if real.is_file() and real.stat().st_nlink > 1:
            msg = "it has several names (hard links), each with a lock and a log of its own; make them copies"
            raise StateError(msg, path=str(path), reason="failed")
    return real


def sibling_path(path: Path, suffix: str) -> Path:
    """Return the path of a file that goes with a state.

    Args:
        path: The state file.
        suffix: What is put behind its name.
    """
    return path.with_name(path.name + suffix)


def _config(memory_limit: str, threads: int | None) -> dict[str, str | bool | int | float | list[str]]:
    """Return DuckDB's settings: bounded memory, and no order kept where none is asked for."""
    return {
        "memory_limit": memory_limit,
        "preserve_insertion_order": False,
        **({} if threads is None else {"threads": threads}),
    }


def _make_file(path: Path) -> None:
    """Make a database where there is none, at a stroke: DuckDB cannot open what a kill leaves half made."""
    draft = sibling_path(path, ".new")
    with duckdb_errors(path):
        if not os.path.lexists(path):  # a link that leads nowhere is left as it is
            for left in (draft, sibling_path(draft, ".wal"), sibling_path(path, ".wal")):
                left.unlink(missing_ok=True)
            duckdb.connect(str(draft)).close()
            draft.replace(path)


def _reset_spill_directory(path: Path) -> Path:
    """Make the directory that DuckDB spills into; what a killed run left there goes."""
    spill = sibling_path(path, ".spill")
    shutil.rmtree(spill, ignore_errors=True)
    spill.mkdir(mode=_PRIVATE_DIRECTORY)
    return spill


def _connect(path: Path, config: dict[str, Any], *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    with duckdb_errors(path):
        if not _schema.may_be_database(path):
            raise damaged_state_error(path)
        return duckdb.connect(str(path), config=config, read_only=read_only)


def _fetch(cursor: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
    """Return all rows, in portions: no other thread runs while DuckDB makes Python's values."""
    rows = cursor.fetchmany(_PORTION)
    more = len(rows) == _PORTION
    while more:
        portion = cursor.fetchmany(_PORTION)
        rows += portion
        more = len(portion) == _PORTION
    return rows


def _touch_private(path: Path) -> None:
    """Make an empty write-ahead log, mode 0600: the one that DuckDB would make all may read."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _PRIVATE_FILE))
