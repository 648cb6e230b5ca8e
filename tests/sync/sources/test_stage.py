from __future__ import annotations

import hashlib
import os
import pickle
import stat
import threading
from pathlib import Path
from typing import Any

import duckdb
import pytest

from aiobatch.errors import SyncError
from aiobatch.models import Member
from aiobatch.sync._errors import SourceError, StagingError
from aiobatch.sync.sources._id_rules import IdRules, Reason
from aiobatch.sync.sources._source import Source
from aiobatch.sync.sources._stage import _rows, _staging_error, stage

from ...helpers.sweep import examples
from ..staged import parquet, read_rejects, staged


def test_last_row_of_an_id_wins(tmp_path: Path) -> None:
    """Of the valid rows with one ID, the last one counts, and the others are duplicates."""
    lines = ["id,n", "a,1", "b,1", " a,2", "a,3", "b,soon"]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    result = staged(tmp_path / "x.csv", tmp_path, attributes=["n"])
    assert result.attributes == {"a": {"n": "3"}, "b": {"n": "soon"}}
    assert (result.counts.read, result.counts.kept, result.counts.duplicate) == (5, 2, 3)


def test_rejected_row_is_not_a_duplicate(tmp_path: Path) -> None:
    """A row with invalid attributes does not replace an earlier valid one."""
    query = "SELECT 'a' AS id, 1.0::DOUBLE AS n UNION ALL SELECT 'a', 'nan'::DOUBLE"
    result = staged("duckdb://", tmp_path, query=query, attributes=["n"])
    assert result.attributes == {"a": {"n": 1.0}}
    assert (result.counts.duplicate, result.counts.rejected) == (0, 1)


def test_order_survives_parallel_reading(tmp_path: Path) -> None:
    """Of 600,000 rows that several threads read, the last of each ID wins and rows keep their numbers."""
    ids = "CASE WHEN i = 222222 THEN NULL ELSE i % 150000 END AS id"
    query = f"SELECT {ids}, i + {{}} AS n FROM range(300000) AS t(i)"
    directory = tmp_path / "d"
    directory.mkdir()
    parquet(directory / "1.parquet", query.format(0))
    parquet(directory / "2.parquet", query.format(300_000))
    with duckdb.connect(config={"threads": 4, "preserve_insertion_order": "false"}) as connection:
        source = Source.parse(directory, attributes=["n"])
        counts = stage(connection, source, IdRules(), rejects=tmp_path / "rejects.csv")
        wrong = """SELECT count(*) FROM staged WHERE attributes <>
            '{"n":' || (id::INTEGER + CASE id WHEN '72222' THEN 300000 ELSE 450000 END) || '}'"""
        assert connection.execute(wrong).fetchall() == [(0,)]
    assert (counts.kept, counts.duplicate, counts.rejected) == (150_000, 449_998, 2)
    expected = [(str(directory / f"{number}.parquet"), 222_223, "empty", "") for number in (1, 2)]
    assert read_rejects(tmp_path / "rejects.csv") == expected


class TestRejects:
    """The reject file."""

    def test_it_contains_each_row_as_it_was_read(self, tmp_path: Path) -> None:
        """Source, row number, reason and the untrimmed ID, with any characters."""
        ids = ["ok", " a\x00b ", 'quo"te,\n', "\u3000", "x" * 5000]
        result = staged(ids, tmp_path)
        assert result.rejects == [
            ("<ids>", 2, Reason.CONTROL_CHARACTER, " a\\u0000b "),
            ("<ids>", 4, Reason.EMPTY, "\u3000"),
            ("<ids>", 5, Reason.TOO_LONG, "x" * 4096),
        ]
        assert result.ids == {"ok", 'quo"te,'}

    def test_it_is_private_and_overwritten(self, tmp_path: Path) -> None:
        """The file has mode 0600 and replaces an earlier one, even if no row was rejected."""
        path = tmp_path / "it's.csv"
        path.write_text("of yesterday")
        path.chmod(0o644)
        with duckdb.connect() as connection:
            stage(connection, Source.of(["a"]), IdRules(), rejects=path)
        assert path.read_text() == "source,row,line,reason,id\n"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_unwritable_path_is_an_error(self, tmp_path: Path) -> None:
        """If the file cannot be written, nothing is staged."""
        with duckdb.connect() as connection:
            with pytest.raises(StagingError, match=r"x\.csv' cannot be written \(No such file"):
                stage(connection, Source.of(["a"]), IdRules(), rejects=tmp_path / "nowhere" / "x.csv")
            assert connection.execute("FROM duckdb_tables()").fetchall() == []

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
    def test_full_disk_is_an_error(self) -> None:
        """If the disk is full, nothing is staged."""
        rows = [f"bad\tid {number}" for number in range(100_000)]
        with duckdb.connect() as connection, pytest.raises(StagingError, match="no space left"):
            stage(connection, Source.of(rows), IdRules(), rejects=Path("/dev/full"))


def _md5(text: str) -> int:
    return int.from_bytes(hashlib.md5(text.encode(), usedforsecurity=False).digest(), "little")


class TestFingerprints:
    """Fingerprints of attributes and tags."""

    def test_they_depend_on_attributes_and_tags(self, tmp_path: Path) -> None:
        """Equal attributes and tags have equal fingerprints, others have others, and none is zero."""
        same = {"attributes": {"x": 1, "y": 2}}
        members = [
            Member("none"),
            Member("a", attributes={"x": 1, "y": 2}),
            Member("b", attributes={"y": 2, "x": 1}),
            Member("c", **same, tags=("t",)),
            Member("d", tags=("t",)),
            Member("e", attributes={"x": 1}),
        ]
        prints = {key: row[2] for key, row in staged(members, tmp_path).rows.items()}
        assert prints["none"] == 0
        assert prints["a"] == prints["b"]
        assert len({prints[key] for key in "acde"} | {0}) == 5

    def test_they_never_change(self, tmp_path: Path) -> None:
        """Fingerprints in old states stay valid: they do not depend on DuckDB's version."""
        result = staged([Member("a", attributes={"x": 1}, tags=("t",))], tmp_path)
        text = '{"x":1}\n["t"]'
        assert result.rows["a"][2] == _md5(text) >> 64


class TestConnection:
    """The caller's connection is not changed."""

    def test_its_settings_are_restored(self, tmp_path: Path) -> None:
        """Settings that staging changes are restored, after success and after failure."""
        names = ("preserve_insertion_order", "enable_progress_bar", "enable_progress_bar_print")
        query = f"SELECT {', '.join(f'current_setting({name!r})' for name in names)}"
        with duckdb.connect() as connection:
            connection.execute("SET preserve_insertion_order = false")
            before = connection.execute(query).fetchall()
            stage(connection, Source.of(["a"]), IdRules())
            assert connection.execute(query).fetchall() == before
            with pytest.raises(SourceError):
                stage(connection, Source.parse(tmp_path / "missing.csv"), IdRules())
            assert connection.execute(query).fetchall() == before

    @pytest.mark.parametrize("source", [["a"], [Member("a", tags=("t",))]])
    def test_only_the_staged_table_remains(self, source: Any) -> None:
        """Only the temporary table `staged` remains, and replaces an earlier one."""
        with duckdb.connect() as connection:
            connection.execute("CREATE SCHEMA mine; USE memory.mine")
            stage(connection, Source.of(["x", "y"]), IdRules())
            stage(connection, Source.of(source), IdRules())
            tables = "SELECT temporary, schema_name, table_name FROM duckdb_tables()"
            assert connection.execute(tables).fetchall() == [(True, "main", "staged")]
            columns = {row[0]: row[1] for row in connection.execute("DESCRIBE staged").fetchall()}
            assert connection.execute("SELECT id FROM staged").fetchall() == [("a",)]
        assert columns.pop("reason").startswith("ENUM(")
        types = {"attributes": "VARCHAR", "tags": "VARCHAR[]", "fingerprint": "UBIGINT"}
        assert columns == {"id": "VARCHAR", "key": "UHUGEINT"} | types

    def test_failed_source_leaves_no_table(self, tmp_path: Path) -> None:
        """An earlier source's table does not remain after a failure."""
        with duckdb.connect() as connection:
            stage(connection, Source.of(["a"]), IdRules())
            with pytest.raises(SourceError):
                stage(connection, Source.parse(tmp_path / "missing.csv"), IdRules())
            assert connection.execute("FROM duckdb_tables()").fetchall() == []


class TestResources:
    """Full memory or disk is an error of the staging."""

    @pytest.mark.parametrize("columns", [[], ["n"]][: examples(1, 2)])
    def test_memory_is_bounded(self, columns: list[str], tmp_path: Path) -> None:
        """Rows beyond the memory limit are spilled to disk."""
        path = parquet(
            tmp_path / "x.parquet", "SELECT uuid()::VARCHAR AS id, uuid()::VARCHAR AS n FROM range(600000)"
        )
        spill = str(tmp_path / "spill")
        config: Any = {"memory_limit": "60MB", "temp_directory": spill, "threads": 2}
        with duckdb.connect(config=config) as connection:
            assert stage(connection, Source.parse(path, attributes=columns), IdRules()).kept == 600_000

    def test_full_memory_is_not_an_error_of_the_source(self, tmp_path: Path) -> None:
        """If memory is full and cannot spill, the error names the memory limit."""
        path = parquet(tmp_path / "x.parquet", "SELECT uuid()::VARCHAR AS id FROM range(600000)")
        with duckdb.connect(config={"memory_limit": "20MB", "temp_directory": ""}) as connection:
            with pytest.raises(StagingError, match="memory limit"):
                stage(connection, Source.parse(path), IdRules())
            assert connection.execute("FROM duckdb_tables()").fetchall() == []

    def test_full_disk_is_detected_by_the_message(self) -> None:
        """DuckDB has no exception of its own for a full disk."""
        error = duckdb.IOException("IO Error: Could not write file: No space left on device\nand more")
        assert str(_staging_error(error)) == (
            "The rows could not be staged: IO Error: Could not write file: No space left on device. "
            "Raise the memory limit, or use a temp directory with more space. Nothing was sent."
        )

    def test_other_failures_are_errors(self, tmp_path: Path) -> None:
        """A connection that cannot create tables is an error of the staging."""
        duckdb.connect(str(tmp_path / "x.duckdb")).close()
        database = duckdb.connect(str(tmp_path / "x.duckdb"), read_only=True)
        with database as connection, pytest.raises(StagingError, match="read-only"):
            _rows(connection, "CREATE TABLE t (i INTEGER)")

    def test_interrupt_is_not_an_error(self) -> None:
        """An interrupted statement has not failed."""
        with duckdb.connect() as connection:
            ended = threading.Event()

            def interrupt() -> None:
                while not ended.wait(0.1):  # DuckDB forgets one that comes before the statement
                    connection.interrupt()

            thread = threading.Thread(target=interrupt)
            thread.start()
            with pytest.raises(duckdb.InterruptException):
                _rows(connection, "SELECT sum(hash(i)) FROM range(1000000000000) AS t(i)")
            ended.set()
            thread.join()


@pytest.mark.parametrize(
    "error",
    [
        SourceError("no header", location="x.csv", line=1),
        SourceError("gone", location="<ids>"),
        StagingError("full"),
    ],
)
def test_errors_survive_pickling(error: SyncError) -> None:
    """A pickled error keeps its text and attributes."""
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert type(copy) is type(error)
    assert (str(copy), vars(copy)) == (str(error), vars(error))
    assert os.linesep not in str(copy)
