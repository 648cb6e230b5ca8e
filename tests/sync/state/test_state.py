from __future__ import annotations

import datetime as dt
import os
import pickle
import stat
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from aiobatch.sync._errors import LockedError, OpenRunError, StateError
from aiobatch.sync._options import Mode
from aiobatch.sync.state import _schema
from aiobatch.sync.state._duckdb_errors import duckdb_errors
from aiobatch.sync.state._history import RunEnding, RunOutcome
from aiobatch.sync.state._journal import Journal
from aiobatch.sync.state._lock import audience_lock_path
from aiobatch.sync.state._state import (
    State,
    default_state_path,
    sibling_path,
)

from ...helpers.sweep import examples
from .states import members, open_state, plan, sync, vip

# Makes a state, caps the size of its files a little above what they have, and loads more than fits.
_FULL_DISK = """
import resource, sys
from pathlib import Path
from tests.sync.state.states import members, open_state, stage, sync, vip
from aiobatch.sync._errors import StateError
path = Path(sys.argv[1])
with open_state(path) as state:
    sync(state, ["u1", "u2"])
limit = path.stat().st_size + 100_000
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
with open_state(path) as state:
    try:
        sync(state, (f"{i * 7919:x}-{i * 104729:x}" for i in range(300_000)), size=10_000)
    except StateError as exc:
        print(exc.reason)
    assert members(state) == {"u1", "u2"}
"""


# Begins to make a state, and is cut off amid its first blocks.
_CUT_OFF = """
import resource, sys
from pathlib import Path
from tests.sync.state.states import open_state
from aiobatch.sync._errors import StateError
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    open_state(Path(sys.argv[1]))
except StateError as exc:
    print(exc.reason)
"""


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "state.duckdb"


@pytest.mark.parametrize("size", [4096, 1000, 8192][: examples(1, 3)])
def test_partly_created_state_is_created_again(path: Path, size: int) -> None:
    """A kill or a full disk during the creation of a state does not block the next run."""
    path.parent.mkdir()
    command = [sys.executable, "-c", _CUT_OFF, str(path), str(size)]
    cut_off = subprocess.run(command, capture_output=True, text=True, check=True)
    assert cut_off.stdout == "full\n"
    with open_state(path) as state:
        sync(state, ["u1"])
    with State.read(path) as state:
        assert members(state) == {"u1"}
    assert not list(path.parent.glob("*.new*"))


def test_log_without_its_database_is_ignored(path: Path) -> None:
    """If a state was moved away without its log, the next state starts empty."""
    path.parent.mkdir()
    sibling_path(path, ".wal").write_bytes(b"what is left")
    with open_state(path) as state:
        assert members(state) == set()


def test_empty_file_is_damaged(path: Path) -> None:
    """It may have been a state whose log has its content, so neither is deleted."""
    path.parent.mkdir()
    path.touch()
    sibling_path(path, ".wal").write_bytes(b"what is left")
    with pytest.raises(StateError, match="not a readable DuckDB file"):
        open_state(path)
    assert sibling_path(path, ".wal").read_bytes() == b"what is left"


def test_link_leads_to_the_same_lock_and_log(path: Path, tmp_path: Path) -> None:
    """A state that is opened through a link is locked as well, and no file is created beside the link."""
    link = tmp_path / "link.duckdb"
    link.symlink_to(path)
    with open_state(link) as state:
        vip(state)
        for attempt in (open_state, State.read):
            for other in (link, path):
                with pytest.raises(LockedError):
                    attempt(other)
        assert stat.S_IMODE(sibling_path(path, ".wal").stat().st_mode) == 0o600
    assert list(tmp_path.glob("link.duckdb*")) == [link]
    with State.read(link) as state:
        assert state.rows("SELECT name FROM audiences") == [("vip",)]


def test_state_with_hard_links_is_refused(path: Path, tmp_path: Path) -> None:
    """A log under one name would be lost under the other."""
    open_state(path).close()
    other = tmp_path / "other.duckdb"
    other.hardlink_to(path)
    for attempt in (open_state, State.read):
        for name in (path, other):
            with pytest.raises(StateError, match="hard links"):
                attempt(name)
    other.unlink()
    open_state(path).close()


def test_dangling_link_is_left_as_it_is(path: Path) -> None:
    """A state is only created if its path is free."""
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(path)
    with pytest.raises(StateError, match="Check the path"):
        open_state(path)
    assert path.is_symlink()


def test_default_paths_are_in_the_users_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default, state and locks are in the user's data directory."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_state_path().is_relative_to(tmp_path)
    assert audience_lock_path("abc").parent.parent == default_state_path().parent


def test_only_the_owner_can_read_the_state(path: Path) -> None:
    """State, log, lock and spill directory are private, whatever the umask is."""
    with open_state(path) as state:
        for _ in range(2):
            sync(state, ["u1"])
            plan(state, ["u2"])
            state.rows("CHECKPOINT")  # removes the log, which the next run creates again
            sync(state, ["u2"])
            files = sorted(path.parent.iterdir())
            assert sibling_path(path, ".wal") in files
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in [path.parent, *files]}
            assert {mode & 0o077 for mode in modes.values()} == {0}, modes


def test_state_survives_closing(path: Path) -> None:
    """Members survive closing and opening, and the state keeps its ID."""
    with open_state(path) as state:
        sync(state, ["u1", "u2"])
        state_id = state.state_id
    with open_state(path) as state:
        assert members(state) == {"u1", "u2"}
        assert state.state_id == state_id
        assert [audience.name for audience in state.audiences()] == ["vip"]
    assert not sibling_path(path, ".spill").exists()


def test_audience_without_runs_is_not_listed(path: Path) -> None:
    """An audience that has only a plan is not listed, and its plan can be applied."""
    with open_state(path) as state:
        made = plan(state, ["u1"])
        assert state.audiences() == []
    with open_state(path) as state:
        again = plan(state, ["u1"])
        made.refuse_stale(again)
        Journal.begin(state, again)
        assert [audience.name for audience in state.audiences()] == ["vip"]


def test_new_audience_is_not_known(path: Path) -> None:
    """Members are known after the first applied change. Each change bumps the generation."""
    with open_state(path) as state:
        before = vip(state)
        sync(state, ["u1"])
        after = vip(state)
        sync(state, ["u1"])
        assert (before.known, before.generation, before.members) == (False, 0, 0)
        assert (after.known, after.generation, after.members) == (True, 1, 1)
        assert vip(state) == after


def test_empty_audience_is_known_after_a_run(path: Path) -> None:
    """A run of an empty source with nothing to do shows that there are no members."""
    with open_state(path) as state:
        sync(state, [], Mode.RESYNC)
        assert not vip(state).known
        sync(state, [])
        assert (vip(state).known, vip(state).generation, vip(state).members) == (True, 0, 0)


def test_state_is_open_once(path: Path) -> None:
    """A second opening, by a writer or a reader, gets an error that names the holder."""
    with open_state(path):
        with pytest.raises(LockedError) as info:
            open_state(path)
        with pytest.raises(LockedError):
            State.read(path)
    assert info.value.what == "test"
    open_state(path).close()


def test_state_can_be_closed_twice(path: Path) -> None:
    """A second close does nothing."""
    state = open_state(path)
    state.close()
    state.close()


def test_reader_does_not_write(path: Path) -> None:
    """A state that is open for reading does not change, and other readers may read it."""
    with open_state(path) as state:
        sync(state, ["u1"])
    with State.read(path) as state, State.read(path):
        assert vip(state).members == 1
        with pytest.raises(StateError):
            state.rows("DELETE FROM runs")


def test_reader_creates_no_state(path: Path) -> None:
    """Reading a state that does not exist is an error."""
    with pytest.raises(StateError, match="nothing was synced") as info:
        State.read(path)
    assert info.value.reason == "missing"
    assert not path.exists()


def test_other_version_is_refused_with_advice(path: Path) -> None:
    """A state of another version is refused for writing and reading, and the lock is released."""
    with open_state(path) as state, state.transaction():
        state.rows("UPDATE aiobatch_state SET version = 99")
    for attempt in (open_state, State.read):
        with pytest.raises(StateError, match=f"version 99.*reads version {_schema.VERSION}.*adopt") as info:
            attempt(path)
    assert info.value.reason == "unknown_version"
    assert vars(pickle.loads(pickle.dumps(info.value))) == vars(info.value)  # noqa: S301  # our own


def test_foreign_database_is_refused(path: Path) -> None:
    """A DuckDB file of another program is not changed."""
    path.parent.mkdir()
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE precious (i INTEGER)")
    with pytest.raises(StateError, match="not a state of aiobatch") as info:
        open_state(path)
    assert info.value.reason == "foreign"


def test_damaged_file_is_an_error_with_advice(path: Path) -> None:
    """Garbage, a truncated file, a changed block and a directory are errors with advice."""
    with open_state(path) as state:
        sync(state, [f"u{i}" for i in range(5000)], size=10_000)
    whole = path.read_bytes()
    for damaged in (b"no database" * 1000, whole[:5000], whole[:20] + b"\xff" + whole[21:]):
        path.write_bytes(damaged)
        for attempt in (open_state, State.read):
            with pytest.raises(StateError, match="Restore a backup") as info:
                attempt(path)
            assert info.value.reason == "damaged"
    path.unlink()
    path.mkdir()
    with pytest.raises(StateError, match="it is a directory") as info:
        open_state(path)
    assert info.value.reason == "directory"


@pytest.mark.parametrize("name", ["users.csv", "users.json", "users.parquet", "state.duckdb"])
def test_data_file_is_not_a_state(name: str, tmp_path: Path) -> None:
    """DuckDB would open a data file as a database that stores nothing. It is refused and not changed."""
    path = tmp_path / name
    path.write_text("user_id\nu1\nu2\n")
    for attempt in (open_state, State.read):
        with pytest.raises(StateError, match="not a readable DuckDB file") as info:
            attempt(path)
        assert info.value.reason == "damaged"
    assert path.read_text() == "user_id\nu1\nu2\n"


def test_directory_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    """A file in the place of a directory is an error of the state."""
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="cannot be opened"):
        open_state(tmp_path / "file" / "state.duckdb")


def test_full_disk_loses_nothing(path: Path) -> None:
    """A write that does not fit is an error, and earlier members are kept."""
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(path)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("full\n", "", 0)
    with open_state(path) as state:
        assert members(state) == {"u1", "u2"}
        assert vip(state).open_run is None
        sync(state, ["u3"])
        assert members(state) == {"u3"}


@pytest.mark.parametrize(
    ("error", "reason", "said"),
    [
        (duckdb.OutOfMemoryException("failed to pin block"), "memory", "memory limit"),
        (duckdb.OutOfMemoryException("'max_temp_directory_size'"), "full", "disk is full"),
        (
            duckdb.IOException("file with version number 99, but we can only"),
            "newer",
            "another version of DuckDB",
        ),
        (
            duckdb.IOException("This WAL was created for this database file, but for an older version of it"),
            "damaged",
            "backup",
        ),
        (duckdb.InternalException("u1 is odd"), "failed", "InternalException"),
        (FileNotFoundError(2, "No such file or directory"), "failed", "No such file or directory"),
    ],
)
def test_errors_of_duckdb_have_a_reason_and_advice(
    path: Path, error: Exception, reason: str, said: str
) -> None:
    """Each failure has a reason and advice, and hides DuckDB's text, which may contain an ID."""
    with pytest.raises(StateError, match=said) as info, duckdb_errors(path):
        raise error
    assert info.value.reason == reason
    assert "u1" not in str(info.value)


def _insert_and(state: State, statement: str) -> None:
    """Insert an audience and run a statement, in one transaction."""
    with state.transaction():
        state.rows("INSERT INTO audiences VALUES ('k', 's', 'n', 0, false, NULL)")
        state.rows(statement)


def test_failed_transaction_changes_nothing(path: Path) -> None:
    """If anything fails inside, the transaction is rolled back, and the next one works."""
    with open_state(path) as state:
        for failing in ("DELETE FROM nowhere", "ROLLBACK"):  # after a ROLLBACK, the COMMIT fails
            with pytest.raises(StateError):
                _insert_and(state, failing)
        assert state.audiences() == []
        sync(state, ["u1"])


def test_tables_have_plain_names(path: Path) -> None:
    """Only plain lower-case names are inserted into a statement."""
    with open_state(path) as state, pytest.raises(ValueError, match="cannot name a table"):
        state.rows("DROP TABLE {table}", table="x; DROP TABLE runs")


def test_open_run_is_named(path: Path) -> None:
    """The audience's record names its unsettled run, and operations that need settled runs fail."""
    with open_state(path) as state:
        journal = Journal.begin(state, plan(state, ["u1"]))
        assert vip(state).open_run == journal.run
        with pytest.raises(OpenRunError, match=f"run {journal.run} ") as info:
            plan(state, ["u1"])
        journal.close(RunEnding(outcome=RunOutcome.INTERRUPTED))
        assert vip(state).open_run is None
    assert vars(pickle.loads(pickle.dumps(info.value))) == vars(info.value)  # noqa: S301  # our own


def test_files_spilled_by_a_killed_run_are_removed(path: Path) -> None:
    """The next opening empties the spill directory, also of copies of sources."""
    spill = sibling_path(path, ".spill")
    (spill / "aiobatch-4x_2kq").mkdir(parents=True)
    for left in ("duckdb_temp_storage_DEFAULT-0.tmp", "aiobatch-7a1b", "aiobatch-4x_2kq/duckdb_temp_block-1"):
        (spill / left).touch()
    with open_state(path):
        assert not list(spill.iterdir())


def test_times_are_stored_in_utc(path: Path) -> None:
    """Times are stored in UTC, in any zone of the clock."""
    zone = dt.timezone(dt.timedelta(hours=2))
    moment = dt.datetime(2026, 11, 23, 12, 30, tzinfo=zone)
    with State.open(path, what="test", now=lambda: moment) as state:
        assert sync(state, ["u1"]).started == dt.datetime(2026, 11, 23, 10, 30, tzinfo=dt.UTC)
