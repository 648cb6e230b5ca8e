"""Charts of a place's runs: the shapes of an SVG picture, and a sentence that replaces it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import attrs

from ....sync import Run

__all__ = ["HEIGHT", "WIDTH", "Bar", "Chart", "charts_of", "format_seconds", "format_time"]

# Units of the picture, which is stretched to the width of the page.
WIDTH: Final = 600
HEIGHT: Final = 120
# The part of the room of a bar that the bar fills.
_FILLED: Final = 0.7
_THINNEST: Final = 1.5
_MINUTE: Final = 60

_Values = Callable[[Run], dict[str, float]]


@attrs.frozen(kw_only=True)
class Bar:
    """A bar of a chart.

    Attributes:
        x: Its left edge.
        y: Its upper edge.
        width: Its width.
        height: Its height.
        kind: What it counts: `added`, `removed` or `plain`.
        title: Its run and its value in words.
    """

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str


@attrs.frozen(kw_only=True)
class Chart:
    """A chart.

    Attributes:
        title: What it shows.
        summary: The same as the picture, in a sentence.
        top: The value at the upper edge.
        bottom: The value at the lower edge.
        zero: The height of zero.
        bars: Its bars. Empty if it is a line.
        line: The points of its line, for SVG. Empty if it has bars.
    """

    title: str
    summary: str
    top: str
    bottom: str
    zero: float = HEIGHT
    bars: tuple[Bar, ...] = ()
    line: str = ""


def charts_of(runs: Sequence[Run]) -> list[Chart]:
    """Return the charts of a place. One without values is left out.

    Args:
        runs: Its runs, the oldest first.
    """
    members = [(run, run.members_after) for run in runs if run.members_after is not None]
    ended = [(run, run.seconds) for run in runs if run.seconds is not None and run.whole]
    charts = []
    if members:
        charts.append(_members(members))
    if any(run.adds or run.removes for run in runs):
        charts.append(_changes(runs))
    if ended:
        charts.append(_seconds(ended))
    return charts


def format_time(time: dt.datetime) -> str:
    """Format a time in UTC, to the minute."""
    return f"{time:%Y-%m-%d %H:%M} UTC"


def format_seconds(seconds: float) -> str:
    """Format a duration as `1.6 s` or `1:02:03`."""
    return f"{seconds:,.1f} s" if seconds < _MINUTE else str(dt.timedelta(seconds=round(seconds)))


def _members(found: Sequence[tuple[Run, int]]) -> Chart:
    """Return the line of the members after each run."""
    times = [run.started.timestamp() for run, _ in found]
    most = max(1, *(count for _, count in found))
    span = times[-1] - times[0] or 1.0
    points = [
        (WIDTH * (time - times[0]) / span, HEIGHT * (1 - count / most))
        for time, (_, count) in zip(times, found, strict=True)
    ]
    points = [*points, (WIDTH, points[-1][1])]  # a single run is a line too
    counts = [count for _, count in found]
    return Chart(
        title="Members over time",
        summary=(
            f"From {counts[0]:,} to {counts[-1]:,} members, at least {min(counts):,} and at most "
            f"{max(counts):,}. {format_time(found[0][0].started)} to {format_time(found[-1][0].started)}."
        ),
        top=f"{most:,}",
        bottom="0",
        line=" ".join(f"{x:.1f},{y:.1f}" for x, y in points),
    )


def _changes(runs: Sequence[Run]) -> Chart:
    """Return the bars of the IDs to add, upwards, and of the members to remove, downwards."""
    added, removed = max(run.adds for run in runs), max(run.removes for run in runs)
    unit = HEIGHT / (added + removed)
    zero = added * unit
    bars: list[Bar] = []
    for x, width, run in _places(runs):
        title = f"Run {run.run}, {format_time(run.started)}: {run.adds:,} to add, {run.removes:,} to remove"
        for kind, y, count in (("added", zero - run.adds * unit, run.adds), ("removed", zero, run.removes)):
            if count:
                height = max(count * unit, _THINNEST)
                bars.append(Bar(x=x, y=y, width=width, height=height, kind=kind, title=title))
    return Chart(
        title="Added and removed per run",
        summary=(
            f"IDs to add: {sum(run.adds for run in runs):,}, at most {added:,} in one run. "
            f"Members to remove: {sum(run.removes for run in runs):,}, at most {removed:,} in one run."
        ),
        top=f"+{added:,}",
        bottom=f"-{removed:,}" if removed else "0",
        zero=zero,
        bars=tuple(bars),
    )


def _seconds(found: Sequence[tuple[Run, float]]) -> Chart:
    """Return the bars of the seconds that each run took until all was APPLIED."""
    longest = max(0.1, *(seconds for _, seconds in found))
    bars = []
    for (x, width, run), (_, seconds) in zip(_places([run for run, _ in found]), found, strict=True):
        height = max(HEIGHT * seconds / longest, _THINNEST)
        title = f"Run {run.run}, {format_time(run.started)}: {format_seconds(seconds)}"
        bars.append(Bar(x=x, y=HEIGHT - height, width=width, height=height, kind="plain", title=title))
    middle = sorted(seconds for _, seconds in found)[len(found) // 2]
    return Chart(
        title="Time until APPLIED",
        summary=(
            f"Half of the runs took up to {format_seconds(middle)} from start to APPLIED. "
            f"The longest took {format_seconds(longest)}."
        ),
        top=format_seconds(longest),
        bottom="0 s",
        bars=tuple(bars),
    )


def _places(runs: Sequence[Run]) -> Iterator[tuple[float, float, Run]]:
    """Yield the left edge and the width of the bar of each run."""
    room = WIDTH / len(runs)
    width = min(room * _FILLED, WIDTH / 12)
    for number, run in enumerate(runs):
        yield room * number + (room - width) / 2, width, run
