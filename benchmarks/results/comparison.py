"""Measurements of several contenders that did the same work: one line for each."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import attrs

from ..measure.processes import Measures
from .rows import Row, Target, write_number


@attrs.frozen(kw_only=True)
class ComparisonLine:
    """The measurements of one contender.

    Attributes:
        name: The contender's name.
        runs: The number of rounds.
        values: The median of each column. None for a measure that a round lacks.
    """

    name: str
    runs: int
    values: tuple[float | None, ...]


@attrs.frozen(kw_only=True)
class Comparison:
    """A table with a line for each contender.

    Attributes:
        scenario: The scenario's name.
        what: The work that they did.
        columns: The measures with their units.
        lines: The lines.
        left_out: Notes on contenders that are missing, with the reason.
        target_rows: The measures that have a target.
    """

    scenario: str
    what: str
    columns: tuple[str, ...]
    lines: tuple[ComparisonLine, ...]
    left_out: tuple[str, ...] = ()
    target_rows: tuple[Row, ...] = ()

    def cells(self) -> list[tuple[str, ...]]:
        """Return the cells of the table, its head first."""
        lines = [
            (line.name, str(line.runs), *(write_number(value) or "-" for value in line.values))
            for line in self.lines
        ]
        return [("contender", "runs", *self.columns), *lines]


def make_line(name: str, measured: Sequence[Measures], keys: Sequence[str]) -> ComparisonLine:
    """Return a line of the medians of several rounds.

    Args:
        name: The contender's name.
        measured: The measures of each round.
        keys: The measures to show, in the order of the columns. One that a round lacks is not shown.
    """
    columns = ([measures[key] for measures in measured if key in measures] for key in keys)
    medians = (statistics.median(column) if len(column) == len(measured) else None for column in columns)
    return ComparisonLine(name=name, runs=len(measured), values=tuple(medians))


def evaluate_targets(
    scenario: str, line: ComparisonLine, columns: Mapping[str, str], targets: Mapping[str, Target]
) -> list[Row]:
    """Return a row for each target of a line.

    Args:
        scenario: The scenario's name.
        line: The line. Its values are in the order of *columns*.
        columns: The measures' names by key.
        targets: The targets by key.
    """
    values = dict(zip(columns, line.values, strict=True))
    return [
        Row(scenario=scenario, what=f"{line.name}: {columns[key]}", value=values[key], target=target)
        for key, target in targets.items()
    ]
