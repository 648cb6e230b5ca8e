"""What all crashes have in common: audiences of more IDs than fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..state.states import in_partitions_of


@pytest.fixture(autouse=True)
def _in_partitions() -> Iterator[None]:
    """Compare in partitions, as little memory would require."""
    with in_partitions_of(20):
        yield


@pytest.fixture(autouse=True)
def _on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this package importable in the processes."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
