from __future__ import annotations

import gzip
import io
import os
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from aiobatch.sync._errors import SourceError
from aiobatch.sync.sources._id_rules import IdRules
from aiobatch.sync.sources._source import Source
from aiobatch.sync.sources._stage import stage
from aiobatch.sync.sources.files._recognise import MARKS

from ...staged import parquet, refusal, relations_of, staged

_MANY = b"id,age\n" + b"".join(b"user_%06d,%d\n" % (number, number % 90) for number in range(50_000))
_MANY_LINES = b"".join(b'{"id":"user_%06d"}\n' % number for number in range(50_000))


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_gzip_is_detected_by_content(tmp_path: Path) -> None:
    """A file is decompressed whatever its name, and several members are read as one."""
    content = gzip.compress(b"id\na\n") + gzip.compress(b"b\n")
    assert staged(_write(tmp_path / "x.csv.gz", content), tmp_path).ids == {"a", "b"}
    assert staged(_write(tmp_path / "x.csv", content), tmp_path).ids == {"a", "b"}
    lines = gzip.compress(b'{"id": "a"}\n')
    assert staged(_write(tmp_path / "x.JSONL.gz", lines), tmp_path).ids == {"a"}


@pytest.mark.parametrize("content", [_MANY, _MANY_LINES], ids=["csv", "jsonl"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda content: content[: len(content) // 2], "it ends early"),
        (lambda content: content[:-8], "it ends early"),
        (lambda content: content[:-1], "it ends early"),
        (lambda content: content + b"garbage", "damaged"),
        (lambda content: content[:-6] + bytes([content[-6] ^ 255]) + content[-5:], "damaged"),
        (lambda content: content[:5000] + bytes(64) + content[5064:], "damaged"),
    ],
    ids=["half", "no trailer", "a byte less", "more", "another checksum", "a hole"],
)
def test_damage_stops_the_run(
    content: bytes, damage: Callable[[bytes], bytes], words: str, tmp_path: Path
) -> None:
    """A compressed file that is truncated, longer or changed is refused, even if DuckDB would read it."""
    name = "x.csv.gz" if content is _MANY else "x.jsonl.gz"
    path = _write(tmp_path / name, damage(gzip.compress(content)))
    assert words in str(refusal(path, tmp_path))


@pytest.mark.parametrize("suffix", MARKS)
def test_file_that_is_not_compressed_as_its_name_promises_is_refused(suffix: str, tmp_path: Path) -> None:
    """A file that is not compressed has the wrong name, and one without a complete mark ends early."""
    path = tmp_path / f"x.csv{suffix}"
    assert f"its name ends in {suffix}, but" in str(refusal(_write(path, b"id\na\n"), tmp_path))
    for size in range(len(MARKS[suffix])):
        assert "it ends early" in str(refusal(_write(path, MARKS[suffix][:size]), tmp_path))


def test_any_truncation_of_a_file_is_called_one(tmp_path: Path) -> None:
    """A gzip or Parquet file that ends anywhere before its end is refused as one that ends early."""
    whole = parquet(tmp_path / "whole.parquet", "SELECT 'a' AS id").read_bytes()
    for name, content in {"x.csv.gz": gzip.compress(b"id\na\n"), "x.parquet": whole}.items():
        for size in range(0, len(content), max(len(content) // 20, 1)):
            assert "it ends early" in str(refusal(_write(tmp_path / name, content[:size]), tmp_path))


def test_files_are_read_in_order(tmp_path: Path) -> None:
    """Files are read in the order of their names, the last row wins, and rows are numbered by file."""
    directory = tmp_path / "d"
    directory.mkdir()
    _write(directory / "b.csv", b"id,n\nx,later\n,\n")
    _write(directory / "a.csv.gz", gzip.compress(b"n,id\nfirst,x\n,\nonly,y\n"))
    _write(directory / "_SUCCESS", b"")
    _write(directory / ".b.csv.crc", b"")
    result = staged(directory, tmp_path, attributes=["n"])
    assert result.attributes == {"x": {"n": "later"}, "y": {"n": "only"}}
    assert result.counts.duplicate == 1
    rejected = [(str(directory / "a.csv.gz"), 2), (str(directory / "b.csv"), 2)]
    assert [reject[:2] for reject in result.rejects] == rejected


def test_patterns_are_matched(tmp_path: Path) -> None:
    """A pattern matches files in any depth, and no directory."""
    (tmp_path / "d" / "e.csv").mkdir(parents=True)
    _write(tmp_path / "d" / "x.csv", b"id\na\n")
    _write(tmp_path / "d" / "e.csv" / "y.csv", b"id\nb\n")
    assert staged(f"{tmp_path}/**/*.csv", tmp_path).ids == {"a", "b"}
    assert staged(f"{tmp_path}/d/*.csv", tmp_path).ids == {"a"}


@pytest.mark.parametrize(
    "name", ["a[1].csv", "a*.csv", "a?.csv", "it's.csv", "[a].csv", "http:x.csv", 'q".csv']
)
def test_existing_name_is_not_a_pattern(name: str, tmp_path: Path) -> None:
    """An existing file whose name looks like a pattern is that file."""
    _write(tmp_path / name, b"id\na\n")
    _write(tmp_path / "a1.csv", b"id\nother\n")
    assert staged(tmp_path / name, tmp_path).ids == {"a"}


def test_partitions_add_no_columns(tmp_path: Path) -> None:
    """A directory named `user_id=5` adds no column."""
    directory = tmp_path / "user_id=5"
    directory.mkdir()
    parquet(directory / "x.parquet", "SELECT 'a' AS id")
    _write(directory / "x.csv", b"id,x\na,1\n")
    assert staged(directory / "x.parquet", tmp_path).ids == {"a"}
    assert staged(directory / "x.csv", tmp_path).ids == {"a"}


def test_invalid_set_of_files_is_refused(tmp_path: Path) -> None:
    """No file, several formats, nested directories and unknown names are errors with advice."""
    directory = tmp_path / "d"
    directory.mkdir()
    assert "no matching files" in str(refusal(directory, tmp_path))
    assert "no matching files" in str(refusal(f"{directory}/*.csv", tmp_path))
    assert "No such file" in str(refusal(directory / "x.csv", tmp_path))
    assert "no known suffix" in str(refusal(_write(tmp_path / "x.txt", b"id\na\n"), tmp_path))
    assert staged(tmp_path / "x.txt", tmp_path, format="csv").ids == {"a"}
    _write(directory / "a.csv", b"id\na\n")
    _write(directory / "b.jsonl", b"{}\n")
    assert "several formats (csv, jsonl)" in str(refusal(directory, tmp_path))
    (directory / "e").mkdir()
    assert "it contains directories ('e')" in str(refusal(directory, tmp_path))


def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    """An error of the operating system becomes an error of the source."""
    loop = tmp_path / "x.csv"
    loop.symlink_to(loop)
    assert "cannot be read" in str(refusal(loop, tmp_path))


def test_changing_file_is_refused(tmp_path: Path) -> None:
    """A file that is written while it is read is not complete."""
    path = _write(tmp_path / "x.csv", b"id\na\n")
    with duckdb.connect() as connection:
        relations = relations_of(connection, Source.parse(path))
        next(relations)
        path.write_bytes(b"id\na\nb\n")
        with pytest.raises(SourceError, match="changed while"):
            next(relations)


class _Piped:
    """Standard input: bytes, from a pipe or a terminal."""

    def __init__(self, buffer: io.BytesIO, *, terminal: bool = False) -> None:
        self.buffer = buffer
        self._terminal = terminal

    def isatty(self) -> bool:
        """Return whether the input is a terminal."""
        return self._terminal


def _pipe(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", _Piped(io.BytesIO(content)))


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_csv_is_the_default(
    compress: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A dash reads CSV from standard input, compressed or not."""
    _pipe(monkeypatch, compress(b"id\na\n\n"))
    result = staged("-", tmp_path)
    assert result.ids == {"a"}
    assert result.rejects == [("-", 2, "empty", "")]


def test_other_formats_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """JSON lines and Parquet can be piped in as well."""
    _pipe(monkeypatch, b'{"id":"a"}\n')
    assert staged("-", tmp_path, format="jsonl").ids == {"a"}
    _pipe(monkeypatch, parquet(tmp_path / "x.parquet", "SELECT 'b' AS id").read_bytes())
    assert staged("-", tmp_path, format="parquet").ids == {"b"}


def test_terminal_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A terminal is an error, instead of a wait for input."""
    monkeypatch.setattr(sys, "stdin", _Piped(io.BytesIO(), terminal=True))
    assert "is a terminal" in str(refusal("-", tmp_path))


def test_damage_names_standard_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An error names the dash, not the temporary file."""
    _pipe(monkeypatch, b"id,x\na\n")
    assert refusal("-", tmp_path).location == "-"


def test_copy_of_standard_input_is_private_and_temporary(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The copy is in DuckDB's temp directory, readable by its owner only, and deleted at the end."""
    spool = tmp_path / "spill"
    spool.mkdir()
    modes: list[int] = []

    class Watching(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            modes.extend(stat.S_IMODE(file.stat().st_mode) for file in spool.iterdir())
            return super().read(size)

    monkeypatch.setattr(sys, "stdin", _Piped(Watching(b"id\na\n")))
    with duckdb.connect(config={"temp_directory": str(spool)}) as connection:
        assert stage(connection, Source.parse("-"), IdRules()).kept == 1
    assert set(modes) == {0o600}
    assert list(spool.iterdir()) == []


@pytest.mark.parametrize("name", ["pipe", "pipe.jsonl"])
def test_named_pipes_are_copied(name: str, tmp_path: Path) -> None:
    """A named pipe, such as a shell's process substitution, is read like standard input."""
    path = tmp_path / name
    os.mkfifo(path)
    content = b'{"id":"a"}\n' if path.suffix else b"id\na\n"
    writer = threading.Thread(target=path.write_bytes, args=(content,))
    writer.start()
    assert staged(path, tmp_path).ids == {"a"}
    writer.join()
