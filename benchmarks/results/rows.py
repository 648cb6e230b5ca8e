"""What was measured of ours, beside one rival: rows, and what they have to reach."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Literal

import attrs

from ..measure.processes import Measures

HEAD = ("what", "ours", "rival", "theirs", "ratio", "target", "reached")


@attrs.frozen(kw_only=True)
class Target:
    """What a row has to reach.

    Attributes:
        sign: The side on which the measured value has to be; the bound itself is reached.
        bound: The bound, in the row's unit, or a ratio.
        of: What is compared: `ours`, or `ratio`, which is ours divided by theirs.
    """

    sign: Literal[">=", "<="]
    bound: float
    of: Literal["ours", "ratio"] = "ours"

    def __str__(self) -> str:
        """Write it as a cell."""
        return f"{self.sign} {write_number(self.bound)}{'x' if self.of == 'ratio' else ''}"

    def is_reached(self, value: float) -> bool:
        """Tell whether *value* is on the right side."""
        return value >= self.bound if self.sign == ">=" else value <= self.bound


@attrs.frozen(kw_only=True)
class Row:
    """One number of ours, beside one rival's.

    Attributes:
        scenario: The scenario's name.
        what: What was measured, with its unit.
        ours: Our median; None where this machine cannot measure it.
        rival: Who is beside us; empty for nobody.
        theirs: The rival's median.
        ratio: The median of the rounds' ratios, ours divided by theirs.
        target: What is to be reached; None for a number that only informs.
    """

    scenario: str
    what: str
    ours: float | None
    rival: str = ""
    theirs: float | None = None
    ratio: float | None = None
    target: Target | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None where there is no target, or nothing to compare."""
        if self.target is None:
            return None
        value = self.ours if self.target.of == "ours" else self.ratio
        return None if value is None else self.target.is_reached(value)

    @property
    def verdict(self) -> str:
        """Whether the target is reached, in a word."""
        return {True: "yes", False: "NO", None: "not measured" if self.target else ""}[self.reached]

    def cells(self) -> tuple[str, ...]:
        """Return what the table shows."""
        return (
            self.what,
            write_number(self.ours),
            self.rival,
            write_number(self.theirs),
            "" if self.ratio is None else f"{self.ratio:.2f}x",
            str(self.target or ""),
            self.verdict,
        )


@attrs.frozen(kw_only=True)
class Rival:
    """Who is beside us, and what was measured there, one value for each round."""

    name: str
    values: Sequence[float]


def make_row(
    scenario: str,
    what: str,
    ours: Sequence[float],
    rival: Rival | None = None,
    target: Target | None = None,
) -> Row:
    """Make a row of what was measured in several rounds.

    A machine that others use as well slows down and recovers in the middle of a run. Both sides of one round
    meet the same machine, so the rounds' ratios say more than the ratio of the medians.

    Args:
        scenario: The scenario's name.
        what: What was measured, with its unit.
        ours: Our values, one for each round; empty where it cannot be measured.
        rival: The rival's values of the same rounds.
        target: What is to be reached.
    """
    row = Row(scenario=scenario, what=what, ours=statistics.median(ours) if ours else None, target=target)
    if rival is None or not rival.values:
        return row
    ratios = [mine / theirs for mine, theirs in zip(ours, rival.values, strict=True) if theirs]
    return attrs.evolve(
        row,
        rival=rival.name,
        theirs=statistics.median(rival.values),
        ratio=statistics.median(ratios) if ratios else None,
    )


def make_rows(
    scenario: str, measured: Sequence[Measures], shown: Iterable[tuple[str, str, Target | None]]
) -> list[Row]:
    """Make a row of each measure that there is, without a rival.

    Args:
        scenario: The scenario's name.
        measured: What was measured, one entry for each round.
        shown: For each row the measure, what it is with its unit, and what is to be reached.
    """
    return [
        make_row(scenario, what, values, None, target)
        for key, what, target in shown
        if (values := column(measured, key))
    ]


def column(measured: Iterable[Measures], key: str) -> list[float]:
    """Return one measure of all rounds that have it: not every machine, nor every job, has all of them."""
    return [measures[key] for measures in measured if key in measures]


def write_number(value: float | None) -> str:
    """Write a number with three digits, or with all before the point."""
    if value is None:
        return ""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
