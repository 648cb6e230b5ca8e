"""Measurements of aiobatch beside one baseline, and their targets."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Literal

import attrs

from ..measure.processes import Measures

HEAD = ("measure", "aiobatch", "baseline", "its value", "ratio", "target", "reached")


@attrs.frozen(kw_only=True)
class Target:
    """The bound that a measurement must keep.

    Attributes:
        sign: The side of the bound on which the value must be. The bound itself is allowed.
        bound: The bound, in the row's unit, or a ratio.
        of: What is compared: the `value`, or the `ratio` of the value to the baseline's.
    """

    sign: Literal[">=", "<="]
    bound: float
    of: Literal["value", "ratio"] = "value"

    def __str__(self) -> str:
        """Format it as a cell."""
        return f"{self.sign} {write_number(self.bound)}{'x' if self.of == 'ratio' else ''}"

    def is_reached(self, value: float) -> bool:
        """Return whether *value* keeps the bound."""
        return value >= self.bound if self.sign == ">=" else value <= self.bound


@attrs.frozen(kw_only=True)
class Row:
    """One measure of aiobatch, beside that of a baseline.

    Attributes:
        scenario: The scenario's name.
        what: The measure with its unit.
        value: The median. None if this machine cannot measure it.
        baseline: The baseline's name. Empty for none.
        baseline_value: The baseline's median.
        ratio: The median of the rounds' ratios of the value to the baseline's.
        target: The target. None for a measure without one.
    """

    scenario: str
    what: str
    value: float | None
    baseline: str = ""
    baseline_value: float | None = None
    ratio: float | None = None
    target: Target | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached. None without a target or a value."""
        value = self.value if self.target is None or self.target.of == "value" else self.ratio
        return None if self.target is None or value is None else self.target.is_reached(value)

    @property
    def reached_text(self) -> str:
        """Whether the target is reached, as a cell."""
        return {True: "yes", False: "NO", None: "not measured" if self.target else ""}[self.reached]

    def cells(self) -> tuple[str, ...]:
        """Return the row's cells, in the order of `HEAD`."""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}x"
        values = (write_number(self.value), self.baseline, write_number(self.baseline_value), ratio)
        return (self.what, *values, str(self.target or ""), self.reached_text)


@attrs.frozen(kw_only=True)
class Baseline:
    """A baseline and its values, one for each round."""

    name: str
    values: Sequence[float]


def make_row(
    scenario: str,
    what: str,
    values: Sequence[float],
    baseline: Baseline | None = None,
    target: Target | None = None,
) -> Row:
    """Return a row of the medians of several rounds.

    Other load on the machine can slow down a run halfway. Both sides of one round meet the same load, so the
    median of the rounds' ratios is more reliable than the ratio of the medians.

    Args:
        scenario: The scenario's name.
        what: The measure with its unit.
        values: The values of aiobatch, one for each round. Empty if they cannot be measured.
        baseline: The baseline's values of the same rounds.
        target: The target.
    """
    row = Row(
        scenario=scenario, what=what, value=statistics.median(values) if values else None, target=target
    )
    if baseline is None or not baseline.values:
        return row
    ratios = [value / other for value, other in zip(values, baseline.values, strict=True) if other]
    return attrs.evolve(
        row,
        baseline=baseline.name,
        baseline_value=statistics.median(baseline.values),
        ratio=statistics.median(ratios) if ratios else None,
    )


def make_rows(
    scenario: str, measured: Sequence[Measures], shown: Iterable[tuple[str, str, Target | None]]
) -> list[Row]:
    """Return a row without a baseline for each measure that was taken.

    Args:
        scenario: The scenario's name.
        measured: The measures of each round.
        shown: For each row, the key of the measure, its name with its unit, and its target.
    """
    return [
        make_row(scenario, what, values, None, target)
        for key, what, target in shown
        if (values := column(measured, key))
    ]


def column(measured: Iterable[Measures], key: str) -> list[float]:
    """Return one measure of all rounds that have it. Some machines and jobs lack some measures."""
    return [measures[key] for measures in measured if key in measures]


def write_number(value: float | None) -> str:
    """Format a number with three digits, or with all digits before the point."""
    if value is None:
        return ""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
