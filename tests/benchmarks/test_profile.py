"""The profile of a view."""

from __future__ import annotations

import json

import pytest

from benchmarks.__main__ import main
from benchmarks.scenarios.profile import Profile


def test_every_layer_of_a_view_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """Each layer is measured. How the costs compare is for `make bench`: other load disturbs them here."""
    main(["profile", "--rounds", "1", "--json"], {"profile": Profile(views=100, concurrency=5)})
    rows = json.loads(capsys.readouterr().out)["rows"]
    whole, *parts = [row["value"] for row in rows]
    assert len(parts) == 10
    assert whole > 0
