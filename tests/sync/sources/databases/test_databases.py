from __future__ import annotations

import os
import sqlite3
import sys
import threading
import traceback
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import duckdb
import pytest

from aiobatch.sync._errors import SourceError
from aiobatch.sync.sources._databases import _libpq_dsn
from aiobatch.sync.sources._id_rules import IdRules
from aiobatch.sync.sources._source import Source
from aiobatch.sync.sources._stage import StageOptions, stage

from ...staged import refusal, relation, staged

_PASSWORD_TRACES = ("pa/ss:w@rd%1", "pa%2Fss%3Aw%40rd%251", "w@rd", "w%40rd")


@pytest.fixture
def duckdb_file(tmp_path: Path) -> str:
    """Make a DuckDB database."""
    path = tmp_path / "it's.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "CREATE TABLE users AS SELECT 'u' || i AS id, i::INTEGER AS n FROM range(5) AS t(i)"
        )
    return f"duckdb:///{path}"


@pytest.fixture
def sqlite_file(tmp_path: Path) -> str:
    """Make a SQLite database whose columns hold several types each, as SQLite's may."""
    path = tmp_path / "it's 100%.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE users (id, n)")
        connection.executemany(
            "INSERT INTO users VALUES (?, ?)", [(number, number) for number in range(3000)]
        )
        rows = [
            ("00123", 0.1 + 0.2),
            ("1e5", 9e999),
            (1.5, 1),
            (b"x", 1),
            (None, 1),
            ("é", None),
            ("t", b"x"),
        ]
        connection.executemany("INSERT INTO users VALUES (?, ?)", rows)
        connection.execute("CREATE TABLE bad AS SELECT CAST(x'73656372657461FF' AS TEXT) AS id")
        connection.commit()
    return f"sqlite:///{path}"


# The session that copies rows out, and not the one that asks this.
_KILL = """SELECT pg_terminate_backend(pid)::int AS n FROM pg_stat_activity
    WHERE query LIKE 'COPY%pg_sleep%' AND pid <> pg_backend_pid()"""
_RUNNING = """SELECT count(*)::int AS n FROM pg_stat_activity
    WHERE state = 'active' AND query LIKE 'COPY%pg_sleep(3600)%' AND pid <> pg_backend_pid()"""


class TestDuckDB:
    """A query runs in the caller's own DuckDB."""

    def test_file_is_attached_for_its_query_only(self, duckdb_file: str, tmp_path: Path) -> None:
        """The query reads the file's tables. Afterwards the connection is as before."""
        source = Source.parse(duckdb_file, query="SELECT * FROM users -- all of them", attributes=["n"])
        with duckdb.connect() as connection:
            connection.execute("CREATE SCHEMA mine; USE memory.mine")
            assert stage(connection, source, IdRules()).kept == 5
            databases = connection.execute("SELECT database_name FROM duckdb_databases() WHERE NOT internal")
            assert databases.fetchall() == [("memory",)]
            assert connection.execute("SELECT current_schema()").fetchall() == [("mine",)]

    def test_query_needs_no_database_file(self, tmp_path: Path) -> None:
        """`duckdb://` queries files that the query itself names."""
        (tmp_path / "x.csv").write_text("id,active\na,true\nb,false\n")
        query = f"FROM '{tmp_path}/x.csv' WHERE active;"
        assert staged("duckdb://", tmp_path, query=query).ids == {"a"}

    @pytest.mark.parametrize(
        ("query", "problem"),
        [
            ("SELECT 'a' AS id; DROP TABLE users", "must be one SELECT"),
            ("SELECT 1) AS x; DROP TABLE users; SELECT (1", "must be one SELECT|syntax error"),
            ("DELETE FROM users RETURNING id", "must be one SELECT"),
            ("SELEC 1", "syntax error"),
            ("SELECT id FROM nobody", "nobody"),
            ("SELECT n / 2 AS id FROM users", "column 'id' has the type DOUBLE"),
            ("SELECT 'secret'::INTEGER AS id", "could not be read"),
            (
                "SELECT CASE WHEN n > 3 THEN error('secret')::VARCHAR ELSE id END AS id FROM users",
                "could not be read",
            ),
            ("SELECT 'secret' AS name, 1 AS age", "'name', 'age'"),
        ],
    )
    def test_invalid_query_is_refused(
        self, query: str, problem: str, duckdb_file: str, tmp_path: Path
    ) -> None:
        """A query that is not one SELECT, or fails, is an error that shows no value."""
        with pytest.raises(SourceError, match=problem) as caught:
            staged(duckdb_file, tmp_path, query=query)
        assert "secret" not in str(caught.value)
        assert staged(duckdb_file, tmp_path, query="FROM users").counts.kept == 5

    @pytest.mark.parametrize("suffix", ["", ".wal"])
    def test_pipe_is_refused(self, duckdb_file: str, suffix: str, tmp_path: Path) -> None:
        """DuckDB would wait for the other end of a pipe, and nothing could interrupt it."""
        path = Path(duckdb_file.removeprefix("duckdb:///") + suffix)
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        error = refusal(duckdb_file, tmp_path, query="SELECT 1 AS id")
        assert "is a pipe or a device" in str(error)

    def test_missing_or_foreign_file_is_refused(self, tmp_path: Path) -> None:
        """A missing file is not created, and another kind of file is an error."""
        assert "does not exist" in str(
            refusal(f"duckdb:///{tmp_path}/x.duckdb", tmp_path, query="SELECT 1 AS id")
        )
        assert list(tmp_path.iterdir()) == []
        (tmp_path / "x.duckdb").write_bytes(b"x" * 5000)
        assert "not a valid" in str(
            refusal(f"duckdb:///{tmp_path}/x.duckdb", tmp_path, query="SELECT 1 AS id")
        )


class TestSQLite:
    """A query runs in SQLite, and each row keeps its own types."""

    def test_rows_of_several_types_are_read(self, sqlite_file: str, tmp_path: Path) -> None:
        """Whole numbers and texts are IDs as written, fractions and blobs are not. Types are kept."""
        result = staged(sqlite_file, tmp_path, query="SELECT n, id FROM users -- all", attributes=["n"])
        assert result.counts.read == 3007
        assert result.attributes["2999"] == {"n": 2999}
        assert result.attributes["00123"] == {"n": 0.1 + 0.2}
        assert result.attributes["é"] is None
        reasons = [reject[1:3] for reject in result.rejects]
        assert reasons == [
            (3002, "attribute_number"),
            (3003, "not_text"),
            (3004, "not_text"),
            (3005, "empty"),
            (3007, "attribute_type"),
        ]

    @pytest.mark.parametrize(
        ("query", "problem"),
        [
            ("SELECT 'a' AS id; DELETE FROM users", "syntax error"),
            ("DELETE FROM users RETURNING id", "syntax error"),
            ("SELEC", "no such table: SELEC"),
            ("SELECT * FROM nobody", "nobody"),
            ("SELECT id FROM bad", "not all rows could be read: a value"),
            ("SELECT 1 AS name, 2 AS age", "'name', 'age'"),
        ],
    )
    def test_invalid_query_is_refused(
        self, query: str, problem: str, sqlite_file: str, tmp_path: Path
    ) -> None:
        """A query that is not one SELECT, or fails on its way, is an error that shows no value."""
        error = refusal(sqlite_file, tmp_path, query=query)
        assert problem in str(error)
        assert "secret" not in str(error)

    def test_missing_or_damaged_file_is_refused(self, sqlite_file: str, tmp_path: Path) -> None:
        """A missing file is not created, and a truncated one is an error."""
        assert "does not exist" in str(
            refusal(f"sqlite:///{tmp_path}/x.db", tmp_path, query="SELECT 1 AS id")
        )
        path = Path(sqlite_file.removeprefix("sqlite:///"))
        path.write_bytes(path.read_bytes()[:-8192])
        assert "malformed" in str(refusal(sqlite_file, tmp_path, query="SELECT id FROM users"))


class TestPostgreSQL:
    """A query runs in a real server."""

    def test_typed_rows_are_streamed(self, postgresql: str, tmp_path: Path) -> None:
        """Text, numbers, moments and lists keep their types. Numeric is a number."""
        query = """SELECT lpad(i::text, 5, '0') AS id, i AS n, i * 1.50 AS price, array['b', 'a'] AS tags,
            timestamptz '2023-08-12 22:30:05+02' AS seen, jsonb_build_array(i, 'x') AS list,
            NULL::numeric AS none
            FROM generate_series(1, 3) AS i -- all"""
        columns = ["n", "price", "seen", "list", "none"]
        result = staged(postgresql, tmp_path, query=query, attributes=columns, tags_column="tags")
        assert result.ids == {"00001", "00002", "00003"}
        assert result.attributes["00003"] == {
            "date(seen)": "2023-08-12T20:30:05Z",
            "list": [3, "x"],
            "n": 3,
            "price": 4.5,
        }
        assert result.tags["00001"] == ["a", "b"]

    @pytest.mark.parametrize("kind", ["int4", "int8", "numeric", "varchar", "uuid", "bpchar"])
    def test_ids_of_every_kind_keep_their_digits(self, kind: str, postgresql: str, tmp_path: Path) -> None:
        """Whole numbers, texts and UUIDs are valid IDs."""
        text = "6d92078a-8246-4ba4-ae5b-76104861e7dc" if kind == "uuid" else "1234567890"
        query = f"SELECT CAST('{text}' AS {kind}) AS user_id"
        assert len(staged(postgresql, tmp_path, query=query).ids) == 1
        assert staged(postgresql, tmp_path, query=query).ids == {text if kind != "bpchar" else "1234567890"}

    def test_id_columns_in_both_cases_are_refused(self, postgresql: str, tmp_path: Path) -> None:
        """PostgreSQL distinguishes case, and DuckDB renames one of the two."""
        query = """SELECT 'wrong' AS "ID", 'right' AS id"""
        assert "2 columns have the name 'ID'" in str(refusal(postgresql, tmp_path, query=query))
        assert staged(postgresql, tmp_path, query="SELECT 'u1' AS id, 'x' AS id_1").ids == {"u1"}

    def test_many_rows_keep_their_order(self, postgresql: str, tmp_path: Path) -> None:
        """A large result is complete, and the last of two rows wins."""
        query = "SELECT i % 150000 AS id, i AS n FROM generate_series(0, 299999) AS i"
        result = staged(postgresql, tmp_path, query=query, attributes=["n"])
        assert (result.counts.read, result.counts.duplicate) == (300_000, 150_000)
        assert all(row["n"] == int(key) + 150_000 for key, row in result.attributes.items())

    @pytest.mark.parametrize(
        ("query", "problem"),
        [
            ("SELECT 1 AS id; DROP TABLE users", "syntax error"),
            ("CREATE TABLE users (id int)", "syntax error"),
            ("SELECT nextval('pg_catalog.nobody') AS id", "nobody"),
            (
                "SELECT set_config('transaction_read_only', 'off', true) AS id, lo_create(0)",
                "read-only|read-write",
            ),
            ("SELECT * FROM nobody", 'relation "nobody" does not exist'),
            ("SELECT ('secret' || i)::int AS id FROM generate_series(1, 9) AS i", "invalid input syntax"),
            ("SELECT 1.5::float8 AS id", "column 'id' has the type DOUBLE"),
            ("SELECT 1 AS name, 2 AS age", "'name', 'age'"),
            ("SELECT 'a' AS id, 1 AS n, point(1, 2) AS p", "not supported"),
        ],
    )
    def test_invalid_query_is_refused(
        self, query: str, problem: str, postgresql: str, tmp_path: Path
    ) -> None:
        """A query that is not one SELECT, writes, or fails on its way, is an error that shows no value."""
        attributes = ["p"] if "point" in query else None
        with pytest.raises(SourceError, match=problem) as caught:
            staged(postgresql, tmp_path, query=query, attributes=attributes)
        assert "secret" not in str(caught.value)

    def test_lost_connection_stops_the_run(self, postgresql: str, tmp_path: Path) -> None:
        """If the server ends the session while rows are read, none of them counts."""
        source = Source.parse(
            postgresql,
            query="""SELECT 'u' || i AS id, pg_sleep(CASE WHEN i > 200000 THEN 0.01 ELSE 0 END)::text AS n
                FROM generate_series(1, 300000) AS i""",
            attributes=["n"],
        )
        killed: list[int] = []

        def kill(_rows: int) -> None:
            killed.extend(_run(postgresql, _KILL))

        with duckdb.connect() as connection:
            with pytest.raises(SourceError, match="not all rows could be read: terminating connection"):
                stage(connection, source, IdRules(), on_progress=kill)
            assert killed
            assert connection.execute("SELECT table_name FROM duckdb_tables()").fetchall() == []

    def test_running_query_can_be_stopped(self, postgresql: str) -> None:
        """An exception from the progress callback cancels a query that would take an hour."""
        source = Source.parse(
            postgresql, query="SELECT 'a' AS id, pg_sleep(3600)::text AS n", attributes=["n"]
        )

        def stop(_rows: int) -> None:
            if _run(postgresql, _RUNNING) == [1]:
                raise KeyboardInterrupt

        with duckdb.connect() as connection, pytest.raises(KeyboardInterrupt):
            stage(connection, source, IdRules(), on_progress=stop)

    def test_silent_query_is_given_up(self, postgresql: str) -> None:
        """A query that would return nothing for an hour ends with the timeout, also without a callback."""
        source = Source.parse(
            postgresql, query="SELECT 'a' AS id, pg_sleep(3600)::text AS n", attributes=["n"]
        )
        with duckdb.connect() as connection, pytest.raises(SourceError, match="did not arrive") as caught:
            stage(connection, source, IdRules(), options=StageOptions(idle_timeout=1))
        assert "pa/ss" not in str(caught.value)

    @pytest.mark.parametrize(
        "change",
        [
            lambda dsn: dsn.replace("pa%2F", "nope%2F"),
            lambda dsn: dsn.replace("/postgres", "/nobody").replace("aio:", "somebody:"),
            lambda dsn: dsn.replace("pa%2Fss", "pa/ss"),
            lambda dsn: dsn.replace("%251", "%zz"),
            lambda dsn: dsn.replace("127.0.0.1:", "127.0.0.1:1/"),
            lambda dsn: dsn.replace("127.0.0.1", "[::1"),
            lambda dsn: dsn + "?port=abc&password=w%40rd",
        ],
        ids=["password", "user", "slash", "percent", "port", "bracket", "parameter"],
    )
    def test_no_password_is_shown(self, change: Any, postgresql: str, tmp_path: Path) -> None:
        """However a connection fails, neither text, traceback nor location shows any part of the password."""
        with pytest.raises(SourceError) as caught:
            staged(change(postgresql), tmp_path, query="SELECT 1 AS id")
        shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value.__dict__)
        assert not [trace for trace in _PASSWORD_TRACES if trace in shown]

    def test_passwords_come_from_the_environment(
        self, postgresql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The variables and the password file of libpq work, as does a variable in the address."""
        bare = postgresql.replace(":pa%2Fss%3Aw%40rd%251", "")
        monkeypatch.setenv("PGPASSWORD", _PASSWORD_TRACES[0])
        assert staged(bare, tmp_path, query="SELECT 1 AS id").ids == {"1"}
        monkeypatch.delenv("PGPASSWORD")
        passfile = tmp_path / "pgpass"
        passfile.write_text(r"*:*:*:aio:pa/ss\:w@rd%1")
        passfile.chmod(0o600)
        monkeypatch.setenv("PGPASSFILE", str(passfile))
        assert staged(bare, tmp_path, query="SELECT 1 AS id").ids == {"1"}
        monkeypatch.delenv("PGPASSFILE")
        monkeypatch.setenv("SECRET", _PASSWORD_TRACES[0])
        address = bare.replace("aio@", "aio:${SECRET}@")
        assert staged(address, tmp_path, query="SELECT 1 AS id").ids == {"1"}


def _run(address: str, sql: str) -> list[int]:
    """Run *sql* on a connection of its own and return the first column."""
    connect = import_module("adbc_driver_postgresql.dbapi").connect
    with closing(connect(address)) as connection, connection.cursor() as cursor, duckdb.connect() as local:
        cursor.execute(sql)
        local.register("answer", cursor.fetch_arrow())
        return [row[0] for row in local.execute("FROM answer").fetchall()]


def test_timeouts_are_added_to_a_connection() -> None:
    """A dead host is noticed, unless the address sets its own timeouts."""
    assert _libpq_dsn("postgresql://h/db").startswith(
        "postgresql://h/db?connect_timeout=30&keepalives_idle=30"
    )
    assert _libpq_dsn("postgresql://h/db?a=b&connect_timeout=5").startswith(
        "postgresql://h/db?a=b&connect_timeout=5&keepalives_idle=30"
    )


@pytest.mark.parametrize(
    ("address", "package"),
    [("postgresql://h/db", "adbc-driver-postgresql"), ("sqlite:///x", "adbc-driver-sqlite")],
)
def test_missing_driver_is_named(
    address: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its driver, a database is an error that names the package to install."""
    (tmp_path / "x").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, f"{package.replace('-', '_')}.dbapi", None)
    error = refusal(address, tmp_path, query="SELECT 1 AS id")
    assert package in str(error)
    assert "pip install 'aiobatch-client[sync]'" in str(error)


def test_abandoned_reader_closes_its_connection(sqlite_file: str) -> None:
    """Stopping to read leaves no stream, thread or connection behind."""
    before = set(threading.enumerate())
    relation(Source.parse(sqlite_file, query="SELECT id FROM users"))
    assert set(threading.enumerate()) <= before
