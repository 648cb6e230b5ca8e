"""Copies of objects: large, changed meanwhile, private, stopped, hanging or short."""

from __future__ import annotations

import asyncio
import gzip
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import obstore
import pytest

from aiobatch.sync._errors import StagingError
from aiobatch.sync.sources import IdRules, read_ids
from aiobatch.sync.sources._source import Source
from aiobatch.sync.sources._stage import StageOptions, stage
from aiobatch.sync.sources.files._read import checked_file
from aiobatch.sync.sources.objects import _read

from ...staged import parquet, refusal, staged
from .buckets import Bucket

Buckets = Callable[[Mapping[str, bytes]], Bucket]


def test_large_objects_arrive_by_ranges_of_one_version(
    bucket_of: Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many ranges, some at a time, give the bytes of the object."""
    monkeypatch.setattr(_read, "_LARGEST", 10_007)
    path = parquet(tmp_path / "ids.parquet", "SELECT md5(i::VARCHAR) AS id FROM range(9000) t(i)")
    bucket = bucket_of({"ids.parquet": path.read_bytes(), "ids.csv.gz": gzip.compress(b"id\na\nb\n")})
    assert staged(bucket.url("ids.parquet"), tmp_path).rows == staged(path, tmp_path).rows
    assert staged(bucket.url("ids.csv.gz"), tmp_path).ids == {"a", "b"}
    blocks = read_ids(Source.parse(bucket.url("ids.csv.gz")), IdRules())
    assert [*blocks] == [["a", "b"]]


@pytest.mark.parametrize("change", ["between ranges", "after the copy", "another object", "deleted"])
def test_objects_that_change_stop_the_run(
    change: str, bucket_of: Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object that is replaced, added or removed while others are read stops the run."""
    monkeypatch.setattr(_read, "_LARGEST", 1000)
    monkeypatch.setattr(_read, "_CONCURRENT", 1)
    bucket = bucket_of({"d/a.csv": b"id\n" + b"a\n" * 2000, "d/b.csv": b"id\nb\n"})
    copy, checked = _read._copy_stream, checked_file
    done: list[str] = []

    async def copy_and_change(*arguments: Any) -> int:
        end = await copy(*arguments)
        if change == "between ranges" and not done:
            done.append(change)
            bucket.put("d/a.csv", b"id\n" + b"z\n" * 2000)
        return end

    def checked_and_change(*arguments: Any) -> Any:
        if not done:
            done.append(change)
            if change == "after the copy":
                bucket.put("d/a.csv", b"id\n" + b"z\n" * 2000)
            elif change == "another object":
                bucket.put("d/c.csv", b"id\nc\n")
            else:
                obstore.delete(bucket.store, "d/b.csv")
        return checked(*arguments)

    monkeypatch.setattr(_read, "_copy_stream", copy_and_change)
    monkeypatch.setattr(_read, "checked_file", checked_and_change)
    error = str(refusal(bucket.url("d"), tmp_path))
    assert "changed while being read" in error if change != "deleted" else "it does not exist" in error
    assert done


def test_copies_are_private_limited_and_deleted(
    bucket_of: Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy is in the temp directory with mode 0600, counts as spill, and is gone afterwards."""
    spill = tmp_path / "spill"
    spill.mkdir()
    bucket = bucket_of({"a.csv": b"id\n" + b"abcdefgh\n" * 1000})
    modes: list[int] = []
    checked = checked_file

    def look(context: Any, path: str, *arguments: Any) -> Any:
        assert Path(path).parent == spill
        modes.append(stat.S_IMODE(Path(path).stat().st_mode))
        return checked(context, path, *arguments)

    monkeypatch.setattr(_read, "checked_file", look)
    source = Source.parse(bucket.url("a.csv"))
    with duckdb.connect(config={"temp_directory": str(spill)}) as connection:
        assert stage(connection, source, IdRules()).kept == 1
        before = connection.execute("SELECT current_setting('max_temp_directory_size')").fetchall()
        assert stage(connection, source, IdRules(), options=StageOptions(max_spill="10kB")).kept == 1
        with pytest.raises(
            StagingError, match=r"9,003 bytes, and 8,9.. may be used on disk. Raise max_spill"
        ):
            stage(connection, source, IdRules(), options=StageOptions(max_spill="9kB"))
        assert before
    assert modes == [0o600, 0o600]
    assert [*spill.iterdir()] == []


def test_a_full_disk_is_no_fault_of_the_store(
    bucket_of: Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that cannot be written is an error of the staging."""
    bucket = bucket_of({"a.csv": b"id\na\n"})

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StagingError, match="No space left on device"):
        staged(bucket.url("a.csv"), tmp_path)


def test_a_run_that_is_stopped_ends_the_copy(bucket_of: Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
    """The callback's error ends a download that hangs, at once."""
    bucket = bucket_of({"a.csv": b"id\na\n"})
    begun: list[bool] = []

    async def hang(*_: object) -> int:
        begun.append(True)
        await asyncio.sleep(3600)
        raise AssertionError

    def stop(_: int) -> None:
        if begun:
            raise KeyboardInterrupt

    monkeypatch.setattr(_read, "_copy_stream", hang)
    with duckdb.connect() as connection, pytest.raises(KeyboardInterrupt):
        stage(connection, Source.parse(bucket.url("a.csv")), IdRules(), on_progress=stop)


def test_a_store_that_hangs_ends_with_the_source_timeout(
    bucket_of: Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """source_timeout limits the wait for the next bytes."""
    bucket = bucket_of({"a.csv": b"id\na\n"})

    async def hang(*_: object) -> int:
        await asyncio.sleep(3600)
        raise AssertionError

    monkeypatch.setattr(_read, "_copy_stream", hang)
    error = refusal(bucket.url("a.csv"), tmp_path, source_timeout=0.5)
    assert "nothing arrived for 0.5 seconds" in str(error)


def test_short_answers_are_noticed(
    bucket_of: Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer with fewer bytes than the object has is an error."""
    bucket = bucket_of({"a.csv": b"id\na\n"})
    copy = _read._copy_stream

    async def shorter(*arguments: Any) -> int:
        return await copy(*arguments) - 1

    monkeypatch.setattr(_read, "_copy_stream", shorter)
    assert "not all of its bytes arrived" in str(refusal(bucket.url("a.csv"), tmp_path))
