"""The cache of a state on object storage, which is deleted at its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiobatch.sync import StateUrl
from aiobatch.sync.state._state import sibling_path
from aiobatch.sync.state.objects._open_state import open_state


def test_the_cache_waits_for_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB neither syncs the cache nor writes its log into the database at the end."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with open_state(StateUrl(f"file://{tmp_path}/store"), what="test", memory_limit="256MB") as state:
        # The first releases of DuckDB 2 may lack the setting.
        modes = state.rows("SELECT value FROM duckdb_settings() WHERE name = 'fsync_mode'")
        assert set(modes) <= {("NONE",)}
        state.connection.close()
        assert sibling_path(state.path, ".wal").stat().st_size > 0
    assert not state.path.parent.exists()
