"""The page docs/benchmarks.md: the texts of template.md with the results of a run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import attrs

from ..contenders import CONTENDERS
from ..measure.machine import Machine
from ..results.scenario import Result, Scenario, all_rows
from .text import format_results, markdown_table, target_summary

_TEMPLATE = Path(__file__).with_name("template.md")
# A section of the template can have a second part, which is shown only if a target was missed.
_IF_MISSED = "<!-- if a target is missed -->"


@attrs.frozen(kw_only=True)
class ScenarioRun:
    """The run of one scenario.

    Attributes:
        name: The scenario's name.
        scenario: The scenario.
        seconds: The duration of all rounds.
        results: The results. None if it failed.
    """

    name: str
    scenario: Scenario
    seconds: float
    results: tuple[Result, ...] | None


def read_template() -> tuple[str, dict[str, tuple[str, str]]]:
    """Return the introduction, and for each scenario its text and the remark on its missed targets."""
    contenders = "\n".join(f"- **{contender.name}**: {contender.how}" for contender in CONTENDERS)
    text = _TEMPLATE.read_text(encoding="utf-8").replace("<!-- contenders -->", contenders)
    introduction, *parts = re.split(r"^## `(\w+)`$", text, flags=re.MULTILINE)
    sections = {}
    for name, section in zip(parts[::2], parts[1::2], strict=True):
        about, _, remark = section.partition(_IF_MISSED)
        sections[name] = (about.strip(), remark.strip())
    return introduction.strip(), sections


def read_scenarios(page: str) -> list[str]:
    """Return the names of the scenarios of a page."""
    return re.findall(r"^## `(\w+)`$", page, re.MULTILINE)


def format_page(runs: Sequence[ScenarioRun], machine: Machine, command: str) -> str:
    """Return the page.

    Args:
        runs: The runs in the order of the page.
        machine: The machine of the runs.
        command: The command that repeats them.
    """
    introduction, sections = read_template()
    facts = [("command", f"`{command}`"), *machine.facts()]
    run = "\n".join(f"- {name}: {text}" for name, text in facts)
    scenarios = [part for run in runs for part in _format_scenario(run, sections)]
    parts = [introduction, "## This run", run]
    parts += ["## Targets", *_format_targets(runs, sections), *scenarios]
    return "\n\n".join([*parts, "## Duration", _format_seconds(runs)]) + "\n"


def _format_targets(runs: Sequence[ScenarioRun], sections: Mapping[str, tuple[str, str]]) -> Iterable[str]:
    results = [result for run in runs for result in run.results or ()]
    summary, *misses = target_summary(results)
    yield f"{summary}."
    if lines := [*misses, *(f"failed without results: {run.name}" for run in runs if run.results is None)]:
        yield "\n".join(f"- {line}" for line in lines)
    missed = {row.scenario for row in all_rows(results) if row.target is not None and not row.reached}
    yield from (f"`{name}`: {text}" for name, (_, text) in sections.items() if text and name in missed)


def _format_scenario(run: ScenarioRun, sections: Mapping[str, tuple[str, str]]) -> Iterable[str]:
    first_line = (type(run.scenario).__doc__ or "").partition("\n")[0]
    yield f"## `{run.name}`"
    yield sections[run.name][0] if run.name in sections else first_line
    yield from format_results(run.results or ())


def _format_seconds(runs: Sequence[ScenarioRun]) -> str:
    lines = [(f"`{run.name}`", f"{run.seconds:,.0f}") for run in runs]
    return markdown_table(("item", "seconds"), [*lines, ("all", f"{sum(run.seconds for run in runs):,.0f}")])
