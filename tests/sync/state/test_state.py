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
from aiobatch.sync.state._history import RunEnding, RunOutcome
from aiobatch.sync.state._journal import Journal
from aiobatch.sync.state._lock import audience_lock_path
from aiobatch.sync.state._state import (
    State,
    default_state_path,
    duckdb_errors,
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
def test_a_state_that_was_half_made_is_made_anew(path: Path, size: int) -> None:
    """Whoever is killed, or has no room, while a state is made leaves nothing in the way of the next run."""
    path.parent.mkdir()
    command = [sys.executable, "-c", _CUT_OFF, str(path), str(size)]
    cut_off = subprocess.run(command, capture_output=True, text=True, check=True)
    assert cut_off.stdout == "full\n"
    with open_state(path) as state:
        sync(state, ["u1"])
    with State.read(path) as state:
        assert members(state) == {"u1"}
    assert not list(path.parent.glob("*.new*"))


def test_a_log_without_its_database_is_not_read_into_another(path: Path) -> None:
    """Where somebody moved a state away and left its log, the next state begins with nothing."""
    path.parent.mkdir()
    sibling_path(path, ".wal").write_bytes(b"what is left")
    with open_state(path) as state:
        assert members(state) == set()


def test_an_empty_file_is_damaged(path: Path) -> None:
    """It may have been a state, whose log holds what it has lost: neither is thrown away."""
    path.parent.mkdir()
    path.touch()
    sibling_path(path, ".wal").write_bytes(b"what is left")
    with pytest.raises(StateError, match="not a readable DuckDB file"):
        open_state(path)
    assert sibling_path(path, ".wal").read_bytes() == b"what is left"


def test_a_link_leads_to_the_same_lock_and_log(path: Path, tmp_path: Path) -> None:
    """Whoever uses a state by another path is refused as any other, and leaves no file beside the link."""
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


def test_a_state_of_several_names_is_refused(path: Path, tmp_path: Path) -> None:
    """A log that is written under one name is lost to who opens the file under another."""
    open_state(path).close()
    other = tmp_path / "other.duckdb"
    other.hardlink_to(path)
    for attempt in (open_state, State.read):
        for name in (path, other):
            with pytest.raises(StateError, match="hard links"):
                attempt(name)
    other.unlink()
    open_state(path).close()


def test_a_link_to_itself_is_left_as_it_is(path: Path) -> None:
    """A state is made where nothing is, and in the place of nothing."""
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(path)
    with pytest.raises(StateError, match="Check the path"):
        open_state(path)
    assert path.is_symlink()


def test_the_state_lives_in_the_users_data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless told otherwise, state and locks are in the user's own data directory."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_state_path().is_relative_to(tmp_path)
    assert audience_lock_path("abc").parent.parent == default_state_path().parent


def test_nobody_else_can_read_the_state(path: Path) -> None:
    """File, write-ahead log, lock and spill directory are their owner's alone, whatever the umask is."""
    with open_state(path) as state:
        for _ in range(2):
            sync(state, ["u1"])
            plan(state, ["u2"])
            state.rows("CHECKPOINT")  # removes the log, which the next run makes anew
            sync(state, ["u2"])
            files = sorted(path.parent.iterdir())
            assert sibling_path(path, ".wal") in files
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in [path.parent, *files]}
            assert {mode & 0o077 for mode in modes.values()} == {0}, modes


def test_a_state_is_kept(path: Path) -> None:
    """What was applied is there when the file is opened again, and the state keeps its identity."""
    with open_state(path) as state:
        sync(state, ["u1", "u2"])
        state_id = state.state_id
    with open_state(path) as state:
        assert members(state) == {"u1", "u2"}
        assert state.state_id == state_id
        assert [audience.name for audience in state.audiences()] == ["vip"]
    assert not sibling_path(path, ".spill").exists()


def test_what_was_only_planned_is_no_audience_yet(path: Path) -> None:
    """An audience that never had a run is not listed, and its plan can be carried out all the same."""
    with open_state(path) as state:
        made = plan(state, ["u1"])
        assert state.audiences() == []
    with open_state(path) as state:
        again = plan(state, ["u1"])
        made.refuse_stale(again)
        Journal.begin(state, again)
        assert [audience.name for audience in state.audiences()] == ["vip"]


def test_a_new_audience_is_not_known(path: Path) -> None:
    """Members are known once something was applied; each change moves the generation."""
    with open_state(path) as state:
        before = vip(state)
        sync(state, ["u1"])
        after = vip(state)
        sync(state, ["u1"])
        assert (before.known, before.generation, before.members) == (False, 0, 0)
        assert (after.known, after.generation, after.members) == (True, 1, 1)
        assert vip(state) == after


def test_an_audience_that_was_always_empty_is_known(path: Path) -> None:
    """A run of an empty source that had nothing to do tells that there are no members."""
    with open_state(path) as state:
        sync(state, [], Mode.RESYNC)
        assert not vip(state).known
        sync(state, [])
        assert (vip(state).known, vip(state).generation, vip(state).members) == (True, 0, 0)


def test_a_state_is_open_once(path: Path) -> None:
    """A second opening, of a writer or a reader, is refused and told what holds it."""
    with open_state(path):
        with pytest.raises(LockedError) as info:
            open_state(path)
        with pytest.raises(LockedError):
            State.read(path)
    assert info.value.what == "test"
    open_state(path).close()


def test_closing_twice_is_no_error(path: Path) -> None:
    """A state can be closed again."""
    state = open_state(path)
    state.close()
    state.close()


def test_a_reader_reads_and_does_not_write(path: Path) -> None:
    """A state that is read answers; it does not change, and other readers may read it too."""
    with open_state(path) as state:
        sync(state, ["u1"])
    with State.read(path) as state, State.read(path):
        assert vip(state).members == 1
        with pytest.raises(StateError):
            state.rows("DELETE FROM runs")


def test_a_reader_makes_no_state(path: Path) -> None:
    """Reading where there is no state is an error that says so, and makes none."""
    with pytest.raises(StateError, match="nothing was synced") as info:
        State.read(path)
    assert info.value.reason == "missing"
    assert not path.exists()


def test_another_version_is_refused_with_a_way_out(path: Path) -> None:
    """A state of another version is refused by writers and readers, and the lock is free again."""
    with open_state(path) as state, state.transaction():
        state.rows("UPDATE aiobatch_state SET version = 99")
    for attempt in (open_state, State.read):
        with pytest.raises(StateError, match=f"version 99.*reads version {_schema.VERSION}.*adopt") as info:
            attempt(path)
    assert info.value.reason == "unknown_version"
    assert vars(pickle.loads(pickle.dumps(info.value))) == vars(info.value)  # noqa: S301  # our own


def test_a_foreign_database_is_refused(path: Path) -> None:
    """A DuckDB file of somebody else is left alone."""
    path.parent.mkdir()
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE precious (i INTEGER)")
    with pytest.raises(StateError, match="not a state of aiobatch") as info:
        open_state(path)
    assert info.value.reason == "foreign"


def test_a_damaged_file_says_what_to_do(path: Path) -> None:
    """Garbage, a torn file and a changed block are damage; a directory in its place is a slip of the pen."""
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
def test_another_file_is_never_taken_for_a_state(name: str, tmp_path: Path) -> None:
    """DuckDB would open a table in a file as a database that keeps nothing; it is refused and left alone."""
    path = tmp_path / name
    path.write_text("user_id\nu1\nu2\n")
    for attempt in (open_state, State.read):
        with pytest.raises(StateError, match="not a readable DuckDB file") as info:
            attempt(path)
        assert info.value.reason == "damaged"
    assert path.read_text() == "user_id\nu1\nu2\n"


def test_a_directory_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    """A file in the place of a directory is an error of the state."""
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="cannot be opened"):
        open_state(tmp_path / "file" / "state.duckdb")


def test_a_full_disk_loses_nothing(path: Path) -> None:
    """A write that does not fit is an error that says so; what was applied before is there afterwards."""
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
def test_what_duckdb_says_becomes_what_to_do(path: Path, error: Exception, reason: str, said: str) -> None:
    """Each failure has a reason and a remedy, and no text of DuckDB's, which may hold an id, is passed on."""
    with pytest.raises(StateError, match=said) as info, duckdb_errors(path):
        raise error
    assert info.value.reason == reason
    assert "u1" not in str(info.value)


def _insert_and(state: State, statement: str) -> None:
    """Insert an audience and run a statement, in one transaction."""
    with state.transaction():
        state.rows("INSERT INTO audiences VALUES ('k', 's', 'n', 0, false, NULL)")
        state.rows(statement)


def test_a_failed_transaction_changes_nothing(path: Path) -> None:
    """When anything fails inside, nothing of a transaction is kept, and the next one works."""
    with open_state(path) as state:
        for failing in ("DELETE FROM nowhere", "ROLLBACK"):  # after a ROLLBACK, the COMMIT fails
            with pytest.raises(StateError):
                _insert_and(state, failing)
        assert state.audiences() == []
        sync(state, ["u1"])


def test_a_statement_can_be_interrupted(path: Path) -> None:
    """What runs can be stopped by another thread; the state stays usable."""
    with open_state(path) as state:
        state.interrupt()
        sync(state, ["u1"])
        assert members(state) == {"u1"}


def test_tables_have_plain_names(path: Path) -> None:
    """Nothing but a plain lower-case name is ever put into a statement."""
    with open_state(path) as state, pytest.raises(ValueError, match="cannot name a table"):
        state.rows("DROP TABLE {table}", table="x; DROP TABLE runs")


def test_an_open_run_is_named(path: Path) -> None:
    """While a run is not settled the audience says so, and whoever needs settled ones is refused."""
    with open_state(path) as state:
        journal = Journal.begin(state, plan(state, ["u1"]))
        assert vip(state).open_run == journal.run
        with pytest.raises(OpenRunError, match=f"run {journal.run} ") as info:
            plan(state, ["u1"])
        journal.close(RunEnding(outcome=RunOutcome.INTERRUPTED))
        assert vip(state).open_run is None
    assert vars(pickle.loads(pickle.dumps(info.value))) == vars(info.value)  # noqa: S301  # our own


def test_what_a_killed_run_spilled_is_cleared_away(path: Path) -> None:
    """Files in the spill directory do not outlive the next opening."""
    left = sibling_path(path, ".spill") / "left"
    left.parent.mkdir(parents=True)
    left.touch()
    with open_state(path):
        assert not left.exists()


def test_the_clock_is_the_callers(path: Path) -> None:
    """Times are kept in UTC, whatever zone the clock is in."""
    zone = dt.timezone(dt.timedelta(hours=2))
    moment = dt.datetime(2026, 11, 23, 12, 30, tzinfo=zone)
    with State.open(path, what="test", now=lambda: moment) as state:
        assert sync(state, ["u1"]).started == dt.datetime(2026, 11, 23, 10, 30, tzinfo=dt.UTC)
