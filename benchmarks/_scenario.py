"""What a scenario is."""

from __future__ import annotations

from typing import Protocol

from ._table import Row


class Scenario(Protocol):
    """Something to measure, with its numbers as attributes, so that a test can run it with small ones."""

    @property
    def rounds(self) -> int:
        """How often it is measured when nobody says."""
        ...

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure every side once a round, in turns.

        Args:
            name: What the scenario is called here.
            rounds: How often.
        """
        ...
