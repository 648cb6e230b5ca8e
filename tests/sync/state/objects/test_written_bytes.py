"""What a run writes to a store: bytes in proportion to its changes, and neither keys nor IDs in the clear."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiobatch.sandbox import PROJECT_KEY, REST_API_KEY
from aiobatch.sync import GuardError, SendError, Source, SourceError, StateUrl
from aiobatch.sync.state.objects._open import open_store
from aiobatch.sync.state.objects.stores._files import FileStore

from ....helpers.s3_server import KEY_ID, SECRET
from ...sync_env import ONCE, sync_env

MEMBERS = 30_000
# IDs that no compression makes smaller.
PEOPLE = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(MEMBERS + 1_000)]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Return the bytes that are written to the store, by the method."""
    written: Counter[str] = Counter()

    def count(name: str, size_of: Callable[[Any], int]) -> None:
        method = getattr(FileStore, name)

        def counted(self: FileStore, path: str, content: Any, *rest: Any) -> Any:
            written[name] += size_of(content)
            return method(self, path, content, *rest)

        monkeypatch.setattr(FileStore, name, counted)

    count("create", len)
    count("replace", len)
    count("upload", lambda file: file.stat().st_size)
    return written


@pytest.mark.sweep
async def test_a_small_change_writes_few_bytes(tmp_path: Path, written: Counter[str]) -> None:
    """1 % of changes writes under 5 % of the bytes of a first load, with every object that a run writes."""
    async with sync_env(tmp_path) as env:
        env.store = StateUrl(f"file://{tmp_path}/store")
        sizes = []
        for first in (0, 150, 450, 450):  # 150 added and 150 removed, then twice as many, then none
            written.clear()
            await env.sync(PEOPLE[first : first + MEMBERS], chunk_size=10_000)
            sizes.append(written.total())
        (base,) = (tmp_path / "store").glob("*/*/members/*-base-*.parquet")
        load, small, twice, none = sizes
        assert load < 3 * base.stat().st_size  # the changes, then the members
        assert small < 0.05 * base.stat().st_size
        assert none < small < twice < 2.5 * small
        assert none < 0.01 * load


@pytest.mark.sweep
async def test_no_object_has_a_key_or_an_id_where_it_must_not(tmp_path: Path, s3_url: str) -> None:
    """IDs are in members and changes alone. Keys of Batch, of the store and of a source are nowhere."""
    people = [f"user{number}@private.example" for number in range(30)]
    async with sync_env(tmp_path, refused_ids={people[3]}) as env, env.client() as client:
        env.store = StateUrl(s3_url)
        assert (await env.sync(people)).refused == 1
        env.sandbox.fail_next("reset", 3, operation="update")
        with pytest.raises(SendError):
            await env.sync(people[5:], client=ONCE)
        await env.sync(people[5:])
        await env.call("rollback", client, "vip", 1)
        with pytest.raises(GuardError):
            await env.sync([])
        with pytest.raises(SourceError):
            await env.sync(
                Source.parse("postgresql://etl:password-of-a-source@127.0.0.1:1/crm", query="select 1")
            )
        await env.call("verify", client, "vip")
        objects = await asyncio.to_thread(_read_all, s3_url)
    kinds = Counter(
        path.split("/")[-2 if path.endswith(".parquet") else -1].split("-")[0] for path in objects
    )
    assert {"LEASE", "HEAD.json", "STATE.json", "plan.json", "report.json", "members", "changes"} <= set(
        kinds
    )
    assert any("/transitions/" in path for path in objects)
    assert any(path.startswith("attempts/") for path in objects)
    secrets = (REST_API_KEY, PROJECT_KEY, KEY_ID, SECRET, "password-of-a-source")
    assert [
        (path, secret) for path, data in objects.items() for secret in secrets if secret.encode() in data
    ] == []
    clear = {path: data for path, data in objects.items() if not path.endswith(".parquet")}
    assert [path for path, data in clear.items() if b"private.example" in data] == []
    parquet = {path.split("/")[-2] for path in objects if path.endswith(".parquet")}
    assert parquet == {"members", "changes"}


def _read_all(url: str) -> dict[str, bytes]:
    store = open_store(url)
    found = {one.path: store.get(one.path) for one in store.list("")}
    return {path: one.data for path, one in found.items() if one is not None}
