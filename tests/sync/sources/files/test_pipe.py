"""Pipes without a writer, or with one that hangs, and files that expand without end."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import duckdb
import pytest

from aiobatch.sync._errors import SourceError, StagingError
from aiobatch.sync.sources._id_rules import IdRules
from aiobatch.sync.sources._rejects import append_rejects
from aiobatch.sync.sources._source import Source
from aiobatch.sync.sources._stage import StageOptions, stage
from aiobatch.sync.sources.files import _read

from ...staged import parquet, refusal


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """Make a named pipe."""
    os.mkfifo(tmp_path / "pipe.csv")
    return tmp_path / "pipe.csv"


@pytest.mark.parametrize("writer", ["none", "hangs"])
def test_hanging_pipe_can_be_stopped(writer: str, pipe: Path) -> None:
    """An error of the callback ends the wait for a writer, and the wait for its data."""
    held = os.open(pipe, os.O_RDWR) if writer == "hangs" else None
    if held is not None:
        os.write(held, b"id\na\n")

    def stop(_rows: int) -> None:
        raise KeyboardInterrupt

    with duckdb.connect() as connection, pytest.raises(KeyboardInterrupt):
        stage(connection, Source.parse(pipe), IdRules(), on_progress=stop)
    if held is not None:
        os.close(held)


def test_silent_writer_is_given_up(pipe: Path) -> None:
    """A writer that sends nothing for long is an error of the source."""
    with duckdb.connect() as connection, pytest.raises(SourceError, match=r"within 0\.2 seconds"):
        stage(connection, Source.parse(pipe), IdRules(), options=StageOptions(idle_timeout=0.2))


def test_standard_input_that_hangs_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same holds for standard input, whose buffer may have data."""
    reading, writing = os.pipe()
    os.write(writing, b"id\na\n")
    with os.fdopen(reading, "r") as stream:
        monkeypatch.setattr("sys.stdin", stream)
        with duckdb.connect() as connection:
            with pytest.raises(SourceError, match="did not arrive"):
                stage(connection, Source.parse("-"), IdRules(), options=StageOptions(idle_timeout=0.2))
            os.write(writing, b"id\nb\n")
            os.close(writing)
            assert stage(connection, Source.parse("-"), IdRules()).kept == 1


def test_expansion_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compressed file that expands far more than a list of IDs does is refused. A real list is not."""
    monkeypatch.setattr(_read, "_MOST_PLAIN", 100_000)
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(b"id\n" + b"a\n" * 2_000_000))
    assert "expands to more than 200 times" in str(refusal(path, tmp_path))
    path.write_bytes(gzip.compress(b"id\n" + b"".join(b"user_%08d\n" % number for number in range(200_000))))
    with duckdb.connect() as connection:
        assert stage(connection, Source.parse(path), IdRules()).kept == 200_000


def test_spill_is_bounded(tmp_path: Path) -> None:
    """Data beyond the limit on disk is an error that names the option."""
    path = parquet(tmp_path / "x.parquet", "SELECT uuid()::VARCHAR AS id FROM range(600000)")
    config = {"memory_limit": "40MB", "temp_directory": str(tmp_path / "spill"), "threads": "1"}
    with duckdb.connect(config=config) as connection:  # type: ignore[arg-type]  # a dict is invariant
        with pytest.raises(StagingError, match="max_spill"):
            stage(connection, Source.parse(path), IdRules(), options=StageOptions(max_spill="1MB"))
        assert stage(connection, Source.parse(path), IdRules()).kept == 600_000


def test_spill_leaves_half_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default, half of the free space of the temp directory's disk is the limit."""

    class _Usage:
        free = 10_000_000_000

    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Usage)
    with duckdb.connect(config={"temp_directory": str(tmp_path / "not" / "yet")}) as connection:
        stage(connection, Source.of(["a"]), IdRules())
        found = connection.execute("SELECT current_setting('max_temp_directory_size')").fetchall()
    assert found == [("4.6 GiB",)]


def test_compressed_reject_file_is_one_gzip_file(tmp_path: Path) -> None:
    """A reject file that is named .gz can be read by gunzip, also with the IDs that Batch refused."""
    path = tmp_path / "rejects.csv.gz"
    with duckdb.connect() as connection:
        stage(connection, Source.of(["a", "", "b\x01"]), IdRules(), rejects=path)
    append_rejects(path, ["c"])
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    assert lines[0] == "source,row,line,reason,id"
    assert lines[-1] == "batch,,,refused_by_batch,c"
    assert len(lines) == 4
    plain = tmp_path / "rejects.csv.zst"
    with duckdb.connect() as connection:
        stage(connection, Source.of([""]), IdRules(), rejects=plain)
    assert plain.read_text().startswith("source,row")
