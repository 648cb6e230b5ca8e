"""Databases of third parties: they see neither the process, nor files, nor the state, and break nothing."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from pathlib import Path

import duckdb
import pytest

from aiobatch.sync._errors import SourceBusyError, SourceError
from aiobatch.sync.sources._id_rules import IdRules
from aiobatch.sync.sources._source import Source
from aiobatch.sync.sources._stage import stage

from ...staged import refusal, staged

_SECRET = "secret-of-the-process"
_ENVIRON = "read_text('/proc/self/environ')"


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BATCH_REST_API_KEY", _SECRET)
    (tmp_path / "secret.csv").write_text(f"id\n{_SECRET}\n")


def _duckdb(tmp_path: Path, *statements: str) -> str:
    path = tmp_path / "vendor.duckdb"
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)
    return f"duckdb:///{path}"


@pytest.mark.parametrize(
    "read",
    [
        f"SELECT content AS id FROM {_ENVIRON}",
        "SELECT id FROM read_csv('{0}/secret.csv')",
        "SELECT id FROM '{0}/secret.csv'",
        "SELECT file AS id FROM glob('/proc/self/*')",
        "SELECT content AS id FROM read_blob('{0}/secret.csv')",
        "SELECT id FROM read_parquet('https://example.invalid/x.parquet')",
        "SELECT getenv('BATCH_REST_API_KEY') AS id",
        "SELECT path AS id FROM duckdb_temporary_files()",
    ],
)
def test_views_of_a_duckdb_file_read_nothing_else(read: str, tmp_path: Path) -> None:
    """A view or a query cannot read files, the environment or the network."""
    read = read.format(tmp_path)
    address = _duckdb(tmp_path, "CREATE TABLE t AS SELECT 'alice' AS id")
    try:
        with duckdb.connect(address.removeprefix("duckdb:///")) as connection:
            connection.execute(f"CREATE VIEW v AS {read}")
    except duckdb.Error:
        queries = [read]  # such a view cannot be created here
    else:
        queries = [read, "SELECT id FROM v"]
    for query in queries:
        try:
            shown = staged(address, tmp_path, query=query).ids
        except SourceError as error:
            shown = {str(error)}
        assert not [one for one in shown if _SECRET in one or "/proc/" in one]


@pytest.mark.parametrize(
    "macro",
    [
        "regexp_full_match(a, b) AS false",
        "regexp_matches(a, b) AS false",
        "length(a) AS 0",
        "strlen(a) AS 0",
        f"trim(a, b) AS (SELECT content FROM {_ENVIRON})",
        "lower(a) AS 'evil'",
        "decode(a) AS 'evil'",
        "encode(a) AS 'evil'",
        "nullif(a, b) AS 'evil'",
        "concat_ws(a, b) AS 'evil'",
        "error(a) AS 'evil'",
        "hash(a) AS 0",
    ],
)
def test_macros_of_a_duckdb_file_change_no_rule(macro: str, tmp_path: Path) -> None:
    """A macro with the name of a built-in function has no effect on the rules for IDs."""
    rows = "SELECT unnest(['alice', 'a' || chr(10) || 'b', repeat('x', 2000)]) AS id"
    address = _duckdb(tmp_path, f"CREATE TABLE t AS {rows}", f"CREATE MACRO {macro}")
    result = staged(address, tmp_path, query="SELECT id FROM t")
    assert result.ids == {"alice"}
    assert [reject[2] for reject in result.rejects] == ["control_character", "too_long"]


def test_query_sees_neither_state_nor_program(tmp_path: Path) -> None:
    """Tables of the state and objects of the Python program are unknown to a query."""
    address = _duckdb(tmp_path, "CREATE TABLE t AS SELECT 'alice' AS id")
    with duckdb.connect(str(tmp_path / "state.duckdb")) as connection:
        connection.execute("CREATE TABLE members AS SELECT 'private' AS id; CREATE SEQUENCE numbers")
        frame = connection.sql("SELECT 'private' AS id")
        for query in (
            "FROM members",
            "FROM state.members",
            "FROM frame",
            "SELECT nextval('state.main.numbers') AS id",
        ):
            for where in (address, "duckdb://"):
                with pytest.raises(SourceError):
                    stage(connection, Source.parse(where, query=query), IdRules())
        assert frame.fetchall() == [("private",)]
        assert connection.execute("SELECT nextval('numbers')").fetchall() == [(1,)]
        assert stage(connection, Source.parse(address, query="FROM t"), IdRules()).kept == 1


def test_types_of_duckdb_survive_the_stream(tmp_path: Path) -> None:
    """Large numbers, UUIDs, enums and JSON are the IDs that they were."""
    huge = 2**100
    for value, text in (
        (f"{huge}::HUGEINT", f"{huge}"),
        (f"{huge}::BIGNUM", f"{huge}"),
        ("'6d92078a-8246-4ba4-ae5b-76104861e7dc'::UUID", "6d92078a-8246-4ba4-ae5b-76104861e7dc"),
        ("'b'::ENUM('a', 'b')", "b"),
        ("'\"x\"'::JSON", "x"),
        ("12::DECIMAL(20, 0)", "12"),
        ("7::UTINYINT", "7"),
    ):
        assert staged("duckdb://", tmp_path, query=f"SELECT {value} AS id").ids == {text}


def test_work_of_a_query_is_interrupted(tmp_path: Path) -> None:
    """A query that yields no row for long stops as soon as the callback raises."""

    def stop(_rows: int) -> None:
        raise KeyboardInterrupt

    query = "SELECT max(hash(i))::VARCHAR AS id FROM range(1000000000000) AS t(i)"
    with duckdb.connect(config={"threads": 1}) as connection, pytest.raises(KeyboardInterrupt):
        stage(connection, Source.parse("duckdb://", query=query), IdRules(), on_progress=stop)


_HOLDERS = {
    "duckdb": "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print(flush=True); sys.stdin.read()",
    "sqlite": "import sqlite3, sys; held = sqlite3.connect(sys.argv[1]); held.execute('BEGIN EXCLUSIVE'); "
    "print(flush=True); sys.stdin.read()",
}


@contextmanager
def _locked(scheme: str, path: Path) -> Iterator[Callable[[], None]]:
    """Hold the lock of a database from another process."""
    command = [sys.executable, "-c", _HOLDERS[scheme], str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        holder.stdout.readline()
        yield holder.terminate


@pytest.mark.parametrize("scheme", ["duckdb", "sqlite"])
def test_locked_database_is_awaited(scheme: str, tmp_path: Path) -> None:
    """A locked file is opened again and again until it is free, or until the timeout has passed."""
    path = tmp_path / "x.db"
    module = duckdb if scheme == "duckdb" else sqlite3
    with closing(module.connect(str(path))) as connection:
        connection.execute("CREATE TABLE t AS SELECT 'alice' AS id")
        connection.commit()
    source = Source.parse(f"{scheme}:///{path}", query="SELECT id FROM t", source_timeout=0.2)
    with _locked(scheme, path) as unlock, duckdb.connect() as state:
        with pytest.raises(SourceBusyError, match="another program"):
            stage(state, source, IdRules())
        timer = threading.Timer(0.3, unlock)
        timer.start()
        patient = Source.parse(f"{scheme}:///{path}", query="SELECT id FROM t", source_timeout=60.0)
        assert stage(state, patient, IdRules()).kept == 1
        timer.join()


def _sqlite(tmp_path: Path, *statements: str) -> str:
    path = tmp_path / "vendor.db"
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return f"sqlite:///{path}"


@pytest.mark.parametrize(
    "query",
    [
        "SELECT load_extension('/tmp/x.so') AS id",
        "SELECT readfile('{0}/secret.csv') AS id",
        "SELECT id FROM v",
        "SELECT writefile('{0}/written', id) AS id FROM t",
        "SELECT edit(id) AS id FROM t",
        "SELECT id FROM t; ATTACH '{0}/other.db' AS other",
        "SELECT fts3_tokenizer('simple', x'00') AS id",
    ],
)
def test_sqlite_files_read_and_run_nothing_else(query: str, tmp_path: Path) -> None:
    """No extension is loaded, no file is read or written, and no trigger runs."""
    address = _sqlite(
        tmp_path,
        "CREATE TABLE t AS SELECT 'alice' AS id",
        "CREATE VIEW v AS SELECT load_extension('/tmp/x.so') AS id",
        "CREATE TABLE log (id)",
        "CREATE TRIGGER evil AFTER INSERT ON t BEGIN INSERT INTO log VALUES ('x'); END",
    )
    before = Path(address.removeprefix("sqlite:///")).read_bytes()
    error = refusal(address, tmp_path, query=query.format(tmp_path))
    assert _SECRET not in str(error)
    assert Path(address.removeprefix("sqlite:///")).read_bytes() == before
    assert not (tmp_path / "written").exists()
    assert not (tmp_path / "other.db").exists()


def test_sqlite_text_that_is_not_utf8_breaks_no_state(tmp_path: Path) -> None:
    """Invalid text fails its own source. The connection works afterwards."""
    address = _sqlite(tmp_path, "CREATE TABLE t AS SELECT CAST(x'616cff' AS TEXT) AS id")
    with duckdb.connect() as connection:
        with pytest.raises(SourceError, match="not all rows could be read"):
            stage(connection, Source.parse(address, query="SELECT id FROM t"), IdRules())
        assert stage(connection, Source.of(["a"]), IdRules()).kept == 1


def _execute(address: str, *statements: str) -> None:
    connect = import_module("adbc_driver_postgresql.dbapi").connect
    with closing(connect(address, autocommit=True)) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("12.5::numeric(20, 2)", "type numeric with decimal places"),
        ("1001::numeric(20, 2)", "type numeric with decimal places"),
        ("'NaN'::numeric", "type numeric with decimal places"),
        ("'Infinity'::numeric", "type numeric with decimal places"),
        ("12::money", "type money"),
        ("'infinity'::float8", "type"),
        ("true", "type"),
        ("'2026-01-01'::date", "type"),
        ("'infinity'::timestamp", "type"),
        ("'1 day'::interval", "type"),
        (r"'\xff'::bytea", "type"),
        ("'{\"a\": 1}'::jsonb", "type"),
        ("'10.0.0.1'::inet", "type"),
        ("array['a']", "type"),
        ("'(1,2)'::point", "type"),
    ],
)
def test_postgresql_types_without_exact_text_are_refused(
    value: str, problem: str, postgresql: str, tmp_path: Path
) -> None:
    """A column of such a type is refused as a whole, with its name and type, and no value."""
    error = refusal(postgresql, tmp_path, query=f"SELECT {value} AS user_id")
    assert problem in str(error)
    assert "'user_id'" in str(error)
    assert "1001" not in str(error)


def test_postgresql_types_of_ids_are_accepted(postgresql: str, tmp_path: Path) -> None:
    """Whole numbers without a scale, domains and enums are IDs."""
    _execute(
        postgresql,
        "DROP DOMAIN IF EXISTS inner_id CASCADE",
        "DROP TYPE IF EXISTS color CASCADE",
        "CREATE DOMAIN inner_id AS text",
        "CREATE DOMAIN outer_id AS inner_id",
        "CREATE TYPE color AS ENUM ('red')",
    )
    for value, text in (
        ("1e20::numeric", "100000000000000000000"),
        ("5::numeric(20, 0)", "5"),
        ("'a'::outer_id", "a"),
        ("'red'::color", "red"),
        ("'n'::name", "n"),
        ("9::int2", "9"),
    ):
        assert staged(postgresql, tmp_path, query=f"SELECT {value} AS id").ids == {text}
    assert staged(postgresql, tmp_path, query="SELECT NULL::numeric AS id").counts.rejected == 1
    error = refusal(postgresql, tmp_path, query="SELECT 'a' AS id, 5::money AS m", attributes=["m"])
    assert "column 'm' has the type money" in str(error)


def test_postgresql_schema_shadows_no_function(postgresql: str, tmp_path: Path) -> None:
    """A schema ahead of the catalog in the search path does not change how types are found."""
    _execute(
        postgresql,
        "DROP SCHEMA IF EXISTS evil CASCADE",
        "CREATE SCHEMA evil",
        "CREATE FUNCTION evil.pg_typeof(money) RETURNS regtype LANGUAGE sql AS $$ SELECT 'text'::regtype $$",
        "CREATE TABLE evil.pg_type AS SELECT oid, 'b'::char AS typtype, 'text'::name AS typname, "
        "0::oid AS typbasetype FROM pg_catalog.pg_type",
    )
    address = f"{postgresql}?options=-csearch_path%3Devil,pg_catalog"
    assert "type money" in str(refusal(address, tmp_path, query="SELECT 5::money AS id"))
    assert staged(address, tmp_path, query="SELECT 'a' AS id").ids == {"a"}


def test_postgresql_functions_write_nothing(postgresql: str, tmp_path: Path) -> None:
    """A function of the database cannot write, whatever it calls."""
    _execute(
        postgresql,
        "DROP TABLE IF EXISTS written",
        "CREATE TABLE written (id text)",
        "CREATE OR REPLACE FUNCTION evil() RETURNS text LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM set_config('transaction_read_only', 'off', true);"
        " INSERT INTO written VALUES ('x'); RETURN 'a'; END $$",
    )
    assert "read-only" in str(refusal(postgresql, tmp_path, query="SELECT evil() AS id")).replace(
        "read-write", "read-only"
    )
    assert staged(postgresql, tmp_path, query="SELECT count(*) AS id FROM written").ids == {"0"}


def test_postgresql_text_that_is_not_utf8_breaks_no_state(postgresql: str, tmp_path: Path) -> None:
    """A database without an encoding fails its own source. Others of the same state go through."""
    _execute(postgresql, "DROP DATABASE IF EXISTS ascii")
    _execute(postgresql, "CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0")
    address = postgresql.replace("/postgres", "/ascii") if postgresql.endswith("/postgres") else postgresql
    query = r"SELECT unnest(array['ok', convert_from('\xff61'::bytea, 'SQL_ASCII')]) AS id, 'x' AS n"
    with duckdb.connect() as connection:
        for columns in ([], ["n"]):
            source = Source.parse(address, query=query, attributes=columns)
            with pytest.raises(SourceError, match="not all rows could be read") as caught:
                stage(connection, source, IdRules())
            assert os.linesep not in str(caught.value)
            assert stage(connection, Source.of(["a"]), IdRules()).kept == 1
