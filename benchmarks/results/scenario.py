"""What a scenario is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from .board import Board
from .rows import Row

Result = Row | Board


class Scenario(Protocol):
    """Something to measure, with its numbers as attributes, so that a test can run it with small ones."""

    @property
    def rounds(self) -> int:
        """How often it is measured when nobody says."""
        ...

    def run(self, name: str, rounds: int) -> Sequence[Result]:
        """Measure every side once a round, in turns.

        Args:
            name: What the scenario is called here.
            rounds: How often.
        """
        ...


def judged_rows(results: Iterable[Result]) -> list[Row]:
    """Return all that has a target."""
    rows = [row for result in results for row in (result.judged if isinstance(result, Board) else (result,))]
    return [row for row in rows if row.target is not None]
