"""What was measured of several that did the same: one line for each."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import attrs

from ..measure.processes import Measures
from .rows import Row, Target, write_number

_NOTHING = "-"


@attrs.frozen(kw_only=True)
class Line:
    """One who was measured.

    Attributes:
        name: Who.
        runs: How often.
        values: The medians, one for each column; None where nothing was, as no lag of waits that are lost.
    """

    name: str
    runs: int
    values: tuple[float | None, ...]


@attrs.frozen(kw_only=True)
class Board:
    """A table with a line for each who was measured.

    Attributes:
        scenario: The scenario's name.
        what: What they did.
        columns: What was measured, with its unit.
        lines: One for each.
        left_out: Who is not in it, why, and what to do.
        judged: The numbers that have a target.
    """

    scenario: str
    what: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    left_out: tuple[str, ...] = ()
    judged: tuple[Row, ...] = ()

    def cells(self) -> list[tuple[str, ...]]:
        """Return what the table shows, its head first."""
        shown = [
            (line.name, str(line.runs), *(write_number(value) or _NOTHING for value in line.values))
            for line in self.lines
        ]
        return [("", "runs", *self.columns), *shown]


def make_line(name: str, measured: Sequence[Measures], keys: Sequence[str]) -> Line:
    """Make a line of what was measured in several rounds.

    Args:
        name: Who was measured.
        measured: What, one for each round.
        keys: The measures to show, in the order of the columns; one that a round lacks is not shown.
    """
    columns = ([measures[key] for measures in measured if key in measures] for key in keys)
    medians = (statistics.median(column) if len(column) == len(measured) else None for column in columns)
    return Line(name=name, runs=len(measured), values=tuple(medians))


def judge(scenario: str, line: Line, columns: Mapping[str, str], targets: Mapping[str, Target]) -> list[Row]:
    """Compare a line with its targets.

    Args:
        scenario: The scenario's name.
        line: Whose; its values stand in the order of *columns*.
        columns: What the measures are called.
        targets: What is to be reached, by measure.
    """
    values = dict(zip(columns, line.values, strict=True))
    return [
        Row(scenario=scenario, what=f"{line.name}: {columns[key]}", ours=values[key], target=target)
        for key, target in targets.items()
    ]
