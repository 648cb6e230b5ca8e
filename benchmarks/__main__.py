"""The command `python -m benchmarks [SCENARIO …]`: run scenarios and print their tables.

A missed target is reported and does not fail the run.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import attrs

from .measure.machine import describe_machine
from .measure.processes import ROOT
from .report.page import ScenarioRun, format_page, read_scenarios
from .report.text import format_json, format_text
from .results.scenario import Result, Scenario
from .scenarios._registry import PARTS, SCENARIOS, sized_scenarios

PAGE = ROOT / "docs" / "benchmarks.md"
_VARIABLE = "BENCH_IDS"
_QUICK_IDS = 100_000
# With fewer, 1 % of the smallest plan is no ID.
_FEWEST_IDS = 10_000
_EPILOG = f"""
A run without arguments takes some 30 minutes and writes {PAGE.relative_to(ROOT)}. Any other run
prints its tables, writes them to --write, and reports scenarios that the page lacks.

The environment variable {_VARIABLE} sets the number of IDs of all syncs, by default 10 million and at
least {_FEWEST_IDS:,}, as in {_VARIABLE}={_QUICK_IDS} make bench.
Their targets for seconds and bytes then do not apply.
"""


@attrs.frozen
class _Size:
    """The size of a run. None for the scenarios' own."""

    rounds: int | None
    ids: int | None


def main(arguments: Sequence[str] | None = None, scenarios: Mapping[str, Scenario] = SCENARIOS) -> None:
    """Run scenarios and print or write their results.

    Args:
        arguments: The arguments. None for those of the process.
        scenarios: All scenarios by name.

    Raises:
        SystemExit: 1 if a scenario failed, 2 for an invalid argument.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = _parser(scenarios)
    options = parser.parse_args(arguments)
    known = {**PARTS, **scenarios}
    if unknown := [name for name in options.scenario if name not in known]:
        parser.error(f"unknown scenario {unknown[0]!r}. The scenarios are {', '.join(known)}")
    size = _size(parser, options)
    place = options.write or (None if arguments or size.ids else PAGE)
    _check_place(parser, place)
    machine = describe_machine()
    runs = [_measure(name, known[name], size) for name in options.scenario or scenarios]
    results = [result for run in runs for result in run.results or ()]
    print(format_json(results, machine) if options.json else format_text(results, machine))
    if place is None and (missing := _missing_from_page(scenarios)):
        print(f"{PAGE.name} lacks {', '.join(missing)}. Run: make bench", file=sys.stderr)
    if place is not None:
        place.write_text(format_page(runs, machine, _command(arguments)), encoding="utf-8")
        print(f"written: {place}", file=sys.stderr)
    if failed := [run.name for run in runs if run.results is None]:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
        sys.exit(1)


def _parser(scenarios: Iterable[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Run benchmarks side by side.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = f"scenarios to run: {', '.join(scenarios)}, or parts: {', '.join(PARTS)}. Default: all"
    parser.add_argument("scenario", nargs="*", help=names)
    parser.add_argument("--rounds", type=int, help="number of rounds. Default: the scenario's")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"one round, and {_QUICK_IDS:,} IDs unless {_VARIABLE} is set",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--write", type=Path, metavar="PATH", help="write the page of this run to PATH")
    return parser


def _size(parser: argparse.ArgumentParser, options: argparse.Namespace) -> _Size:
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    text = os.environ.get(_VARIABLE, "")
    if text and (not text.isdecimal() or int(text) < _FEWEST_IDS):
        parser.error(
            f"{_VARIABLE} must be an integer of at least {_FEWEST_IDS:,} without separators, not {text!r}"
        )
    ids = int(text) if text else _QUICK_IDS if options.quick else None
    return _Size(options.rounds or (1 if options.quick else None), ids)


def _check_place(parser: argparse.ArgumentParser, place: Path | None) -> None:
    """Check the directory before the first scenario."""
    if place is not None and not place.parent.is_dir():
        parser.error(f"--write: directory {place.parent} does not exist")


def _measure(name: str, scenario: Scenario, size: _Size) -> ScenarioRun:
    """Run one scenario. If it fails, the others still run."""
    if size.ids is not None:
        scenario = sized_scenarios(size.ids).get(name, scenario)
    rounds = size.rounds or scenario.rounds
    print(f"{name}: {rounds} rounds …", file=sys.stderr)
    started = time.perf_counter()
    results: tuple[Result, ...] | None = None
    try:
        results = tuple(scenario.run(name, rounds))
    except Exception:  # noqa: BLE001 - it is printed here and reported at the end
        traceback.print_exc()
    seconds = time.perf_counter() - started
    print(f"{name}: {seconds:,.0f} s", file=sys.stderr)
    return ScenarioRun(name=name, scenario=scenario, seconds=seconds, results=results)


def _missing_from_page(scenarios: Iterable[str]) -> list[str]:
    """Return the scenarios that the page does not have yet."""
    listed = read_scenarios(PAGE.read_text(encoding="utf-8")) if PAGE.exists() else []
    return [name for name in scenarios if name not in listed]


def _command(arguments: Sequence[str]) -> str:
    """Return the command of this run."""
    sized = f"{_VARIABLE}={os.environ[_VARIABLE]} " if os.environ.get(_VARIABLE) else ""
    return f"{sized}make bench" + (f" ARGS={shlex.quote(shlex.join(arguments))}" if arguments else "")


if __name__ == "__main__":
    main()
