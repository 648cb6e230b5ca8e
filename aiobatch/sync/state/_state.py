"""The state file: one DuckDB file with the recorded members of each audience.

Everything here blocks. The engine calls it from one thread.
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
from typing import Any, Final, Self

import attrs
import duckdb

from ..._logs import log
from ..._validation import is_unicode
from .._errors import OpenRunError, StateError
from .._option_fields import parse_size
from .._options import DEFAULT_MEMORY_LIMIT
from .._private_files import SPOOL_PREFIX, create_private, create_private_directory, sync_directory
from . import _schema
from ._duckdb_errors import check_database, duckdb_errors
from ._lock import FileLock, default_directory
from ._schema import format_sql, note_table
from .ledger._ledger import FileLedger, Ledger

_logger = logging.getLogger("aiobatch.sync")

# Rows that are fetched at once. While DuckDB converts them to Python values, no other thread runs: that takes
# about a millisecond, even with attributes.
_FETCH_SIZE = 1000
# Bytes that a thread of DuckDB needs, whatever it does.
_THREAD_BYTES: Final = 40_000_000
# The starts of the names of the files that DuckDB spills to, and of copies of sources.
_SPILL_PREFIXES: Final = ("duckdb_temp", SPOOL_PREFIX)
# Audiences whose members one statement counts. It keeps a block of each of their tables in memory.
_COUNTED_AT_ONCE: Final = 25


def default_state_path() -> Path:
    """Return the path of the state file that is used by default."""
    return default_directory() / "state.duckdb"


@attrs.frozen(kw_only=True)
class AudienceRecord:
    """The record of an audience in a state.

    Attributes:
        key: Its key in the state.
        target_digest: Digest of its target.
        name: Its name.
        generation: Grows whenever its recorded members change.
        known: Whether its members are known, from a settled run or `adopt`.
        id_rules: The rules of its IDs, as the last run recorded them. None if no run did.
        open_run: The run that is not settled. None if all are.
        members: Number of members.
    """

    key: str
    target_digest: str
    name: str
    generation: int
    known: bool
    id_rules: str | None
    open_run: int | None
    members: int


_RECORD_FIELDS: Final = tuple(field.name for field in attrs.fields(AudienceRecord))


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@attrs.define(eq=False)
class State:
    """An open state file. Use it as a context manager.

    Attributes:
        path: The file.
        connection: Its connection. Sources are staged through it, since temporary tables exist in it alone.
        state_id: Identifies the state file.
        now: The wall clock.
        memory_limit: DuckDB's memory limit in bytes.
        ledger: Makes its facts durable elsewhere, if it is a cache of a store.
    """

    path: Path
    connection: duckdb.DuckDBPyConnection
    state_id: str = ""
    now: Callable[[], dt.datetime] = _now
    memory_limit: int = parse_size(DEFAULT_MEMORY_LIMIT)
    ledger: Ledger = attrs.field(init=False)
    _lock: FileLock | None = None
    # The tables of the file. None: not read yet. Only this process changes them while it has the lock.
    _tables: set[str] | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.ledger = FileLedger(self.path, lambda: int(self.row("SELECT nextval('run_numbers')")[0]))

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
        """Open a state for writing. Create it if it does not exist.

        Args:
            path: The file. Its directory is created with mode 0700 if necessary.
            what: What this process does (`sync vip`), for the error of other processes.
            memory_limit: DuckDB's limit, such as `"512MB"`. Larger data spills to disk.
            threads: DuckDB's threads. None for one per core, if the memory is enough for them.
            now: The wall clock.

        Raises:
            LockedError: If another process, or another State in this one, has it open.
            StateError: If it cannot be read, has another version, or the disk is full.
        """
        path = resolved(path)
        lock = FileLock(sibling_path(path, ".lock")).acquire(what)
        try:
            _create_database(path)
            config = _config(memory_limit, threads) | {"temp_directory": str(_reset_spill_directory(path))}
            connection, memory = _connect(path, config), parse_size(memory_limit)
            if threads is None:
                _limit_threads(connection, memory)
            state = cls(path=path, connection=connection, now=now, memory_limit=memory, lock=lock)
        except BaseException:
            lock.release()
            raise
        return state._prepare()

    @classmethod
    def read(cls, path: Path) -> Self:
        """Open a state for reading, for the moment that a report takes.

        Raises:
            LockedError: If a run has it open. Read its status file instead.
            StateError: If it does not exist, cannot be read or has another version.
        """
        path = resolved(path)
        if not path.exists():
            msg = "it does not exist: nothing was synced with it yet."
            raise StateError(msg, path=str(path), reason="missing")
        lock = FileLock(sibling_path(path, ".lock")).acquire_shared()
        try:
            state = cls(path=path, connection=_connect(path, _config("256MB", 1), read_only=True), lock=lock)
        except BaseException:
            lock.release()
            raise
        return state._check_version()

    def close(self) -> None:
        """Close the file and release the lock. A second call does nothing."""
        # If the final checkpoint fails, everything that was committed is still in the write-ahead log.
        with contextlib.suppress(duckdb.Error):
            self.connection.close()
        if self._lock is not None:
            shutil.rmtree(sibling_path(self.path, ".spill"), ignore_errors=True)
            self._lock.release()
            self._lock = None
            self.ledger.close()

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
            StateError: If DuckDB failed.
        """
        with duckdb_errors(self.path):
            statement = format_sql(template, **tables)
            cursor = self.connection.execute(statement, list(parameters))
            if self._tables is not None:
                note_table(self._tables, statement)
            rows = portion = cursor.fetchmany(_FETCH_SIZE)
            while len(portion) == _FETCH_SIZE:
                portion = cursor.fetchmany(_FETCH_SIZE)
                rows += portion
            return rows

    def row(self, template: str, parameters: Sequence[Any] = (), **tables: str) -> tuple[Any, ...]:
        """Run one statement that returns exactly one row. See `rows`."""
        (row,) = self.rows(template, parameters, **tables)
        return row

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything that is done inside, durably, or nothing.

        Raises:
            StateError: If DuckDB failed, for example because the disk is full. Nothing was changed.
        """
        with duckdb_errors(self.path):
            # DuckDB would create the write-ahead log readable by everyone.
            create_private(sibling_path(self.path, ".wal"))
            self.connection.execute("BEGIN")
            try:
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                self._tables = None
                with contextlib.suppress(duckdb.Error):  # a failed COMMIT has rolled back already
                    self.connection.execute("ROLLBACK")
                raise

    def interrupt(self) -> None:
        """Interrupt the running statement. This is the only method that another thread may call."""
        self.connection.interrupt()

    def has_table(self, name: str) -> bool:
        """Return whether the state has a table."""
        return name in self._read_tables()

    def _read_tables(self) -> set[str]:
        """Return the tables of the file."""
        if self._tables is None:
            names = self.rows("SELECT table_name FROM duckdb_tables() WHERE NOT temporary")
            self._tables = {table for (table,) in names}
        return self._tables

    def audience_by_key(self, key: str) -> AudienceRecord:
        """Return the record of an audience."""
        (row,) = self.rows(_schema.AUDIENCE, [key, key], members=_schema.members_table(key))
        return AudienceRecord(**dict(zip(_RECORD_FIELDS, row, strict=True)))

    def audiences(self) -> list[AudienceRecord]:
        """Return the audiences that have runs, by name."""
        rows = self.rows(_schema.AUDIENCES)
        members = self._count_members([key for key, *_ in rows])
        return [
            AudienceRecord(**dict(zip(_RECORD_FIELDS, (*row, members[row[0]]), strict=True))) for row in rows
        ]

    def _count_members(self, keys: Sequence[str]) -> dict[str, int]:
        """Return the number of members of audiences. A statement counts some of them at a time."""
        count, members = "SELECT '{key}', count(*) FROM {members}", dict[str, int]()
        for start in range(0, len(keys), _COUNTED_AT_ONCE):
            portion = keys[start : start + _COUNTED_AT_ONCE]
            counts = (format_sql(count, key=key, members=_schema.members_table(key)) for key in portion)
            members |= dict(self.rows(" UNION ALL ".join(counts)))
        return members

    def refuse_open_run(self, key: str) -> AudienceRecord:
        """Return the record of an audience whose runs are all settled.

        Raises:
            OpenRunError: If a run is not settled.
        """
        audience = self.audience_by_key(key)
        if audience.open_run is not None:
            raise OpenRunError(audience=audience.name, run=audience.open_run)
        return audience

    def bump_generation(self, key: str) -> None:
        """Record, within a transaction, that an audience's members have changed and are known."""
        self.rows("UPDATE audiences SET generation = generation + 1, known = true WHERE key = ?", [key])

    def mark_known(self, key: str) -> None:
        """Record, within a transaction, that an audience's members are known and have not changed."""
        self.rows("UPDATE audiences SET known = true WHERE key = ?", [key])

    def timestamp(self) -> dt.datetime:
        """Return the time as stored: UTC without a zone, which needs no time zone package."""
        return self.now().astimezone(dt.UTC).replace(tzinfo=None)

    def _prepare(self) -> Self:
        """Create the tables of a new file, or check those of an old one."""
        try:
            self.path.chmod(0o600)
            if not self._read_tables():
                with self.transaction():
                    self.rows(_schema.TABLES + _schema.ADDED)
                    insert = "INSERT INTO aiobatch_state VALUES (?, ?)"
                    self.rows(insert, [_schema.VERSION, uuid.uuid4().hex])
                log(_logger, logging.INFO, "state created", path=str(self.path))
            self._check_version()
            if not self._read_tables() >= _schema.ADDED_TABLES:  # an older one
                with self.transaction():
                    self.rows(_schema.ADDED)
        except BaseException:
            self.close()
            raise
        return self

    def _check_version(self) -> Self:
        """Raise StateError, and close, if the file is another program's or another version's."""
        try:
            if not self.has_table("aiobatch_state"):
                msg = "this DuckDB database is not a state of aiobatch. Choose another path."
                raise StateError(msg, path=str(self.path), reason="foreign")
            version, self.state_id = self.row("SELECT version, state_id FROM aiobatch_state")
            if version != _schema.VERSION:
                msg = (
                    f"it has version {version}, but this aiobatch reads version {_schema.VERSION}. Install "
                    "the aiobatch that wrote it, or choose another path and `adopt` the members again."
                )
                raise StateError(msg, path=str(self.path), reason="unknown_version")
        except BaseException:
            self.close()
            raise
        return self


def resolved(path: Path) -> Path:
    """Return the path of a state without symbolic links, so that all users of the file share its lock.

    Args:
        path: The state file. It may not exist.

    Raises:
        StateError: If the file has hard links: under each name it would have another lock and log.
    """
    if not is_unicode(str(path)):
        msg = "its path is not UTF-8. Choose another path."
        raise StateError(msg, path=str(path), reason="failed")
    real = Path(os.path.realpath(path))
    with duckdb_errors(path):
        if real.is_file() and real.stat().st_nlink > 1:
            msg = "it has several names (hard links), each with its own lock and log. Replace them by copies."
            raise StateError(msg, path=str(path), reason="failed")
    return real


def sibling_path(path: Path, suffix: str) -> Path:
    """Return the path of a file that belongs to a state, in the same directory.

    Args:
        path: The state file.
        suffix: The suffix to append to its name.
    """
    return path.with_name(path.name + suffix)


def _config(memory_limit: str, threads: int | None) -> dict[str, str | bool | int | float | list[str]]:
    return {
        "memory_limit": memory_limit,
        "preserve_insertion_order": False,  # the order costs memory, and no query depends on it
        # Otherwise freed memory stays with the process, beside all of the limit.
        "allocator_bulk_deallocation_flush_threshold": "8MB",
        **({} if threads is None else {"threads": threads}),
    }


def _limit_threads(connection: duckdb.DuckDBPyConnection, memory: int) -> None:
    """Limit DuckDB's threads to those that the memory is enough for. By default there is one per core."""
    (threads,) = connection.execute("SELECT current_setting('threads')").fetchall()[0]
    connection.execute(f"SET threads = {max(min(threads, memory // _THREAD_BYTES), 1)}")


def _create_database(path: Path) -> None:
    """Create a database if there is none, atomically: DuckDB cannot open one that a kill left incomplete."""
    draft = sibling_path(path, ".new")
    with duckdb_errors(path):
        if not os.path.lexists(path):  # a dangling link is left as it is
            for left in (draft, sibling_path(draft, ".wal"), sibling_path(path, ".wal")):
                left.unlink(missing_ok=True)
            duckdb.connect(str(draft)).close()
            draft.replace(path)
            for directory in (path.parent, path.parent.parent):  # the parent may be new too
                sync_directory(directory)


def _reset_spill_directory(path: Path) -> Path:
    """Return an empty directory for DuckDB to spill to. Remove what a killed run left in it."""
    spill = sibling_path(path, ".spill")
    with duckdb_errors(path):
        create_private_directory(spill, _SPILL_PREFIXES)
    return spill


def _connect(path: Path, config: dict[str, Any], *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    with duckdb_errors(path):
        check_database(path)
        return duckdb.connect(str(path), config=config, read_only=read_only)
