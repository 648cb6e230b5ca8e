"""Objects in a bucket are found, checked and read like files."""

from __future__ import annotations

import asyncio
import datetime as dt
import gzip
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, cast

import obstore
import pytest

from aiobatch.errors import InvalidInputError
from aiobatch.sync._errors import SourceError
from aiobatch.sync.sources._object_stores import ObjectAddress, is_loopback, problem_of
from aiobatch.sync.sources._source import Source
from aiobatch.sync.sources.objects._find import ObjectFinder

from ....helpers.s3_server import KEY_ID, SECRET
from ...staged import refusal, staged
from .buckets import Bucket

Buckets = Callable[[Mapping[str, bytes]], Bucket]
TREE: dict[str, bytes] = {
    "a.csv": b"id\na\n",
    "_draft.csv": b"id\ndraft\n",
    ".hidden.csv": b"id\nhidden\n",
    "dt=1/a.csv": b"id\nb\n",
    "dt=1/x[1].csv": b"id\nc\n",
    "dt=2/a.csv": b"id\nd\n",
    "dt=2/_SUCCESS": b"",
    "_old/a.csv": b"id\nold\n",
    "deep/er/b.csv": b"id\ne\n",
    "deep/er/_b.csv": b"id\nf\n",
    "deep/.x/b.csv": b"id\ng\n",
    "sp ce/é #1.csv": b"id\nh\n",
}


def _write(root: Path, files: Mapping[str, bytes]) -> None:
    for key, data in files.items():
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _outcome(source: str, root: str, tmp_path: Path) -> tuple[Any, Any]:
    """Return the IDs of a source and their places, or its error, without its root."""
    try:
        found = staged(source, tmp_path, id_column="id")
    except SourceError as error:
        return "error", re.sub(r"\W+", " ", error.text.replace(root, "").replace("objects", "files"))
    return sorted(found.ids), found.counts


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the tree."""
    path = tmp_path_factory.mktemp("tree")
    _write(path, TREE)
    return path


@pytest.fixture(scope="module")
def _shared() -> dict[str, Bucket]:
    return {}


@pytest.fixture
def tree(bucket_of: Buckets, _shared: dict[str, Bucket]) -> Bucket:
    """Return a bucket with the tree, one for the module."""
    if "tree" not in _shared:
        _shared["tree"] = bucket_of(TREE)
    return _shared["tree"]


@pytest.mark.sample(5)
@pytest.mark.parametrize(
    "key",
    [
        "a.csv",
        "dt=1",
        "dt=2/",
        "dt=1/x[1].csv",
        "dt=*/a.csv",
        "dt=[12]/*.csv",
        "dt=?/a.csv",
        "*.csv",
        "_*.csv",
        "_old/*.csv",
        "**/a.csv",
        "**/b.csv",
        "deep/**",
        "**",
        "deep",
        "nothing/*.csv",
        "sp ce/é #1.csv",
    ],
)
def test_addresses_mean_what_paths_mean(key: str, tree: Bucket, root: Path, tmp_path: Path) -> None:
    """A key, a directory or a pattern of a bucket selects what the same path selects on a disk."""
    local = _outcome(f"{root}/{key}", f"{root}/", tmp_path)
    assert _outcome(tree.url(key), tree.url(), tmp_path) == local
    assert local[0] != "error" or key in {"deep", "nothing/*.csv"}, local


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "extra",
    [
        "_delta_log/00000000000000000000.json",
        ".hoodie/hoodie.properties",
        "metadata/v1.metadata.json",
        "metadata/version-hint.text",
    ],
)
@pytest.mark.parametrize("above", ["", "t/"])
def test_objects_of_a_table_are_refused(extra: str, above: str, bucket_of: Buckets, tmp_path: Path) -> None:
    """The log of a table at or above an object decides which rows count, so the object alone is refused."""
    bucket = bucket_of({f"{above}{extra}": b"x", "t/data/part.csv": b"id\na\n"})
    for key in ("t/data", "t/data/part.csv", "t/*/part.csv"):
        error = str(refusal(bucket.url(key), tmp_path))
        assert "it belongs to the" in error
        assert f"s3://{bucket.name}" in error


@pytest.mark.parametrize(
    "parts", [("t/_versions/1", "t/data/0"), ("t/snapshot/1", "t/manifest/1"), ("t/base_0000001/bucket_0",)]
)
def test_other_tables_are_refused(parts: tuple[str, ...], bucket_of: Buckets, tmp_path: Path) -> None:
    """Lance, Paimon and transactional Hive tables are known by their directories."""
    key = f"{parts[0]}.csv" if len(parts) == 1 else "t/x/part.csv"
    bucket = bucket_of({**dict.fromkeys(parts, b"x"), key: b"id\na\n"})
    assert "it belongs to the" in str(refusal(bucket.url(key), tmp_path))


def test_markers_of_directories_are_left_out(bucket_of: Buckets, tmp_path: Path) -> None:
    """Hadoop and consoles write empty objects in place of directories."""
    bucket = bucket_of({"d/a.csv": b"id\na\n", "d/x_$folder$": b"", "d/x/b.csv": b"id\nb\n", "d/x": b""})
    assert staged(bucket.url("d/**"), tmp_path).ids == {"a", "b"}
    bucket = bucket_of({"d/a.csv": b"id\na\n", "d/x_$folder$": b""})
    assert staged(bucket.url("d"), tmp_path).ids == {"a"}


def test_an_object_that_is_a_directory_too_is_refused(bucket_of: Buckets, tmp_path: Path) -> None:
    """Only in a bucket, one name can be both, so the address is ambiguous."""
    bucket = bucket_of({"d.csv": b"id\na\n", "d.csv/part.csv": b"id\nb\n"})
    assert "also a directory" in str(refusal(bucket.url("d.csv"), tmp_path))
    assert staged(bucket.url("d.csv/"), tmp_path).ids == {"b"}
    bucket = bucket_of({"e.csv": b"id\na\n", "e.csv/_SUCCESS": b"x"})
    assert staged(bucket.url("e.csv"), tmp_path).ids == {"a"}


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("x.csv.gz", gzip.compress(b"id\n" + b"abc\n" * 1000, mtime=0)[:-9], "it ends early"),
        ("x.csv.gz", b"id\na\n", "its name ends in .gz"),
        ("x.csv", b"", "first line is empty"),
        ("x.csv", b"<html><form>login</form></html>", "HTML"),
        ("x.parquet", b"PAR1" + bytes(100), "it ends early"),
        ("x.txt", b"id\na\n", "its name has no known suffix"),
        ("x.csv", b'id\na\n"b\n', "a quote is not closed"),
    ],
)
def test_damage_is_found_as_in_files(
    name: str, data: bytes, problem: str, bucket_of: Buckets, tmp_path: Path
) -> None:
    """What is refused on a disk is refused in a bucket, under the address of the object."""
    bucket = bucket_of({name: data})
    error = refusal(bucket.url(name), tmp_path)
    assert problem in str(error)
    assert error.location == bucket.url(name)


def test_formats_and_contracts_are_one(bucket_of: Buckets, tmp_path: Path) -> None:
    """Objects of several formats or with several ID columns are refused."""
    bucket = bucket_of({"m/a.csv": b"id\na\n", "m/b.jsonl": b'{"id": "b"}\n', "n/a.csv": b"id\na\n"})
    bucket.put("n/b.csv", b"user_id\nb\n")
    assert "several formats" in str(refusal(bucket.url("m"), tmp_path))
    assert "its ID column is 'user_id'" in str(refusal(bucket.url("n"), tmp_path))


def test_missing_buckets_objects_and_rights_are_named(
    bucket_of: Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them has a text of its own, without credentials."""
    bucket = bucket_of({"a.csv": b"id\na\n"})
    assert "no matching objects" in str(refusal(bucket.url("b.csv"), tmp_path))
    assert "no matching objects" in str(refusal(bucket.url("b/*.csv"), tmp_path))
    assert "the bucket does not exist" in str(refusal("s3://no-such-bucket/b.csv", tmp_path))
    for name in ("AWS_ALLOW_HTTP", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://192.0.2.1:9")
    error = str(refusal(bucket.url("a.csv"), tmp_path))
    assert "would not be encrypted" in error
    assert "AWS_ALLOW_HTTP=true" in error
    assert KEY_ID not in error
    assert SECRET not in error


def test_an_incomplete_environment_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Azure needs the name of an account."""
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_USE_EMULATOR"):
        monkeypatch.delenv(name, raising=False)
    assert "AZURE_STORAGE_ACCOUNT_NAME" in str(refusal("az://container/a.csv", tmp_path))


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without obstore, the text names the extra."""
    monkeypatch.setitem(__import__("sys").modules, "obstore", None)
    assert "pip install 'aiobatch-client[cloud]'" in str(refusal("s3://bucket/a.csv", tmp_path))


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("s3://", "s3:// needs a bucket"),
        ("s3:///a.csv", "s3:// needs a bucket"),
        ("S3://b d/a.csv", "s3:// needs a bucket"),
        ("s3://me:hunter2@bucket/a.csv", "contains no credentials or parameters"),
        ("s3://bucket/a.csv?X-Amz-Signature=hunter2", "contains no credentials or parameters"),
        ("gs://bucket/a.csv?token=hunter2", "contains no credentials or parameters"),
        ("s3a://bucket/a.csv", "Use s3://bucket/path"),
        ("gcs://bucket/a.csv", "Use gs://bucket/path"),
        ("abfss://x@y/hunter2", "Use az://bucket/path"),
        ("file:///a.csv", "Write the path alone"),
        ("hdfs://x/a.csv", "hdfs:// is not supported"),
        ("ftp://me:hunter2@x/a.csv", "ftp:// is not supported"),
        ("http://example.com/a.csv", "not encrypted"),
    ],
)
def test_addresses_that_are_no_source_are_refused_by_name(address: str, problem: str) -> None:
    """Each scheme that is not supported is named, and no text repeats a secret."""
    with pytest.raises(InvalidInputError) as caught:
        Source.parse(address)
    assert problem in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_objects_take_no_query() -> None:
    """Only databases do."""
    with pytest.raises(InvalidInputError, match="a query needs a database"):
        Source.parse("s3://bucket/a.csv", query="SELECT 1")


def test_sources_of_buckets_can_be_read_again() -> None:
    """A saved plan keeps the address as it is."""
    source = Source.parse("s3://bucket/a?.csv")
    assert source.rereadable() is source
    assert source.label == "s3://bucket/a?.csv"
    assert tempfile.gettempdir() not in repr(source)


def test_the_pattern_of_a_directory_itself_is_suggested(bucket_of: Buckets, tmp_path: Path) -> None:
    """It reads the directory without those in it."""
    bucket = bucket_of({"d/a.csv.gz": gzip.compress(b"id\na\n"), "d/old/b.csv": b"id\nb\n"})
    assert f"or '{bucket.url('d/*.csv.gz')}' for its own files" in str(refusal(bucket.url("d"), tmp_path))
    assert staged(bucket.url("d/*.csv.gz"), tmp_path).ids == {"a"}


class _Limited:
    """obstore with credentials that may read one object and list nothing."""

    exceptions = obstore.exceptions

    def __init__(self, status: str, *, readable: bool) -> None:
        self.error = obstore.exceptions.PermissionDeniedError(f"status code: {status}")
        self.readable = readable

    async def head_async(self, _: object, path: str) -> dict[str, Any]:
        if not self.readable:
            raise self.error
        return {"path": path, "size": 1, "e_tag": None, "last_modified": dt.datetime.now(dt.UTC)}

    async def list_with_delimiter_async(self, *_: object) -> None:
        raise self.error

    async def list(self, *_: object) -> AsyncIterator[object]:
        raise self.error
        yield


def _find(key: str, limited: _Limited) -> list[str]:
    finder = ObjectFinder(
        store=None,
        obstore=limited,
        address=ObjectAddress.parse(f"s3://bucket/{key}", "test"),
        transfer=cast("Any", None),
    )
    return [one.path for one in asyncio.run(finder.find()) if "if_unmodified_since" in one.condition]


def test_single_objects_need_no_right_to_list() -> None:
    """What cannot be listed is not known to be a table. Other errors are errors."""
    assert _find("d/a.csv", _Limited("403 Forbidden", readable=True)) == ["d/a.csv"]
    for key in ("d/a.csv", "d/*.csv"):
        with pytest.raises(obstore.exceptions.PermissionDeniedError):
            _find(key, _Limited("403 Forbidden", readable=False))
    with pytest.raises(obstore.exceptions.PermissionDeniedError):
        _find("d/a.csv", _Limited("500", readable=True))


def test_denied_access_and_strange_urls_have_a_text() -> None:
    """The advice is that for the kind of store."""
    denied = obstore.exceptions.PermissionDeniedError("status code: 403")
    assert "access is denied. Allow" in problem_of(denied, "s3")
    assert not is_loopback("http://[::1/")
    assert is_loopback("http://[::1]:9000")
