from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from aiobatch.sync import Attempt, Garbage, StateUrl, read_attempts, record_attempts
from aiobatch.sync.state._state import State
from aiobatch.sync.state.objects._open import open_store
from aiobatch.sync.state.objects._root import open_root

from ..conftest import Run


def test_gc_deletes_what_is_not_named(run: Run, tmp_path: Path) -> None:
    """The command deletes garbage of a state, and prints how much."""
    url = f"file://{tmp_path}/state"
    store = open_store(url)
    open_root(store)
    place = f"{'0' * 16}/{'1' * 16}"
    head = {"format": 1, "epoch": 1, "state_id": "s", "scope": "0" * 16, "key": "1" * 16, "name": "vip"}
    store.create(f"{place}/HEAD.json", orjson.dumps(head | {"target": "app"}))
    store.create(f"{place}/members/g00000001-base-{'a' * 32}.parquet", b"1234")
    result = run("state", "gc", url)
    assert (result.code, result.out) == (0, "")
    assert "Deleted 1 object (4 bytes)." in result.err
    assert len(list(store.list(f"{place}/"))) == 2


def test_gc_reports_busy_audiences(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Audiences that are left out are counted."""

    async def collect(_url: str) -> Garbage:
        return Garbage(objects=0, size=0, busy=2)

    monkeypatch.setattr("aiobatch.cli.commands._repair.collect_garbage", collect)
    result = run("state", "gc", f"file://{tmp_path}/state")
    assert result.code == 0
    assert "Left out 2 audiences that a run holds." in result.err


def test_gc_needs_a_store_with_a_state(run: Run, tmp_path: Path) -> None:
    """A file has no garbage, a foreign prefix is not touched, and other schemes are refused by name."""
    for state, code, text in (
        ("state.duckdb", 2, "has no garbage"),
        ("hdfs://x/y", 2, "hdfs://"),
        (f"file://{tmp_path}/state", 1, "there is no state here"),
    ):
        result = run("state", "gc", state)
        assert result.code == code
        assert text in result.err


def test_copy_goes_there_and_back(run: Run, tmp_path: Path) -> None:
    """A state is copied to a URL and to a new file, with the attempts beside it."""
    first, url, second = tmp_path / "first.duckdb", f"file://{tmp_path}/state", tmp_path / "second.duckdb"
    State.open(first, what="test").close()
    attempt = Attempt(command="sync", audience="vip")
    record_attempts(first, [attempt])
    assert "Copied 0 audiences" in run("state", "copy", str(first), url).err
    assert run("state", "copy", url, str(second)).code == 0
    assert read_attempts(second) == read_attempts(StateUrl(url)) == [attempt]


def test_copy_needs_two_states_and_gc_one(run: Run) -> None:
    """The other number of arguments is refused before anything is opened."""
    for words, text in (
        (("copy", "state.duckdb"), "`state copy` needs TO."),
        (("gc", "file:///x", "file:///y"), "`state gc` has no TO."),
        (("copy", "a.duckdb", "b.duckdb"), "from a file to a URL"),
    ):
        result = run("state", *words)
        assert result.code == 2
        assert text in result.err
