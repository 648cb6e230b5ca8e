"""What was measured, as the document that a run of everything leaves behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import attrs

from ..measure.machine import Machine
from ..results.scenario import Result, Scenario, judged_rows
from .prose import ABOUT, INTRODUCTION, TRIED
from .text import Table, make_tables, tell_verdict


@attrs.frozen(kw_only=True)
class Outcome:
    """What came of a scenario.

    Attributes:
        name: The scenario's.
        scenario: What was run.
        seconds: How long all of its rounds took.
        results: What it measured; None where it failed.
    """

    name: str
    scenario: Scenario
    seconds: float
    results: tuple[Result, ...] | None


def format_document(outcomes: Sequence[Outcome], machine: Machine, command: str) -> str:
    """Write the document.

    Args:
        outcomes: In the order of the document.
        machine: What was measured on.
        command: What has to be typed for the same run.
    """
    parts = [
        "# Benchmarks",
        INTRODUCTION.strip(),
        "## This run",
        _describe_run(machine, command),
        "## Targets",
        *_tell_targets(outcomes),
        *(part for outcome in outcomes for part in _tell_scenario(outcome)),
        "## How long it takes",
        _tell_seconds(outcomes),
    ]
    return "\n\n".join(parts) + "\n"


def _describe_run(machine: Machine, command: str) -> str:
    memory = "" if machine.memory is None else f"{machine.memory / 2**30:.1f} GiB"
    facts = [
        ("command", f"`{command}`"),
        ("date", machine.date),
        ("processor", f"{machine.processor}, {machine.cores} cores"),
        ("memory", memory),
        ("system", machine.kernel),
        ("load before", ", ".join(f"{average:.1f}" for average in machine.load)),
        ("python", machine.python),
        ("packages", ", ".join(f"{name} {version}" for name, version in machine.packages.items())),
    ]
    return Table(cells=[("", "what"), *facts]).as_markdown()


def _tell_targets(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """Say what was reached; of what was not, by how much, and what was tried."""
    listed = list(outcomes)
    results = [result for outcome in listed for result in outcome.results or ()]
    summary, *misses = tell_verdict(results)
    yield f"{summary}."
    failed = [
        f"failed, and measured nothing: {outcome.name}" for outcome in listed if outcome.results is None
    ]
    if lines := [*misses, *failed]:
        yield "\n".join(f"- {line}" for line in lines)
    missed = {row.scenario for row in judged_rows(results) if not row.reached}
    yield from (f"`{name}`: {text.strip()}" for name, text in TRIED.items() if name in missed)


def _tell_scenario(outcome: Outcome) -> Iterator[str]:
    yield f"## `{outcome.name}`"
    yield ABOUT.get(outcome.name, _first_line(outcome.scenario)).strip()
    yield from (table.as_markdown() for table in make_tables(outcome.results or ()))


def _first_line(scenario: Scenario) -> str:
    """Return what a scenario says of itself."""
    return (type(scenario).__doc__ or "").partition("\n")[0]


def _tell_seconds(outcomes: Iterable[Outcome]) -> str:
    listed = list(outcomes)
    lines = [(f"`{outcome.name}`", f"{outcome.seconds:,.0f}") for outcome in listed]
    total = ("all", f"{sum(outcome.seconds for outcome in listed):,.0f}")
    return Table(cells=[("what", "seconds"), *lines, total]).as_markdown()
