"""Measure and print one table: `python -m benchmarks [SCENARIO …]`.

A target that is missed is said plainly, and is no failure.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

from ._registry import SCENARIOS
from ._scenario import Scenario
from ._table import Row, format_json, format_table


def main(arguments: Sequence[str] | None = None, scenarios: Mapping[str, Scenario] = SCENARIOS) -> None:
    """Run scenarios and print what they measured.

    Args:
        arguments: The command line's; None for the process's own.
        scenarios: What there is to run.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, side by side.")
    parser.add_argument("scenario", nargs="*", help=f"what to run, all by default: {', '.join(scenarios)}")
    parser.add_argument(
        "--rounds", type=int, help="how often each side is measured; by default as the scenario says"
    )
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.scenario if name not in scenarios]
    if unknown:
        parser.error(f"there is no scenario {unknown[0]!r}; there are {', '.join(scenarios)}")
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    rows: list[Row] = []
    for name in options.scenario or scenarios:
        rounds = options.rounds or scenarios[name].rounds
        print(f"{name}: {rounds} rounds …", file=sys.stderr)
        rows += scenarios[name].run(name, rounds)
    print(format_json(rows) if options.json else format_table(rows))


if __name__ == "__main__":
    main()
