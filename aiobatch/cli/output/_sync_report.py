"""Reports of sync runs on stdout: one JSON object for a program, lines or a table for a person."""

from __future__ import annotations

import datetime as dt
import re
import sys
from collections.abc import Sequence
from typing import Any, Final, Self

import attrs
import cattrs.preconf.orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...errors import Remedy
from ...sync import Basis, GuardDecision, GuardError, Mode, Plan, Run, RunOutcome, SyncReport, report_of
from ...sync.config import DRAFT, object_schema
from .._exit_codes import ExitCode
from ._command_hints import command, with_remedy
from ._errors import text_of
from ._tables import Output, clean, is_terminal

__all__ = [
    "CommandOutcome",
    "Summary",
    "describe_changes",
    "describe_kept",
    "describe_rows",
    "failure",
    "outcome_of_error",
    "plan_fields",
    "pluralize",
    "print_fields",
    "record",
    "report_schema",
    "summary_lines",
]

_converter = cattrs.preconf.orjson.make_converter()
_BASES: Final = {Basis.RATE: "at the given rate", Basis.HISTORY: "at the speed of the last runs"}
_MODES: Final = {"resync": Mode.RESYNC, "adopt": Mode.ADOPT, "rollback": Mode.ROLLBACK}
# Fields of free text, and numbers such as 1,234.
_TEXTS: Final = frozenset({"source", "error", "guard", "audience", "target"})
_THOUSANDS: Final = re.compile(r"\b\d{1,3}(?:,\d{3})+\b")
_FORMAT: Final = {"const": 1, "description": "The version of this schema."}


@attrs.frozen(kw_only=True)
class CommandOutcome:
    """The part of a report that the command line adds.

    Attributes:
        exit_code: The exit code. With several audiences, the code that this audience alone would have.
        error_type: The class of the error. Null: no error.
        guard: The decision of the guard. Null: it made none.
        target: The app's or project's name in the config. Null except for `aiobatch run`.
    """

    exit_code: int
    error_type: str | None = None
    guard: GuardDecision | None = None
    target: str | None = None


@attrs.frozen(kw_only=True)
class Summary:
    """The report of a run of several audiences, without the audiences.

    Attributes:
        outcome: The most severe outcome of an audience. `done`: all audiences are done.
        exit_code: The exit code.
        error: An error of the whole run, such as an invalid config. Null: no such error.
        error_type: The class of that error.
        started: The start, in UTC.
        seconds: The duration in seconds.
    """

    outcome: RunOutcome
    exit_code: int
    error: str | None = None
    error_type: str | None = None
    started: dt.datetime = attrs.field(factory=lambda: dt.datetime.now(dt.UTC))
    seconds: float = 0.0

    @classmethod
    def failed(cls, error: BaseException, code: ExitCode, **spent: Any) -> Self:
        """Return the summary of a run that *error* ended.

        Args:
            error: The error.
            code: The exit code.
            **spent: `started` and `seconds`.
        """
        text, kind = text_of(error), type(error).__name__
        return cls(outcome=RunOutcome.FAILED, exit_code=int(code), error=text, error_type=kind, **spent)

    def record(self, audiences: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the JSON values of the report, with the records of its audiences."""
        values: dict[str, Any] = _converter.unstructure(self)
        return {"format": 1, **values, "started": self.started, "audiences": list(audiences)}


def outcome_of_error(error: BaseException, code: ExitCode, *, target: str | None = None) -> CommandOutcome:
    """Return the outcome of a command that *error* ended."""
    guard = None
    if isinstance(error, GuardError):
        guard = GuardDecision(
            reasons=error.reasons,
            options=error.options,
            removals=error.removals,
            additions=error.additions,
            members=error.members,
        )
    return CommandOutcome(exit_code=int(code), error_type=type(error).__name__, guard=guard, target=target)


def record(report: SyncReport, ending: CommandOutcome) -> dict[str, Any]:
    """Return the `--json` report of one audience. docs/reference/report.schema.json is its schema."""
    values: dict[str, Any] = _converter.unstructure(ending)
    if ending.guard is not None:
        values["guard"] = {"allowed": ending.guard.allowed, **values["guard"]}
    fields = {**report.to_dict(), **values}
    fields["warnings"] = [with_remedy(one.text, one.remedy) for one in report.warnings]
    fields["error"] = None if report.error is None else with_remedy(report.error, report.remedy)
    return fields


def failure(command: str, error: BaseException, code: ExitCode) -> dict[str, Any]:
    """Return the `--json` report of a command that failed before it knew its audience.

    Args:
        command: The command's name.
        error: The error.
        code: The exit code.
    """
    if command == "run":
        return Summary.failed(error, code).record([])
    mode = _MODES.get(command, Mode.MIRROR)
    report = report_of(error, audience="", mode=mode, source="")
    report = attrs.evolve(report, error=text_of(error), remedy=None)  # the text has the remedy
    return record(report, outcome_of_error(error, code))


def report_schema() -> dict[str, Any]:
    """Return the JSON Schema of the reports that sync commands print with `--json`."""
    one, ending = object_schema(SyncReport, nullable=True), object_schema(CommandOutcome, nullable=True)
    decision = ending["properties"]["guard"]["anyOf"][0]
    allowed = {"type": "boolean", "description": "Whether the guard allows the plan."}
    decision["properties"]["allowed"] = allowed
    decision["required"].append("allowed")
    one["properties"]["warnings"]["items"] = {"type": "string"}
    one["properties"] = {"format": _FORMAT, **one["properties"], **ending["properties"]}
    one["required"] = ["format", *one["required"], *ending["required"]]
    many = object_schema(Summary, nullable=True)
    audiences = {"type": "array", "items": {"$ref": "#/definitions/audience"}}
    many["properties"] = {
        "format": _FORMAT,
        **many["properties"],
        "audiences": {"description": "The report of each audience in each of its targets.", **audiences},
    }
    many["required"] = ["format", *many["required"], "audiences"]
    return {
        "$schema": DRAFT,
        "title": "The report of aiobatch sync, plan, apply, resync, adopt, rollback and run",
        "oneOf": [{"$ref": "#/definitions/audience"}, {"$ref": "#/definitions/run"}],
        "definitions": {"audience": one, "run": many},
    }


# -- for people ---------------------------------------------------------------------------------------


def pluralize(count: int, what: str) -> str:
    """Format a count as `1 call` or `2 calls`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def describe_changes(report: SyncReport | Run) -> str:
    """Return a summary of the changes."""
    if report.mode is Mode.ADOPT:
        return "adopted, nothing was sent"
    counts = {
        "added": report.adds,
        "removed": report.removes,
        "changed": report.attribute_changes,
        "resent": report.resends,
        "untracked removed": report.untracked_removals,
    }
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "nothing to do"


def summary_lines(report: SyncReport) -> list[str]:
    """Return the summary of a run, enough for a mail of cron."""
    run = "" if report.run is None else f", run {report.run}"
    members, calls = pluralize(report.members_after, "member"), pluralize(report.calls, "call")
    counts = f"{members}, {calls}, {report.seconds:.1f} s{run}"
    lines = [f"{report.audience}: {report.outcome}: {describe_changes(report)} ({counts})"]
    if report.read:
        lines.append(f"{report.audience}: {describe_rows(report)}")
    if report.outcome is RunOutcome.SENT:
        lines.append(
            f"{report.audience}: not waited for. Run {command('settle', report.audience)}, or let the next "
            "run finish it."
        )
    return lines


def describe_rows(report: SyncReport) -> str:
    """Return how many rows of the source were kept."""
    return f"{pluralize(report.read, 'row')} of {report.source}: {describe_kept(report)}"


def describe_kept(report: SyncReport | Run) -> str:
    """Return how many rows were kept, why others were not, and where those are."""
    if report.reasons is None:
        return ""
    reasons = ", ".join(f"{reason} {rows:,}" for reason, rows in report.reasons.items())
    rejected = f"{report.rejected:,} rejected ({reasons})" if report.rejected else "none rejected"
    if report.rejects is not None:
        rejected += f", in {report.rejects}"
    return f"{report.kept:,} kept, {report.duplicate:,} duplicate, {rejected}"


def plan_fields(plan: Plan, report: SyncReport) -> list[tuple[str, str]]:
    """Return the fields of a plan. The sample IDs are for the person who asked for the plan."""
    return [
        ("audience", plan.audience),
        ("mode", str(plan.mode)),
        ("rows", describe_rows(report)),
        *([("match no user", f"{plan.lint}: {', '.join(plan.sample_lint)}")] if plan.lint else []),
        *([("beyond limits", plan.attribute_lint)] if plan.attribute_lint else []),
        ("members before", f"{plan.members_before:,}"),
        ("to add", _with_sample(plan.adds, plan.sample_adds)),
        ("to remove", _with_sample(plan.removes, plan.sample_removes)),
        ("attributes to change", f"{plan.attribute_changes:,}"),
        *([("to resend", f"{plan.resends:,}")] if plan.resends else []),
        *([("untracked to remove", f"{plan.untracked_removals:,}")] if plan.untracked_removals else []),
        *([("refused before", f"{plan.refused_before:,}")] if plan.refused_before else []),
        *([("of an earlier run", f"{plan.carried:,}")] if plan.carried else []),
        ("unchanged", f"{plan.unchanged:,}"),
        ("members after", f"{plan.members_after:,}"),
        ("calls", f"{plan.calls:,}"),
        ("expected time", _expected(plan)),
        ("guard", _guard(plan.decision)),
    ]


def _guard(decision: GuardDecision) -> str:
    """Return the decision of the guard, with the options that allow a refused plan."""
    remedy = None if decision.allowed else Remedy(options=decision.options)
    return with_remedy(str(decision), remedy)


def _expected(plan: Plan) -> str:
    """Return the expected duration, and the basis of the estimate."""
    if plan.seconds is None:
        return "unknown: there is no --rate and no earlier run"
    text = str(dt.timedelta(seconds=round(plan.seconds)))
    return text if plan.basis is None else f"{text} ({_BASES[plan.basis]})"


def _with_sample(count: int, sample: Sequence[str]) -> str:
    """Format a count with sample IDs as `1,234: a, b, c …`."""
    if not sample:
        return f"{count:,}"
    return f"{count:,}: {', '.join(sample)}{' …' if count > len(sample) else ''}"


def print_fields(output: Output, pairs: Sequence[tuple[str, str]]) -> None:
    """Print fields: a table in a terminal, tab-separated lines with plain numbers elsewhere."""
    if not is_terminal(sys.stdout):
        for name, value in [("field", "value"), *pairs]:
            output.line(f"{name}\t{clean(value if name in _TEXTS else _plain_numbers(value))}")
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, Text(clean(value), style=_style(name, value)))
    Console(file=sys.stdout, highlight=False).print(table)


def _plain_numbers(text: str) -> str:
    """Return text without the commas of its numbers. What a colon introduces, such as sample IDs, stays."""
    counts, colon, rest = text.partition(": ")
    return f"{_THOUSANDS.sub(lambda match: match[0].replace(',', ''), counts)}{colon}{rest}"


def _style(name: str, value: str) -> str:
    """Return the colour of a field. Only the decision of the guard has one."""
    if name != "guard":
        return ""
    return "green" if value == str(GuardDecision()) else "bold red"
