"""The interface of a scenario."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from .comparison import Comparison
from .rows import Row

Result = Row | Comparison


class Scenario(Protocol):
    """A scenario. Its sizes are attributes, so that a test can run it with small ones."""

    @property
    def rounds(self) -> int:
        """The default number of rounds."""
        ...

    def run(self, name: str, rounds: int) -> Sequence[Result]:
        """Measure every side once per round, in turns.

        Args:
            name: The scenario's name.
            rounds: The number of rounds.
        """
        ...


def all_rows(results: Iterable[Result]) -> list[Row]:
    """Return the rows of all results. Those of a comparison are its measures with a target."""
    return [
        row
        for result in results
        for row in (result.target_rows if isinstance(result, Comparison) else [result])
    ]
