from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from obstore.exceptions import GenericError, PermissionDeniedError, UnauthenticatedError

from aiobatch.errors import InvalidInputError
from aiobatch.sync import StateError
from aiobatch.sync.state.objects._open import is_store_url, open_store
from aiobatch.sync.state.objects._store import ConflictError, ObjectStore, Tag
from aiobatch.sync.state.objects.stores._cloud import CloudStore
from aiobatch.sync.state.objects.stores._cloud_errors import is_transient, store_error
from aiobatch.sync.state.objects.stores._url import StoreUrl

from ....helpers.s3_server import KEY_ID, SECRET, S3Server, faulty


def test_a_missing_object_is_none(store: ObjectStore) -> None:
    """There is nothing to read in an empty store."""
    assert store.get("a/LEASE") is None
    assert list(store.list("")) == []


def test_create_writes_once(store: ObjectStore) -> None:
    """The second create fails, and the first object stays."""
    tag = store.create("a/LEASE", b"one")
    with pytest.raises(ConflictError):
        store.create("a/LEASE", b"two")
    found = store.get("a/LEASE")
    assert found is not None
    assert (found.data, found.tag) == (b"one", tag)
    assert "b'one'" not in repr(found)


def test_replace_needs_the_version(store: ObjectStore) -> None:
    """Only the latest tag replaces an object, and a missing one cannot be replaced."""
    first = store.create("a/HEAD.json", b"one")
    second = store.replace("a/HEAD.json", b"two", first)
    with pytest.raises(ConflictError):
        store.replace("a/HEAD.json", b"three", first)
    with pytest.raises(ConflictError):
        store.replace("a/OTHER.json", b"three", second)
    assert (found := store.get("a/HEAD.json")) is not None
    assert (found.data, found.tag) == (b"two", second)


def test_one_of_many_writers_wins(store: ObjectStore) -> None:
    """Threads that create or replace an object at the same moment have one winner."""
    start = threading.Barrier(8)
    won: list[int] = []
    tag = store.create("head", b"0")

    def write(n: int) -> None:
        start.wait()
        with contextlib.suppress(ConflictError):
            store.create("lease", b"%d" % n)
            won.append(n)
        with contextlib.suppress(ConflictError):
            store.replace("head", b"%d" % n, tag)
            won.append(n)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 2


def test_list_is_sorted_and_below_the_prefix(store: ObjectStore) -> None:
    """A list contains what is below a prefix, with its size."""
    for path in ("b/2", "b/10", "a/x/y", "bb/1"):
        store.create(path, path.encode())
    assert [entry.path for entry in store.list("")] == ["a/x/y", "b/10", "b/2", "bb/1"]
    assert [(entry.path, entry.size) for entry in store.list("b/")] == [("b/10", 4), ("b/2", 3)]
    assert list(store.list("c/")) == []


def test_delete_ignores_what_is_missing(store: ObjectStore) -> None:
    """A deletion can be repeated."""
    store.create("a", b"1")
    store.create("b", b"2")
    store.delete(["a", "missing"])
    store.delete([])
    assert [entry.path for entry in store.list("")] == ["b"]


def test_files_are_stored_whole(store: ObjectStore, tmp_path: Path) -> None:
    """A file with several parts is the same after its way there and back."""
    file, copy = tmp_path / "members.parquet", tmp_path / "copy.parquet"
    file.write_bytes(os.urandom(6_000_000))
    store.upload("members/g1.parquet", file)
    store.download("members/g1.parquet", copy)
    assert copy.read_bytes() == file.read_bytes()
    file.write_bytes(b"")
    store.upload("members/g2.parquet", file)
    store.download("members/g2.parquet", copy)
    assert copy.read_bytes() == b""


def test_a_lost_file_is_damage(store: ObjectStore, tmp_path: Path) -> None:
    """A file that the state names and the store does not have is an error that names it."""
    with pytest.raises(StateError, match=r"'members/gone\.parquet' is gone") as caught:
        store.download("members/gone.parquet", tmp_path / "copy")
    assert caught.value.reason == "damaged"


def test_large_files_are_read_in_parts(s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download needs several requests."""
    monkeypatch.setattr("aiobatch.sync.state.objects.stores._cloud._PART", 1000)
    store, file, copy = open_store(s3_url), tmp_path / "file", tmp_path / "copy"
    file.write_bytes(os.urandom(2500))
    store.upload("file", file)
    store.download("file", copy)
    assert copy.read_bytes() == file.read_bytes()


def test_lost_answers_are_read_back(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a third of the answers lost, each write takes place once, and its tag is right."""
    with faulty(s3, 0.35, seed=3) as server:
        for name, value in server.environ.items():
            monkeypatch.setenv(name, value)
        store = open_store("s3://bucket/lossy")
        for n in range(12):
            tag = store.create(f"{n}", b"create %d" % n)
            tag = store.replace(f"{n}", b"replace %d" % n, tag)
            found = store.get(f"{n}")
            assert found is not None
            assert (found.data, found.tag) == (b"replace %d" % n, tag)
            with pytest.raises(ConflictError):
                store.create(f"{n}", b"again %d" % n)
        assert len(list(store.list(""))) == 12
        assert server.faults is not None
        assert server.faults.count > 10


def test_a_store_that_stays_away_is_an_error(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some tries the error names the store, which does not answer."""
    with faulty(s3, 1.0) as server:
        for name, value in server.environ.items():
            monkeypatch.setenv(name, value)
        store = CloudStore.open(StoreUrl.parse("s3://bucket/away"))
        store.patience = 0.3
        with pytest.raises(StateError, match="does not answer") as caught:
            store.create("a", b"1")
        assert caught.value.reason == "unreachable"
        assert caught.value.__cause__ is None


def test_writes_at_the_same_moment_are_tried_again(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 refuses both of two simultaneous writes. Then the object has its old version, and one may follow."""
    import obstore
    from obstore.exceptions import PreconditionError

    store, put, refusals = open_store(s3_url), obstore.put, [None, None]
    tag = store.create("a", b"1")

    def refuse(*args: Any, **kwargs: Any) -> Any:
        if refusals:
            refusals.pop()
            msg = "status code: 409 Conflict"
            raise PreconditionError(msg)
        return put(*args, **kwargs)

    monkeypatch.setattr(obstore, "put", refuse)
    store.replace("a", b"2", tag)
    assert (found := store.get("a")) is not None
    assert found.data == b"2"


def test_a_store_that_misses_objects_deletes_the_rest(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Azure fails to delete many objects if one is missing. A missing bucket is still an error."""
    import obstore

    store, delete = open_store(s3_url), obstore.delete
    store.create("a", b"1")

    def fail(where: Any, paths: list[str]) -> None:
        if len(paths) > 1 or paths == ["gone"]:
            msg = "status code: 404 Not Found: BlobNotFound"
            raise FileNotFoundError(msg)
        delete(where, paths)

    monkeypatch.setattr(obstore, "delete", fail)
    store.delete(["gone", "a"])
    assert list(store.list("")) == []

    def deny(*_: object) -> None:
        raise obstore.exceptions.PermissionDeniedError

    monkeypatch.setattr(obstore, "delete", deny)
    with pytest.raises(StateError) as caught:
        store.delete(["a", "b"])
    assert caught.value.reason == "denied"


@pytest.mark.parametrize("method", ["get", "list", "create", "replace", "delete"])
def test_a_missing_bucket_is_named(s3: S3Server, method: str) -> None:
    """Every request finds out that the bucket does not exist."""
    store = open_store("s3://no-such-bucket/x")
    requests: dict[str, Callable[[], object]] = {
        "get": lambda: store.get("a"),
        "list": lambda: store.list(""),
        "create": lambda: store.create("a", b"1"),
        "replace": lambda: store.replace("a", b"1", Tag("x")),
        "delete": lambda: store.delete(["a", "b"]),
    }
    with pytest.raises(StateError, match="'s3://no-such-bucket/x': the bucket does not exist") as caught:
        requests[method]()
    assert caught.value.reason == "missing"


def test_no_credential_is_shown(s3: S3Server, s3_url: str) -> None:
    """Neither a store nor its errors show the credentials."""
    texts = [repr(open_store(s3_url))]
    with pytest.raises(StateError) as caught:
        open_store("s3://no-such-bucket").get("a")
    texts += [repr(caught.value), str(caught.value), repr(caught.value.__context__)]
    assert not [text for text in texts if SECRET in text]
    assert KEY_ID not in repr(open_store(s3_url)) + str(caught.value)


def test_plain_http_needs_a_setting(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint without TLS is an error that names the variable which allows it."""
    open_store("s3://bucket/x").get("a")  # on this machine it is fine
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    open_store("s3://bucket/x").get("a")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.example")
    with pytest.raises(StateError, match="AWS_ALLOW_HTTP=true"):
        open_store("s3://bucket/x").get("a")


def test_an_incomplete_environment_is_found_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store whose settings are incomplete cannot be opened."""
    for name in list(os.environ):
        if name.startswith("AZURE_"):
            monkeypatch.delenv(name)
    with pytest.raises(StateError, match="denied access") as caught:
        open_store("az://container/prefix")
    assert caught.value.reason == "denied"
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "nonsense")
    with pytest.raises(StateError, match="Check its settings") as caught:
        open_store("s3://bucket/prefix")
    assert caught.value.reason == "failed"


@pytest.mark.parametrize(
    ("exc", "reason"),
    [
        (GenericError("PUT … status code: 503 Service Unavailable: SECRET"), "unreachable"),
        (GenericError("status code: 429 Too Many Requests"), "unreachable"),
        (GenericError("status code: 400 Bad Request: <Code>RequestTimeout</Code>"), "unreachable"),
        (GenericError("HTTP error: error sending request"), "unreachable"),
        (GenericError("status code: 400 Bad Request: SECRET"), "failed"),
        (GenericError("redirect without LOCATION, BareRedirect"), "failed"),
        (GenericError("PUT http://169.254.169.254/latest/api/token: SECRET"), "denied"),
        (PermissionDeniedError("status code: 403 Forbidden: SECRET"), "denied"),
        (UnauthenticatedError("status code: 401"), "denied"),
        (GenericError("status code: 501 Not Implemented"), "unconditional"),
        (NotImplementedError("put_opts"), "unconditional"),
        (FileNotFoundError("status code: 404"), "missing"),
        (GenericError("status code: 404: <Code>ContainerNotFound</Code>"), "missing"),
    ],
)
def test_errors_of_stores(exc: Exception, reason: str) -> None:
    """Each error of obstore has a reason and advice, and its text is not repeated."""
    error = store_error(exc, "s3://bucket")
    assert error.reason == reason
    assert "SECRET" not in str(error)
    assert is_transient(exc) == (reason == "unreachable")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("s3://bucket/x?aws_secret_access_key=k", "query"),
        ("s3://bucket/x#k", "fragment"),
        ("s3://id:key@bucket/x", "password"),
        ("file://user:k@/x", "password"),
        ("s3://", "no bucket"),
        ("s3:///x", "no bucket"),
        ("s3://bu cket/x", "no bucket"),
        ("s3://bucket/../x", "'..'"),
        ("s3://bucket/a\nb", "control"),
        ("s3://[k/x", "cannot be read"),
        ("file://dir/x", "no absolute directory"),
        ("file:///", "no absolute directory"),
        ("http://host/x", "no URL of a store"),
        ("state.duckdb", "no URL of a store"),
    ],
)
def test_invalid_urls(url: str, reason: str) -> None:
    """An invalid URL, or one with credentials, is refused, and the error does not repeat it."""
    with pytest.raises(InvalidInputError, match=reason) as caught:
        open_store(url)
    assert url.rstrip("/").endswith(":") or url not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://bucket/x", "s3://bucket/x"),
        ("S3://bucket//x/", "s3://bucket/x"),
        ("gs://bucket", "gs://bucket"),
        ("az://container/a b", "az://container/a b"),
        ("file:///tmp/a%20b/", "file:///tmp/a b"),
        ("file://localhost/tmp", "file:///tmp"),
    ],
)
def test_urls_are_normal(text: str, expected: str) -> None:
    """A URL as text has one form."""
    assert str(StoreUrl.parse(text)) == expected


def test_a_state_is_a_file_or_a_store() -> None:
    """A path is a file, four schemes are stores, and others are refused by name."""
    assert [is_store_url(text) for text in ("s3://b", "gs://b", "az://b", "file:///x")] == [True] * 4
    assert [is_store_url(text) for text in ("state.duckdb", "/state", "a:b", "C:\\x")] == [False] * 4
    for text in ("http://x/y", "s3a://b/x", "postgresql://h/d", "hdfs://x"):
        with pytest.raises(InvalidInputError, match=text.partition("/")[0]):
            is_store_url(text)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without obstore the error names the extra."""
    monkeypatch.setitem(__import__("sys").modules, "aiobatch.sync.state.objects.stores._cloud", None)
    with pytest.raises(InvalidInputError, match=r"aiobatch-client\[cloud\]"):
        open_store("s3://bucket/x")


def test_the_parent_of_a_directory_exists(tmp_path: Path) -> None:
    """A directory is created, but not its parents: their disk may not be mounted."""
    with pytest.raises(StateError, match="mount its disk") as caught:
        open_store(f"file://{tmp_path}/missing/state")
    assert caught.value.reason == "missing"
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(StateError, match="it is a file"):
        open_store(f"file://{file}")


def test_files_are_private_and_complete(tmp_path: Path) -> None:
    """Objects of a directory have mode 0600, and no draft is left."""
    store = open_store(f"file://{tmp_path}/state")
    store.create("a/b", b"1")
    with pytest.raises(ConflictError):
        store.create("a/b", b"2")
    files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert {path.name for path in files} == {".lock", "b"}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
