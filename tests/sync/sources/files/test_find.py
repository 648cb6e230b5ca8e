"""The files of a source: one snapshot, one contract, and no parts of a table with a log."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from aiobatch.sync._errors import SourceError
from aiobatch.sync.sources._source import Source

from ...staged import parquet, refusal, relations_of, staged


def _write(path: Path, content: bytes = b"id\na\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"a.csv": b"id,n\nu1,1\n", "b.csv": b"email\nx@y.z\n"}, "its columns differ"),
        ({"a.csv": b"id,n\nu1,1\n", "b.csv": b"user_id,n\nu3,1\n"}, "its ID column is 'user_id', not 'id'"),
        ({"a.csv": b"id,n\nu1,1\n", "b.csv": b"id;n\nu3;1\n"}, "its delimiter is a semicolon, not a comma"),
        ({"a.csv": b"id,n\nu1,1\n", "b.csv": b"u2,1\nu3,1\n"}, "its columns differ"),
        ({"a.csv": b"id\nu1\n", "b.csv": b"ID\nu1\n"}, "its ID column is 'ID', not 'id'"),
        ({"a.jsonl": b'{"id": "a"}\n', "b.jsonl": b'{"user_id": "b"}\n'}, "its ID column is 'user_id'"),
        ({"a.jsonl": b'{"id": "a"}\n', "b.jsonl": b'{"x": "b"}\n'}, "its columns differ"),
    ],
)
def test_text_files_that_differ_are_both_named(files: dict[str, bytes], problem: str, tmp_path: Path) -> None:
    """ID column and delimiter are chosen once. A file that differs stops the run, and both are named."""
    directory = tmp_path / "d"
    for name, content in files.items():
        _write(directory / name, content)
    for source in (directory, f"{directory}/*"):
        error = str(refusal(source, tmp_path))
        assert problem in error
        for name in files:
            assert str(directory / name) in error


@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        ("SELECT 'a' AS id", "SELECT 5 AS id", "its IDs are whole numbers, not text"),
        ("SELECT 5::BIGINT AS id", "SELECT 'a' AS id", "its IDs are text, not whole numbers"),
        ("SELECT 'a' AS id", "SELECT 'b' AS user_id", "its ID column is 'user_id', not 'id'"),
        ("SELECT 'a' AS id", "SELECT 1.5::DOUBLE AS id", "has the type DOUBLE"),
        ("SELECT 'a' AS id, 1 AS n", "SELECT 'b' AS name, 1 AS n", "its columns differ"),
    ],
)
def test_parquet_files_that_differ_are_both_named(
    first: str, second: str, problem: str, tmp_path: Path
) -> None:
    """The type of the IDs is chosen once, too."""
    directory = tmp_path / "d"
    directory.mkdir()
    parquet(directory / "1.parquet", first)
    parquet(directory / "2.parquet", second)
    error = str(refusal(directory, tmp_path))
    assert problem in error
    assert "1.parquet" in error
    assert "2.parquet" in error


@pytest.mark.parametrize("kind", ["DOUBLE", "INTEGER", "VARCHAR", "BOOLEAN", "DATE", "BIGINT"])
def test_part_without_ids_fits_any_type(kind: str, tmp_path: Path) -> None:
    """A writer gives a column of NULL any type. Such a part stops nothing, wherever it comes."""
    directory = tmp_path / "d"
    directory.mkdir()
    for place in ("0", "2"):
        parquet(directory / f"{place}.parquet", f"SELECT NULL::{kind} AS id, 1 AS n")
    parquet(directory / "1.parquet", "SELECT 'a' AS id, 1 AS n")
    result = staged(directory, tmp_path)
    assert result.ids == {"a"}
    assert [reject[2] for reject in result.rejects] == ["empty", "empty"]


def test_files_of_one_type_fit(tmp_path: Path) -> None:
    """Integers of several widths are whole numbers, and the order of columns does not matter."""
    directory = tmp_path / "d"
    directory.mkdir()
    parquet(directory / "1.parquet", "SELECT 1::TINYINT AS id, 2 AS n")
    parquet(directory / "2.parquet", "SELECT 2 AS n, 300::BIGINT AS id")
    assert staged(directory, tmp_path).ids == {"1", "300"}


def test_all_keys_of_a_json_file_count(tmp_path: Path) -> None:
    """The first lines may lack the ID, and may contain NaN."""
    path = _write(
        tmp_path / "x.jsonl", b'{"country": "FR", "n": NaN}\n{"user_id": "u1"}\n{"user_id": "u2"}\n'
    )
    result = staged(path, tmp_path)
    assert result.ids == {"u1", "u2"}
    assert [reject[1:3] for reject in result.rejects] == [(1, "empty")]
    _write(path, b'{"x": 1}\n{"user_id": "u1"}\n{"id": "u2"}\n')
    assert "no single column" in str(refusal(path, tmp_path))
    _write(path, b'{"id": "u1", "n": NaN}\n{"id": "u2", "n": -Infinity}\n{"id": "u3", "n": 1.5}\n')
    result = staged(path, tmp_path, attributes=["n"])
    assert result.attributes == {"u3": {"n": 1.5}}


_TABLES = {
    "delta": lambda root: _write(root / "_delta_log" / "00000000000000000000.json"),
    "hudi": lambda root: (root / ".hoodie").mkdir(parents=True),
    "iceberg": lambda root: _write(root / "metadata" / "v1.metadata.json"),
    "iceberg hint": lambda root: _write(root / "metadata" / "version-hint.text"),
    "paimon": lambda root: [(root / name).mkdir(parents=True) for name in ("snapshot", "manifest")],
}


@pytest.mark.sample(5)
@pytest.mark.parametrize("make", _TABLES.values(), ids=_TABLES)
@pytest.mark.parametrize("folder", [".", "data", "dt=2026-11-28", "data/a/b"])
def test_tables_are_no_folders_of_files(make: Callable[[Path], object], folder: str, tmp_path: Path) -> None:
    """However a file of a table is named, the log of the table is found at or above it."""
    root = tmp_path / "table"
    make(root)
    (root / folder).mkdir(parents=True, exist_ok=True)
    file = parquet(root / folder / "x.parquet", "SELECT 'deleted' AS id")
    link = tmp_path / "elsewhere.parquet"
    link.symlink_to(file)
    for source in (file, file.parent, f"{file.parent}/*.parquet", f"{root}/**/*.parquet", link):
        error = str(refusal(source, tmp_path))
        assert "table" in error
        assert "xport the current rows" in error


def test_hive_transactions_are_no_folders_of_files(tmp_path: Path) -> None:
    """The directories of a transactional Hive table hold changes, not rows."""
    for name in ("delta_0000001_0000001_0000", "base_0000003", "delete_delta_0000002_0000002"):
        file = tmp_path / "t" / name / "x.parquet"
        file.parent.mkdir(parents=True)
        parquet(file, "SELECT 'a' AS id")
        assert "Hive ACID" in str(refusal(file, tmp_path))


def test_other_directories_are_no_tables(tmp_path: Path) -> None:
    """A directory named metadata or manifest alone means nothing."""
    _write(tmp_path / "d" / "metadata" / "readme.json")
    _write(tmp_path / "d" / "manifest" / "x")
    assert staged(_write(tmp_path / "d" / "x.csv"), tmp_path).ids == {"a"}


def test_hidden_names_are_left_out_at_every_depth(tmp_path: Path) -> None:
    """Drafts and markers count neither in a directory nor for a pattern, unless the pattern names them."""
    root = tmp_path / "d"
    for name in ("x.csv", "a/y.csv", "a/b/z.csv"):
        _write(root / name, f"id\n{name}\n".encode())
    hidden = (
        "_tmp/x.csv",
        ".x.csv",
        "a/_temporary/0/x.csv",
        "a/.y.csv",
        "a/b/_z.csv",
        "a/b/.hid/x.csv",
        "_x.csv",
    )
    for name in hidden:
        _write(root / name, b"id\nhidden\n")
    assert staged(f"{root}/**/*.csv", tmp_path).ids == {"x.csv", "a/y.csv", "a/b/z.csv"}
    assert staged(f"{root}/*.csv", tmp_path).ids == {"x.csv"}
    assert staged(f"{root}/*/*.csv", tmp_path).ids == {"a/y.csv"}
    assert staged(f"{root}/**", tmp_path, format="csv").ids == {"x.csv", "a/y.csv", "a/b/z.csv"}
    assert staged(f"{root}/a/**/*.csv", tmp_path).ids == {"a/y.csv", "a/b/z.csv"}
    assert staged(f"{root}/_tmp/*.csv", tmp_path).ids == {"hidden"}
    assert staged(f"{root}/_*.csv", tmp_path).ids == {"hidden"}
    assert staged(f"{root}/?.cs[v]", tmp_path).ids == {"x.csv"}


def test_patterns_are_relative_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pattern starts in the working directory unless it is absolute."""
    _write(tmp_path / "d" / "x.csv")
    monkeypatch.chdir(tmp_path)
    for pattern in ("*/x.csv", "d/*.csv", "**/x.csv", "./d/*.csv", "d/../d/*.csv"):
        assert staged(pattern, tmp_path).ids == {"a"}


@pytest.mark.parametrize("name", ["d", "it's [1]", "a*b", "déjà"])
def test_suggested_pattern_reads_the_directory_itself(name: str, tmp_path: Path) -> None:
    """A pattern that an error suggests reads no older export in a directory below."""
    root = tmp_path / name
    _write(root / "x.csv", b"id\nnow\n")
    _write(root / "archive" / "old.csv", b"id\nold\n")
    _write(root / "_draft.csv", b"id\ndraft\n")
    error = str(refusal(root, tmp_path))
    found = re.search(r"or '(.*)' for its own files", error)
    assert found
    assert staged(found[1], tmp_path).ids == {"now"}
    (root / "x.csv").unlink()
    error = str(refusal(root, tmp_path))
    assert "Name the one to read. " in error
    assert "*" not in error.replace(str(root), "")


def test_unreadable_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that cannot be listed is an error, not an empty one, also for a pattern."""
    root = tmp_path / "d"
    _write(root / "a" / "x.csv")
    locked = root / "b"
    locked.mkdir()

    def scandir(path: str) -> object:
        if Path(path) == locked:
            raise PermissionError(13, "Permission denied", path)
        return os_scandir(path)

    os_scandir = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)  # tests may run as root, who can read all
    for source in (f"{root}/*/*.csv", f"{root}/**/*.csv", locked):
        assert "Permission denied" in str(refusal(source, tmp_path))


def _flip(root: Path) -> None:
    (root / "latest").unlink()
    (root / "latest").symlink_to("v2")


def _replace(root: Path) -> None:
    """Replace a file by one of the same size and time."""
    file = root / "v1" / "a.csv"
    draft = root / "v1" / "_draft"
    shutil.copy2(file, draft)
    draft.replace(file)


def _replace_directory(root: Path) -> None:
    shutil.rmtree(root / "v1")
    shutil.copytree(root / "v2", root / "v1")


_CHANGES: dict[str, Callable[[Path], object]] = {
    "flipped link": _flip,
    "replaced": _replace,
    "grown": lambda root: (root / "v1" / "a.csv").write_bytes(b"id\na\nb\n"),
    "written in place": lambda root: (root / "v1" / "b.csv").write_bytes(b"id\nc\n"),
    "added": lambda root: _write(root / "v1" / "c.csv"),
    "removed": lambda root: (root / "v1" / "a.csv").unlink(),
    "renamed": lambda root: (root / "v1" / "a.csv").rename(root / "v1" / "d.csv"),
    "all gone": lambda root: shutil.move(root / "v1", root / "v3"),
    "directory replaced": _replace_directory,
}


@pytest.mark.parametrize("change", _CHANGES.values(), ids=_CHANGES)
@pytest.mark.parametrize("source", ["latest", "latest/*.csv", "*/a.csv", "**/*.csv"])
def test_set_of_files_is_one_snapshot(change: Callable[[Path], object], source: str, tmp_path: Path) -> None:
    """Files that are added, replaced or changed while others are read stop the run."""
    for version in ("v1", "v2"):
        _write(tmp_path / version / "a.csv")
        _write(tmp_path / version / "b.csv", b"id\nb\n")
    (tmp_path / "latest").symlink_to("v1")
    with duckdb.connect() as connection:
        relations = relations_of(connection, Source.parse(f"{tmp_path}/{source}"))
        next(relations)
        change(tmp_path)
        outside = {"*/a.csv": (_CHANGES["added"], _CHANGES["written in place"]), "**/*.csv": (_flip,)}
        if change in outside.get(source, ()):
            assert list(relations)  # the pattern matches none of the changed files
            return
        with pytest.raises(SourceError, match=r"changed while being read|cannot be read"):
            list(relations)


def test_names_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    """A file whose name is not UTF-8 is refused by its name, which can be printed."""
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.csv")
    Path(name).write_bytes(b"id\na\n")
    for source in (name, tmp_path, f"{tmp_path}/*.csv"):
        error = refusal(source, tmp_path)
        assert "is not UTF-8. Rename it" in str(error)
        assert r"\xff.csv" in str(error).encode().decode()
