"""The `runs`, `show` and `status` commands, which read the state and need no keys."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Self

import attrs
from cyclopts import Group, Parameter
from cyclopts.validators import Number

from ...models import check_name
from ...sync import (
    AudienceStatus,
    Run,
    Status,
    SyncEngine,
)
from ...sync.config import DRAFT, object_schema
from .._context import InjectedContext
from .._exit_codes import ExitCode
from ..output._command_hints import command, with_remedy
from ..output._sync_report import describe_changes, pluralize, print_fields
from ..output._tables import Column

__all__ = ["history_schema", "runs", "show", "status"]

_FORMAT: Final = 1
_MINUTE: Final = 60
# The outcome of a run that has none yet, or was killed.
_OPEN: Final = "open"

_RUNS = (
    Column("run", "run"),
    Column("audience", "audience"),
    Column("target", "target"),
    Column("started", "started (UTC)"),
    Column("outcome", "outcome"),
    Column("adds", "to add", spare=True),
    Column("removes", "to remove", spare=True),
    Column("applied", "applied", spare=True),
    Column("members_after", "members", spare=True),
    Column("took", "took", spare=True),
    Column("mode", "mode", spare=True),
    Column("calls", "calls", spare=True),
    Column("source", "source", spare=True),
    Column("who", "who", spare=True),
)
_STATUS = (
    Column("name", "audience"),
    Column("target", "target"),
    Column("members", "members"),
    Column("age", "last success"),
    Column("outcome", "outcome"),
    Column("open", "open IDs"),
    Column("last_run", "run", spare=True),
    Column("last_success", "last success (UTC)", spare=True),
)
_MOST = 1_000_000
_STATE = Group("State", sort_key=7)
_File = Annotated[Path | None, Parameter(name="--state", metavar="FILE", group=_STATE)]


def runs(
    name: str | None = None,
    /,
    *,
    limit: Annotated[int, Parameter(metavar="N", validator=Number(gte=1, lte=_MOST))] = 20,
    state: _File = None,
    context: InjectedContext,
) -> ExitCode:
    """List runs, newest first, with audience, start, outcome and source.

    Example: `aiobatch runs vip --limit 5`

    Args:
        name: The audience. Default: all.
        limit: Print at most this many runs.
        state: Use this state file. Default: one in your data directory.
    """
    if name is not None:
        check_name(name)
    found = asyncio.run(SyncEngine(state=state).runs(name, limit=limit))
    with context.output.rows(_RUNS) as add:
        for run in found.runs:
            add(_record(run) if context.options.json else _row(run, several=len(found.targets) > 1))
    of = "" if name is None else f" of audience {name!r}"
    if found.live:
        context.info("A run is in progress. Until it ends, only the latest runs can be listed.")
    elif not found.runs:
        context.info(f"No run{of} yet.")
    return ExitCode.DONE


def _has_several(status: Status) -> bool:
    """Return whether the audiences are in several targets."""
    return len({audience.target for audience in status.audiences}) > 1


def _record(run: Run) -> dict[str, Any]:
    """Return the JSON record of a run. docs/reference/history.schema.json is its schema."""
    return {"format": _FORMAT, **attrs.asdict(run)}


def _row(run: Run, *, several: bool) -> dict[str, Any]:
    """Return the row of a run. A single target is not named."""
    return {
        **attrs.asdict(run),
        "target": run.target if several else None,
        "outcome": run.outcome or _OPEN,
        "took": None if run.seconds is None else _took(run.seconds),
    }


def _took(seconds: float) -> str:
    """Format a duration as `1.6 s` or `1:02:03`."""
    return f"{seconds:.1f} s" if seconds < _MINUTE else str(dt.timedelta(seconds=round(seconds)))


def show(run: int, /, *, state: _File = None, context: InjectedContext) -> ExitCode:
    """Show the details of one run.

    Example: `aiobatch show 42 --json | jq .outcome`

    Args:
        run: The number of the run.
        state: Use this state file. Default: one in your data directory.
    """
    found = asyncio.run(SyncEngine(state=state).show(run))
    if context.options.json:
        context.output.json(_record(found))
    else:
        print_fields(context.output, [(name, text) for name, text in _run_fields(found) if text])
    return ExitCode.DONE


def _run_fields(run: Run) -> list[tuple[str, str]]:
    """Return the fields of a run. Fields without a value are empty."""
    return [
        ("run", str(run.run)),
        ("audience", run.audience),
        ("target", run.target),
        ("outcome", run.outcome or _OPEN),
        ("error", with_remedy(run.error or "", run.remedy)),
        ("settled", "yes" if run.settled else f"no, until the next run or {command('settle', run.audience)}"),
        ("mode", run.mode),
        ("source", f"{run.source}: {pluralize(run.staged, 'ID')}"),
        ("who", run.who),
        ("started", f"{run.started:%Y-%m-%d %H:%M:%S} UTC"),
        ("took", "" if run.seconds is None else _took(run.seconds)),
        ("changes" if run.whole else "changes planned", describe_changes(run)),
        ("applied", "" if run.applied is None else f"{run.applied:,} of {run.planned:,}"),
        ("refused by Batch", f"{run.refused:,}" if run.refused else ""),
        ("members before", f"{run.members_before:,}"),
        ("members after", "" if run.members_after is None else f"{run.members_after:,}"),
        ("calls", f"{run.planned_calls:,} planned" + ("" if run.calls is None else f", {run.calls:,} sent")),
        ("retries", pluralize(run.retries, "request") if run.retries else ""),
        (
            "roll back with",
            command("rollback", run.audience, "--to", str(run.run)) if run.changes_retained else "",
        ),
    ]


def status(*, state: _File = None, context: InjectedContext) -> ExitCode:
    """Show the status of each audience.

    Shows members, age of the last success, last outcome and open IDs. Works during a run too: the run
    refreshes the status every few seconds.

    Example: `aiobatch status --json | jq .age_seconds`

    Args:
        state: Use this state file. Default: one in your data directory.
    """
    found = asyncio.run(SyncEngine(state=state).status())
    now = dt.datetime.now(dt.UTC)
    several = _has_several(found)
    with context.output.rows(_STATUS, as_table=True) as add:
        for audience in found.audiences:
            record = StatusRecord.of(audience, now, live=found.live)
            add(record.values() if context.options.json else record.row(several=several))
    for line in _notes(found, now):
        context.info(line)
    return ExitCode.DONE


def _notes(found: Status, now: dt.datetime) -> Iterator[str]:
    """Yield messages about a state."""
    if not found.audiences:
        yield "No run yet."
    if found.live:
        age = _age((now - found.written).total_seconds())
        yield f"A run is in progress. This is its status of {age} ago."
        return
    several = _has_several(found)
    for one in found.audiences:
        if one.open_run is not None:
            name = f"{one.name} ({one.target})" if several else one.name
            yield (
                f"{name}: run {one.open_run} did not finish. The next run finishes it, or run "
                f"{command('settle', one.name)}."
            )


@attrs.frozen(kw_only=True)
class StatusRecord(AudienceStatus):
    """The status of an audience, as `status` prints it.

    Attributes:
        age_seconds: Seconds since its last success. None: there was none.
        live: Whether a run has the state open. The status is then what that run wrote last.
    """

    age_seconds: float | None
    live: bool

    @classmethod
    def of(cls, audience: AudienceStatus, now: dt.datetime, *, live: bool) -> Self:
        """Return the record of an audience at the time *now*."""
        success = audience.last_success
        age = None if success is None else (now - success).total_seconds()
        return cls(**attrs.asdict(audience), age_seconds=age, live=live)

    def values(self) -> dict[str, Any]:
        """Return the JSON record. docs/reference/history.schema.json is its schema."""
        return {"format": _FORMAT, **attrs.asdict(self)}

    def row(self, *, several: bool) -> dict[str, Any]:
        """Return the row of the table. A single target is not named."""
        return {
            **attrs.asdict(self),
            "target": self.target if several else None,
            "members": self.members if self.known else "unknown",
            "age": "never" if self.age_seconds is None else f"{_age(self.age_seconds)} ago",
            "outcome": self.outcome or _OPEN,
            "open": ", ".join(f"{ids:,} {at}" for at, ids in self.open_ids.items()) or None,
        }


def history_schema() -> dict[str, Any]:
    """Return the JSON Schema of the `--json` output of runs, show and status."""
    definitions = {
        "run": object_schema(Run, nullable=True),
        "audience": object_schema(StatusRecord, nullable=True),
    }
    for one in definitions.values():
        version = {"const": _FORMAT, "description": "The version of this schema."}
        one["properties"] = {"format": version, **one["properties"]}
        one["required"] = ["format", *one["required"]]
    return {
        "$schema": DRAFT,
        "title": "Each line that aiobatch runs, show (a run) and status (an audience) print with --json",
        "oneOf": [{"$ref": f"#/definitions/{name}"} for name in definitions],
        "definitions": definitions,
    }


def _age(seconds: float) -> str:
    """Format an age as `2 d 3 h`, `3 h 4 min`, `4 min` or `5 s`."""
    seconds = max(seconds, 0)  # the clock of another machine may be ahead
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"
