"""The profile: where the CPU of one view goes."""

from __future__ import annotations

import json

import pytest

from benchmarks.__main__ import main
from benchmarks.scenarios.profile import Profile


def test_a_view_is_taken_apart(capsys: pytest.CaptureFixture[str]) -> None:
    """Each part of a view is measured, and none of ours costs as much as the whole."""
    main(["profile", "--rounds", "1", "--json"], {"profile": Profile(views=100, concurrency=5)})
    rows = json.loads(capsys.readouterr().out)["rows"]
    whole, *parts = [row["ours"] for row in rows]
    assert len(parts) == 10
    assert min(parts) >= 0
    assert max(parts[2:7]) < whole
