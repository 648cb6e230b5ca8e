"""What was measured: rows, as an aligned table or as JSON."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal

import attrs

_HEAD = ("what", "ours", "rival", "theirs", "ratio", "target", "reached")
_PACKAGES = ("aiohttp", "orjson", "attrs", "cattrs", "httpx")


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
        return f"{self.sign} {_number(self.bound)}{'x' if self.of == 'ratio' else ''}"

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

    def cells(self) -> tuple[str, ...]:
        """Return what the table shows."""
        verdict = {True: "yes", False: "NO", None: "not measured" if self.target else ""}
        return (
            self.what,
            _number(self.ours),
            self.rival,
            _number(self.theirs),
            "" if self.ratio is None else f"{self.ratio:.2f}x",
            str(self.target or ""),
            verdict[self.reached],
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


def format_table(rows: Iterable[Row]) -> str:
    """Write rows as text, in aligned columns, under their scenarios."""
    rows = list(rows)
    table = [_HEAD, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [_align(_HEAD, widths), "  ".join("-" * width for width in widths)]
    scenario = ""
    for row in rows:
        if row.scenario != scenario:
            scenario = row.scenario
            lines.append(scenario)
        lines.append(_align(row.cells(), widths))
    return "\n".join([*lines, "", describe_run(), _verdict(rows)])


def format_json(rows: Iterable[Row]) -> str:
    """Write rows as one JSON object, with what they were measured on."""
    listed = [{**attrs.asdict(row), "reached": row.reached} for row in rows]
    return json.dumps({"run": describe_run(), "rows": listed}, indent=2)


def describe_run() -> str:
    """Return date, machine and versions."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    load = ", ".join(f"{average:.1f}" for average in os.getloadavg())
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, load {load}"
    return f"{date}; {machine}; Python {sys.version.split()[0]}, {versions}"


def _verdict(rows: Sequence[Row]) -> str:
    """Say what was not reached."""
    missed = [f"{row.scenario}: {row.what}" for row in rows if row.reached is False]
    targets = sum(row.target is not None for row in rows)
    reached = sum(row.reached is True for row in rows)
    return f"{reached} of {targets} targets reached" + "".join(f"\nNOT reached: {name}" for name in missed)


def _align(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Write one line; numbers stand to the right."""
    right = (False, True, False, True, True, False, False)
    padded = (
        cell.rjust(width) if is_right else cell.ljust(width)
        for cell, width, is_right in zip(cells, widths, right, strict=True)
    )
    return "  ".join(padded).rstrip()


def _number(value: float | None) -> str:
    """Write a number with three digits, or with all before the point."""
    if value is None:
        return ""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
