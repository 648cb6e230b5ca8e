"""Measure and print tables: `python -m benchmarks [SCENARIO …]`.

A target that is missed is said plainly, and is no failure.
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
from .report.document import Outcome, format_document
from .report.text import format_json, format_text
from .results.scenario import Result, Scenario
from .scenarios._registry import PARTS, SCENARIOS, sized_scenarios

DOCUMENT = ROOT / "docs" / "benchmarks.md"
_VARIABLE = "BENCH_IDS"
_QUICK_IDS = 100_000
# Below that, 1 % of the smallest plan is nobody.
_FEWEST_IDS = 10_000
_EPILOG = f"""
A run without arguments takes some 20 minutes and writes {DOCUMENT.relative_to(ROOT)}. Any other run
leaves that file alone: it prints its tables, and writes them where --write says.

{_VARIABLE} in the environment is the number of ids wherever something is synced, in place of 10 million: at
least {_FEWEST_IDS:,}, as in {_VARIABLE}={_QUICK_IDS} make bench.
Their targets for seconds and bytes then do not apply.
"""


@attrs.frozen
class _Size:
    """How much is measured; None for what each scenario says."""

    rounds: int | None
    ids: int | None


def main(arguments: Sequence[str] | None = None, scenarios: Mapping[str, Scenario] = SCENARIOS) -> None:
    """Run scenarios, print what they measured, and write it down.

    Args:
        arguments: The command line's; None for the process's own.
        scenarios: What there is to run.

    Raises:
        SystemExit: With 1 where a scenario failed, with 2 for a bad argument.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = _parser(scenarios)
    options = parser.parse_args(arguments)
    known = {**scenarios, **PARTS}
    if unknown := [name for name in options.scenario if name not in known]:
        parser.error(f"there is no scenario {unknown[0]!r}; there are {', '.join(known)}")
    size = _size(parser, options)
    place = options.write or (None if arguments or size.ids else DOCUMENT)
    _check_place(parser, place)
    machine = describe_machine()
    outcomes = [_measure(name, known[name], size) for name in options.scenario or scenarios]
    results = [result for outcome in outcomes for result in outcome.results or ()]
    print(format_json(results, machine) if options.json else format_text(results, machine))
    if place is not None:
        place.write_text(format_document(outcomes, machine, _command(arguments)), encoding="utf-8")
        print(f"written: {place}", file=sys.stderr)
    if failed := [outcome.name for outcome in outcomes if outcome.results is None]:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
        sys.exit(1)


def _parser(scenarios: Iterable[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure, side by side.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = f"what to run, all by default: {', '.join(scenarios)}; or a part: {', '.join(PARTS)}"
    parser.add_argument("scenario", nargs="*", help=names)
    parser.add_argument(
        "--rounds", type=int, help="how often it is measured; by default as the scenario says"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"one round, and {_QUICK_IDS:,} ids where {_VARIABLE} says nothing",
    )
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")
    parser.add_argument("--write", type=Path, metavar="PATH", help="write a document of this run to PATH")
    return parser


def _size(parser: argparse.ArgumentParser, options: argparse.Namespace) -> _Size:
    """Read how much is to be measured."""
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    text = os.environ.get(_VARIABLE, "")
    if text and (not text.isdecimal() or int(text) < _FEWEST_IDS):
        parser.error(
            f"{_VARIABLE} must be a whole number, {_FEWEST_IDS:,} or more, without separators: {text!r}"
        )
    ids = int(text) if text else _QUICK_IDS if options.quick else None
    return _Size(options.rounds or (1 if options.quick else None), ids)


def _check_place(parser: argparse.ArgumentParser, place: Path | None) -> None:
    """Complain before anything is measured, rather than after."""
    if place is not None and not place.parent.is_dir():
        parser.error(f"--write: there is no directory {place.parent}")


def _measure(name: str, scenario: Scenario, size: _Size) -> Outcome:
    """Run one scenario; one that fails does not take what the others measured along."""
    if size.ids is not None:
        scenario = sized_scenarios(size.ids).get(name, scenario)
    rounds = size.rounds or scenario.rounds
    print(f"{name}: {rounds} rounds …", file=sys.stderr)
    started = time.perf_counter()
    results: tuple[Result, ...] | None = None
    try:
        results = tuple(scenario.run(name, rounds))
    except Exception:  # noqa: BLE001 - whatever it was, it is told here and at the end
        traceback.print_exc()
    seconds = time.perf_counter() - started
    print(f"{name}: {seconds:,.0f} s", file=sys.stderr)
    return Outcome(name=name, scenario=scenario, seconds=seconds, results=results)


def _command(arguments: Sequence[str]) -> str:
    """Write what has to be typed for the same run."""
    sized = f"{_VARIABLE}={os.environ[_VARIABLE]} " if os.environ.get(_VARIABLE) else ""
    return f"{sized}make bench" + (f" ARGS={shlex.quote(shlex.join(arguments))}" if arguments else "")


if __name__ == "__main__":
    main()
