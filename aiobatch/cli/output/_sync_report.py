"""What a run did, on stdout: one JSON object for a scheduler, some lines or a table for a person."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Sequence
from typing import Any, Final, Self

import attrs
import cattrs.preconf.orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..._remedy import Remedy
from ...errors import SyncError
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
_BASES: Final = {Basis.RATE: "at the rate allowed", Basis.HISTORY: "as the last runs went"}
_MODES: Final = {"resync": Mode.RESYNC, "adopt": Mode.ADOPT, "rollback": Mode.ROLLBACK}
_FORMAT: Final = {"const": 1, "description": "The version of this schema."}


@attrs.frozen(kw_only=True)
class CommandOutcome:
    """How it ended for the command line.

    Attributes:
        exit_code: The command's exit code; of several audiences, the code that this one alone would have.
        error_type: The class of the error; null where nothing went wrong.
        guard: What the guard said of the plan; null where it was not asked, or had nothing to say.
        target: The config's name of the app or project; null but for `aiobatch run`.
    """

    exit_code: int
    error_type: str | None = None
    guard: GuardDecision | None = None
    target: str | None = None


@attrs.frozen(kw_only=True)
class Summary:
    """How a run of many audiences ended.

    Attributes:
        outcome: That of the audience that weighs most; `done` where all are.
        exit_code: The command's exit code.
        error: What went wrong with all of it, such as a config that cannot be meant; null where nothing did.
        error_type: The class of that error.
        started: When; UTC.
        seconds: Seconds that it took.
    """

    outcome: RunOutcome
    exit_code: int
    error: str | None = None
    error_type: str | None = None
    started: dt.datetime = attrs.field(factory=lambda: dt.datetime.now(dt.UTC))
    seconds: float = 0.0

    @classmethod
    def failed(cls, error: BaseException, code: ExitCode, **spent: Any) -> Self:
        """Return how all of it ended with *error*.

        Args:
            error: What was raised.
            code: The exit code.
            **spent: When it began, and how long it took.
        """
        text, kind = text_of(error), type(error).__name__
        return cls(outcome=RunOutcome.FAILED, exit_code=int(code), error=text, error_type=kind, **spent)

    def record(self, audiences: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return it with the records of its audiences, as JSON's values."""
        values: dict[str, Any] = _converter.unstructure(self)
        started = self.started.isoformat(timespec="seconds")
        return {"format": 1, **values, "started": started, "audiences": list(audiences)}


def outcome_of_error(error: BaseException, code: ExitCode, *, target: str | None = None) -> CommandOutcome:
    """Return how it ended with *error*."""
    guard = None
    if isinstance(error, GuardError):
        guard = GuardDecision(
            reasons=error.reasons, options=error.options, removals=error.removals, members=error.members
        )
    return CommandOutcome(exit_code=int(code), error_type=type(error).__name__, guard=guard, target=target)


def record(report: SyncReport, ending: CommandOutcome) -> dict[str, Any]:
    """Return what `--json` prints of one audience; docs/reference/report.schema.json describes it."""
    values: dict[str, Any] = _converter.unstructure(ending)
    if ending.guard is not None:
        values["guard"] = {"allowed": ending.guard.allowed, **values["guard"]}
    fields = {**report.to_dict(), **values}
    fields["warnings"] = [with_remedy(one.text, one.remedy) for one in report.warnings]
    fields["error"] = None if report.error is None else with_remedy(report.error, report.remedy)
    return fields


def failure(command: str, error: BaseException, code: ExitCode) -> dict[str, Any]:
    """Return what `--json` prints of a command that failed before anything was known of its audience.

    Args:
        command: Its name.
        error: Why.
        code: Its exit code.
    """
    if command == "run":
        return Summary.failed(error, code).record([])
    mode = _MODES.get(command, Mode.MIRROR)
    report = report_of(error, audience="", mode=mode, source="")
    if not isinstance(error, SyncError):
        report = attrs.evolve(report, error=text_of(error))
    return record(report, outcome_of_error(error, code))


def report_schema() -> dict[str, Any]:
    """Return the JSON Schema of what the commands of the sync engine print with `--json`."""
    one, ending = object_schema(SyncReport, nullable=True), object_schema(CommandOutcome, nullable=True)
    decision = ending["properties"]["guard"]["anyOf"][0]
    decision["properties"]["allowed"] = {"type": "boolean", "description": "Whether it lets the plan pass."}
    decision["required"].append("allowed")
    one["properties"]["warnings"]["items"] = {"type": "string"}
    one["properties"] = {"format": _FORMAT, **one["properties"], **ending["properties"]}
    one["required"] = ["format", *one["required"], *ending["required"]]
    many = object_schema(Summary, nullable=True)
    audiences = {"type": "array", "items": {"$ref": "#/definitions/audience"}}
    many["properties"] = {
        "format": _FORMAT,
        **many["properties"],
        "audiences": {"description": "What became of each audience, in each of its targets.", **audiences},
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
    """Write `1 call`, `2 calls`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def describe_changes(report: SyncReport | Run) -> str:
    """Say in some words what is changed."""
    if report.mode is Mode.ADOPT:
        return "taken over, nothing was sent"
    counts = {
        "added": report.adds,
        "removed": report.removes,
        "changed": report.attribute_changes,
        "sent again": report.resends,
        "strays removed": report.untracked_removals,
    }
    said = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    return said or "nothing to do"


def summary_lines(report: SyncReport) -> list[str]:
    """Say what a run did, in lines that are enough for a mail of cron."""
    run = "" if report.run is None else f" (run {report.run})"
    counts = (
        f"{report.members_after:,} members; {pluralize(report.calls, 'call')}, {report.seconds:.1f} s{run}"
    )
    lines = [f"{report.audience}: {report.outcome}: {describe_changes(report)}; {counts}"]
    if report.read:
        lines.append(f"{report.audience}: {describe_rows(report)}")
    if report.outcome is RunOutcome.SENT:
        lines.append(
            f"{report.audience}: not waited for; "
            f"{command('wait', report.audience, '--state')} does, or a later run"
        )
    return lines


def describe_rows(report: SyncReport) -> str:
    """Say what became of a source's rows."""
    reasons = ", ".join(f"{reason} {rows:,}" for reason, rows in report.reasons.items())
    rejected = f"{report.rejected:,} rejected ({reasons})" if report.rejected else "none rejected"
    return (
        f"{pluralize(report.read, 'row')} of {report.source}: {report.kept:,} kept, "
        f"{report.duplicate:,} duplicate, {rejected}"
    )


def plan_fields(plan: Plan, report: SyncReport) -> list[tuple[str, str]]:
    """Return what a plan says, as pairs; the sample's ids are for whoever asked for a plan."""
    return [
        ("audience", plan.audience),
        ("mode", str(plan.mode)),
        ("rows", describe_rows(report)),
        ("members now", f"{plan.members_before:,}"),
        ("to add", _with_sample(plan.adds, plan.sample_adds)),
        ("to remove", _with_sample(plan.removes, plan.sample_removes)),
        ("attributes to change", f"{plan.attribute_changes:,}"),
        *([("to send again", f"{plan.resends:,}")] if plan.resends else []),
        *([("strays to remove", f"{plan.untracked_removals:,}")] if plan.untracked_removals else []),
        *([("refused before", f"{plan.refused_before:,}")] if plan.refused_before else []),
        ("unchanged", f"{plan.unchanged:,}"),
        ("members then", f"{plan.members_after:,}"),
        ("calls", f"{plan.calls:,}"),
        ("expected time", _expected(plan)),
        ("guard", _guard(plan.decision)),
    ]


def _guard(decision: GuardDecision) -> str:
    """Return what the guard decided, and the options that allow a plan that it refuses."""
    remedy = None if decision.allowed else Remedy(options=decision.options)
    return with_remedy(str(decision), remedy)


def _expected(plan: Plan) -> str:
    """Say how long it is expected to take, and what that rests on."""
    if plan.seconds is None:
        return "unknown: no rate given (--rate), and no run yet"
    text = str(dt.timedelta(seconds=round(plan.seconds)))
    return text if plan.basis is None else f"{text} ({_BASES[plan.basis]})"


def _with_sample(count: int, sample: Sequence[str]) -> str:
    """Write `1,234: a, b, c …`."""
    if not sample:
        return f"{count:,}"
    return f"{count:,}: {', '.join(sample)}{' …' if count > len(sample) else ''}"


def print_fields(output: Output, pairs: Sequence[tuple[str, str]]) -> None:
    """Print pairs: a table on a terminal, tab-separated lines elsewhere."""
    if not is_terminal(sys.stdout):
        for name, value in pairs:
            output.line(f"{name}\t{clean(value)}")
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, Text(clean(value), style=_style(name, value)))
    Console(file=sys.stdout, highlight=False).print(table)


def _style(name: str, value: str) -> str:
    """Return the colour of a fact: the guard's decision has one."""
    if name != "guard":
        return ""
    return "green" if value == str(GuardDecision()) else "bold red"
