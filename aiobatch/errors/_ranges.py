"""Positions in the iterables of an upload, as pairs of a list's name and a range."""

from __future__ import annotations

from collections.abc import Sequence

# Ranges that a message lists. The attributes of its error have all of them.
_LISTED_RANGES = 5

Ranges = Sequence[tuple[str, range]]


def merge_ranges(ranges: Ranges) -> tuple[tuple[str, range], ...]:
    """Sort ranges and join those that touch."""
    merged: list[tuple[str, range]] = []
    for name, span in sorted(ranges, key=lambda item: (item[0], item[1].start)):
        if merged and merged[-1][0] == name and merged[-1][1].stop == span.start:
            merged[-1] = (name, range(merged[-1][1].start, span.stop))
        else:
            merged.append((name, span))
    return tuple(merged)


def format_ranges(ranges: Ranges) -> list[str]:
    """Format ranges as `add[0:10000]`, the first few only."""
    shown = [f"{name}[{span.start}:{span.stop}]" for name, span in ranges[:_LISTED_RANGES]]
    more = len(ranges) - _LISTED_RANGES
    return [*shown, f"and {more} more ranges"] if more > 0 else shown
