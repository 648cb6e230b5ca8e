"""The fixed cost of a small sync: what DuckDB is asked for, however few IDs there are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiobatch.sync import SyncEngine
from aiobatch.sync.run import _dispatcher
from aiobatch.sync.state import _state

from ..sync_env import ids, sync_env

# About as many as a sync runs now. Each costs half a millisecond, so raise a limit only with a reason.
NEW, UNCHANGED, CHANGED = 82, 55, 113


class _CountingConnection:
    """A connection that counts its statements."""

    def __init__(self, inner: Any, note: Callable[[], None]) -> None:
        self._inner, self._note = inner, note

    def execute(self, *arguments: Any) -> Any:
        """Count and run a statement."""
        self._note()
        return self._inner.execute(*arguments)

    def __getattr__(self, name: str) -> Any:
        """Return what is not counted."""
        return getattr(self._inner, name)


async def test_a_small_sync_runs_few_statements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new audience, an unchanged one and a changed one stay below their limits."""
    counted, connect = 0, _state._connect

    def note() -> None:
        nonlocal counted
        counted += 1

    def counting(*arguments: Any, **options: Any) -> Any:
        return _CountingConnection(connect(*arguments, **options), note)

    monkeypatch.setattr(_state, "_connect", counting)
    monkeypatch.setattr(_dispatcher, "_write_status", lambda *_: None)  # it depends on the time
    async with sync_env(tmp_path) as env, env.client() as client:
        for name in ("other", "vip"):
            await client.create(name)
        async with SyncEngine(state=env.state, options=env.options()) as engine:
            await engine.sync(client, "other", ids(range(8)))
            for source, most in ((range(8), NEW), (range(8), UNCHANGED), (range(1, 9), CHANGED)):
                before = counted
                await engine.sync(client, "vip", ids(source))
                assert 0 < counted - before <= most


async def test_runs_share_one_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process writes the status of its runs at intervals, and not once for each of many runs."""
    written = 0

    def note(*_: object) -> None:
        nonlocal written
        written += 1

    monkeypatch.setattr(_dispatcher, "_STATUS_INTERVAL", 3600.0)
    monkeypatch.setattr(_dispatcher, "_write_status", note)
    async with sync_env(tmp_path) as env, env.client() as client:
        await client.create("vip")
        async with SyncEngine(state=env.state, options=env.options()) as engine:
            for last in (3, 4, 5):
                await engine.sync(client, "vip", ids(range(last)))
    assert written == 1
