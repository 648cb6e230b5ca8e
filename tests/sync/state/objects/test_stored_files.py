"""What the objects of a state contain, and how large they are."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from pathlib import Path
from typing import Any

import duckdb
import pytest

from aiobatch.sandbox import REST_API_KEY
from aiobatch.sync import (
    Mode,
    StateError,
    StateUrl,
)
from aiobatch.sync.state.objects import _parquet
from aiobatch.sync.state.objects._layout import find_places
from aiobatch.sync.state.objects._open import open_store
from aiobatch.sync.state.objects.stores._files import FileStore

from ...sync_env import ids, sync_env
from .object_env import check_exact, heads

pytestmark = pytest.mark.usefixtures("scratch")


async def test_deltas_are_small_and_compacted(tmp_path: Path, file_url: StateUrl) -> None:
    """A small change writes few bytes. Beyond a quarter of the base, all members are written again."""
    async with sync_env(tmp_path) as env:
        env.store = file_url
        people = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(6000)]
        await env.sync(people, chunk_size=1000)
        (first,) = await heads(file_url)
        assert first.base is not None
        await env.sync(people[30:] + ids(range(30)), chunk_size=1000)
        (second,) = await heads(file_url)
        assert (second.base, len(second.deltas)) == (first.base, 1)
        size = await asyncio.to_thread(_sizes, file_url, 2)
        assert size["runs/2"] + size["members"] - size[first.base.path] < 0.1 * size[first.base.path]
        await env.sync(people[1500:], chunk_size=1000)
        (third,) = await heads(file_url)
        assert third.base is not None
        assert (third.base.rows, third.deltas, third.count) == (4500, (), 4500)
        await check_exact(env, people[1500:])


def _sizes(url: StateUrl, run: int) -> dict[str, int]:
    """Return the bytes of each object, of all members, and of one run."""
    store = open_store(url.text)
    (place,) = find_places(store)
    objects = {one.path: one.size for one in store.list("")}
    total = {"members": place.members, f"runs/{run}": f"{place.prefix}runs/{run}/"}
    sums = {
        name: sum(size for path, size in objects.items() if path.startswith(prefix))
        for name, prefix in total.items()
    }
    return objects | sums


@pytest.mark.parametrize("lost", [None, 1, 2, 3])
async def test_changes_are_uploaded_while_more_are_written(
    lost: int | None, tmp_path: Path, file_url: StateUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is uploaded while the next one is written. If one is lost, there is no plan."""
    write, upload, is_second_written = _parquet.write_changes, FileStore.upload, threading.Event()
    written, uploaded, text = list[Path](), list[str](), "it is full."

    def write_and_note(*arguments: Any) -> int:
        rows = write(*arguments)
        written.append(arguments[-1])
        if len(written) == 2:
            is_second_written.set()
        return rows

    def wait_and_upload(self: FileStore, path: str, file: Path) -> None:
        if "/changes/" in path:
            assert is_second_written.wait(60)
            uploaded.append(path)
            if len(uploaded) == lost:
                raise StateError(text, path=self.url, reason="full")
        upload(self, path, file)

    monkeypatch.setattr(_parquet, "_GROUPS", 1)
    monkeypatch.setattr(_parquet, "write_changes", write_and_note)
    monkeypatch.setattr(FileStore, "upload", wait_and_upload)
    async with sync_env(tmp_path) as env:
        env.store = file_url
        if lost is None:
            await env.sync(ids(range(30)), chunk_size=10)
        else:
            with pytest.raises(StateError, match="it is full"):
                await env.sync(ids(range(30)), chunk_size=10)
            store = await asyncio.to_thread(open_store, file_url.text)
            paths = await asyncio.to_thread(lambda: [one.path for one in store.list("")])
            assert not any(path.endswith("plan.json") for path in paths)
        assert env.members == set(ids(range(0 if lost else 30)))
        assert not await asyncio.to_thread(lambda: any(file.exists() for file in written))


async def test_files_hold_ids_and_nothing_else_does(tmp_path: Path, file_url: StateUrl) -> None:
    """IDs are in members and changes alone, and keys are nowhere."""
    async with sync_env(tmp_path) as env:
        env.store = file_url
        await env.sync(ids(range(35)))
        await env.sync(ids(range(5, 45)))
        contents = await asyncio.to_thread(_contents, tmp_path / "store")
        assert not [path for path, data in contents.items() if REST_API_KEY.encode() in data]
        with_ids = {path.parent.name for path, data in contents.items() if b"user-" in data}
        assert with_ids == {"members", "changes"}
        changes = [path for path in contents if "runs/2/changes" in str(path)]
        assert [await asyncio.to_thread(_row_groups, path) for path in changes] == [[10, 5]]


def _row_groups(path: Path) -> list[int]:
    """Return the rows of each row group of a file."""
    query = """SELECT any_value(row_group_num_rows) FROM parquet_metadata(?)
        GROUP BY row_group_id ORDER BY row_group_id"""
    with duckdb.connect() as connection:
        return [rows for (rows,) in connection.execute(query, [str(path)]).fetchall()]


def _contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


async def test_replace_and_resync_write_all_members_again(tmp_path: Path, file_url: StateUrl) -> None:
    """A replace can be undone, and a resync clears the refused IDs."""
    async with sync_env(tmp_path, refused_ids={"user-3"}) as env, env.client() as client:
        env.store = file_url
        await env.sync(ids(range(8)))
        assert (await heads(file_url))[0].refused is not None
        await env.sync(ids(range(4, 12)), mode=Mode.REPLACE, chunk_size=100, drift_patience=0.0)
        (head,) = await heads(file_url)
        assert (head.count, head.deltas, len(head.undo), head.refused) == (8, (), 1, None)
        assert (await env.call("rollback", client, "vip", 1)).adds == 3
        assert await env.believed() == env.members == set(ids(range(8))) - {"user-3"}
