from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from aiobatch.sync import Garbage
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
