"""Sources that are rare: empty parts, long headers, slow pipes, and messages of full or read-only disks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import duckdb
import pytest

from aiobatch.sync.sources._databases import _hint
from aiobatch.sync.sources._duckdb_source import _explain
from aiobatch.sync.sources._location import Database
from aiobatch.sync.sources._relation import ReadContext
from aiobatch.sync.sources._source import Source
from aiobatch.sync.sources._source_file import SourceFile
from aiobatch.sync.sources.files._csv import _explain_bare
from aiobatch.sync.sources.files._pipe import piped_blocks
from aiobatch.sync.sources.files._records import jsonl_rows

from ..staged import parquet, refusal, staged


def test_empty_part_of_json_lines_fits(tmp_path: Path) -> None:
    """A file without lines has no ID column that could differ."""
    directory = tmp_path / "d"
    directory.mkdir()
    for name, text in (("1", ""), ("2", '{"user_id": "a"}\n\n'), ("3", "")):
        (directory / f"{name}.jsonl").write_text(text)
    assert staged(directory, tmp_path).ids == {"a"}
    file = SourceFile(path=str(directory / "2.jsonl"), shown="2", compressed=False)
    assert [line for line, _ in jsonl_rows(file)] == [1]


def test_only_column_of_parquet_is_enough(tmp_path: Path) -> None:
    """The only column of a Parquet file needs no known name: the format itself is evidence."""
    assert staged(parquet(tmp_path / "x.parquet", "SELECT 'a' AS email"), tmp_path).ids == {"a"}


def test_header_that_is_cut_within_a_character_is_text(tmp_path: Path) -> None:
    """The first part of a file may end within a character, which is no fault of its encoding."""
    path = tmp_path / "x.csv"
    path.write_bytes(b"x" * (1024 * 1024 - 1) + "é\na\n".encode())
    assert "the header cannot be read" in str(refusal(path, tmp_path))


def test_closed_standard_input_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program without standard input cannot read it."""
    monkeypatch.setattr(sys, "stdin", None)
    assert "standard input is closed" in str(refusal("-", tmp_path))


def test_pipe_that_had_no_data_after_all_is_read_again() -> None:
    """A read without data is not the end."""
    answers = iter([None, b"x", b""])

    class _Stream:
        def fileno(self) -> int:
            raise OSError

        def read(self, _size: int) -> bytes | None:
            return next(answers)

    class _Context:
        class interruptible:  # noqa: N801 - the name of the attribute
            check = arrived = staticmethod(lambda: None)

    stream = cast("Any", _Stream())
    assert list(piped_blocks(cast("ReadContext", _Context), stream)) == [b"x"]


def test_messages_of_rare_failures() -> None:
    """Full memory and directories that cannot be written to are named. Values are not shown."""
    location = Source.parse("sqlite:///x.db", query="SELECT 1").location
    assert isinstance(location, Database)
    assert "memory or disk is full" in str(_explain(location, duckdb.OutOfMemoryException("secret")))
    assert "WAL mode" in _hint("unable to open database file", location)
    file = SourceFile(path="x", shown="x", compressed=False)
    assert "secret" not in str(_explain_bare(duckdb.IOException("secret"), file))
